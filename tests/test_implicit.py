"""Implicit rules: solvers of every kind, in every direction and order, against closed forms."""

import numpy as np
import pytest

import diptych
from frameworks import DIFFERENTIATING, FRAMEWORKS, same
from implicit_problems import METHODS, ONE, ROOTS, THREE, TWO, X, root, root_by_cg, root_by_gmres

pytestmark = pytest.mark.usefixtures("fresh_compiler")

# Newton's square root: every order, every nesting.


@FRAMEWORKS
def test_value(fw):
    same(fw, root(fw.array(X)), np.sqrt(X))


@DIFFERENTIATING
@ROOTS
def test_both_directions(fw, root):
    x, v = fw.array(X), fw.array(np.array([1.0, -2.0, 0.5]))
    same(fw, fw.pull(root, [x], v)[0], ONE * fw.numpy(v), 1e-10)
    same(fw, fw.push(root, [x], [v]), ONE * fw.numpy(v), 1e-10)


@DIFFERENTIATING
def test_orders_two_and_three(fw):
    x = fw.array(2.0)
    grad = diptych.grad

    def forward(f):
        return diptych.jacobian(f, mode="forward")

    two, three = TWO[1], THREE[1]
    for nested in (grad(grad(root)), forward(grad(root)), grad(forward(root))):
        same(fw, nested(x), two, 1e-9)
    same(fw, forward(forward(root))(x), two, 1e-9)
    same(fw, grad(grad(grad(root)))(x), three, 1e-9)
    same(fw, forward(forward(grad(root)))(x), three, 1e-9)
    for other in (root_by_gmres, root_by_cg):
        same(fw, grad(grad(other))(x), two, 1e-9)


@DIFFERENTIATING
def test_jacobian_and_hessian(fw):
    x = fw.array(X)
    for mode in ("forward", "reverse"):
        same(fw, diptych.jacobian(root, mode=mode)(x), np.diag(ONE))
    total = lambda x: root(x).sum()  # noqa: E731
    same(fw, diptych.hessian(total)(x), np.diag(TWO))
    v = fw.array(np.array([1.0, 2.0, -1.0]))
    same(fw, diptych.hvp(total, (x,), (v,))[1], TWO * fw.numpy(v))


@DIFFERENTIATING
def test_vmap(fw):
    x = fw.array(X)
    same(fw, diptych.vmap(root)(x), np.sqrt(X))
    same(fw, diptych.vmap(diptych.grad(root))(x), ONE, 1e-9)
    same(fw, diptych.vmap(diptych.grad(diptych.grad(root)))(x), TWO, 1e-9)
    same(fw, diptych.grad(lambda x: diptych.vmap(root)(x).sum())(x), ONE, 1e-9)
    for other in (root_by_gmres, root_by_cg):
        same(fw, diptych.vmap(diptych.grad(other))(x), ONE, 1e-9)


@ROOTS
def test_jit(root):
    jax = pytest.importorskip("jax")
    x = jax.numpy.asarray(X[1])
    for f, want in (
        (root, np.sqrt(2.0)),
        (jax.grad(root), ONE[1]),
        (jax.jacfwd(jax.jacrev(root)), TWO[1]),
        (jax.vmap(jax.grad(root)), ONE),
    ):
        at = jax.numpy.asarray(X) if np.ndim(want) else x
        np.testing.assert_allclose(jax.jit(f)(at), want, rtol=1e-9)


@ROOTS
def test_compile(root):
    torch = pytest.importorskip("torch")
    func = torch.func
    x = torch.tensor(X[1])
    for f, want in (
        (root, np.sqrt(2.0)),
        (func.grad(root), ONE[1]),
        (func.jacfwd(func.jacrev(root)), TWO[1]),
        (torch.vmap(func.grad(root)), ONE),
    ):
        at = torch.from_numpy(X) if np.ndim(want) else x
        compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
        np.testing.assert_allclose(compiled(at), want, rtol=1e-9)


def test_compiled_backward():
    torch = pytest.importorskip("torch")
    x = torch.tensor(X, requires_grad=True)
    out = torch.compile(root, fullgraph=True, backend="aot_eager")(x)
    out.sum().backward()
    np.testing.assert_allclose(x.grad, ONE, rtol=1e-12)


def test_backward_and_double_backward():
    torch = pytest.importorskip("torch")
    x = torch.tensor(X, requires_grad=True)
    assert torch.autograd.gradcheck(root, x, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(root, x)


# Many unknowns in one: linear systems, fixed points, optima.


@diptych.implicit(lambda y, a, b: a @ y - b)
def solve(a, b):
    return diptych.namespace(a).linalg.solve(a, b[:, None])[:, 0]


A = np.array([[4.0, 1.0, 0.0], [-2.0, 5.0, 1.0], [0.5, 0.0, 3.0]])
B = np.array([1.0, 2.0, 3.0])


@DIFFERENTIATING
def test_linear_system(fw):
    a, b, bar = fw.array(A), fw.array(B), np.array([1.0, -1.0, 2.0])
    y, w = np.linalg.solve(A, B), np.linalg.solve(A.T, bar)
    a_bar, b_bar = fw.pull(solve, [a, b], fw.array(bar))
    same(fw, a_bar, -np.outer(w, y))
    same(fw, b_bar, w)
    a_dot = np.arange(9.0).reshape(3, 3)
    dot = fw.push(solve, [a, b], [fw.array(a_dot), fw.array(bar)])
    same(fw, dot, np.linalg.solve(A, bar - a_dot @ y))
    same(fw, diptych.jacobian(solve, 1)(a, b), np.linalg.inv(A))


@DIFFERENTIATING
def test_only_one_argument_is_wanted(fw):
    asked = []

    @diptych.rule
    def watched(a):
        return a * 1.0

    @watched.vjp
    def watched_vjp(res, out_bar):
        asked.append("a")
        return out_bar

    @diptych.implicit(lambda y, a, b: watched(a) @ y - b)
    def solve(a, b):
        return diptych.namespace(a).linalg.solve(a, b[:, None])[:, 0]

    a, b = fw.array(A), fw.array(B)
    diptych.grad(lambda b: solve(a, b).sum())(b)
    assert not asked
    diptych.grad(lambda a: solve(a, b).sum())(a)
    assert asked


def fixed_point(method):
    @diptych.implicit(lambda y, w, x: y - diptych.namespace(y).tanh(w @ y + x), method=method)
    def settle(w, x):
        xp = diptych.namespace(w)
        y = xp.zeros_like(x)
        for _ in range(60):
            y = xp.tanh(w @ y + x)
        return y

    return settle


@DIFFERENTIATING
@METHODS
def test_fixed_point_of_tanh(fw, method):
    settle = fixed_point(method)
    w_, x_ = 0.2 * A / 4, B / 4
    w, x = fw.array(w_), fw.array(x_)
    y = fw.numpy(settle(w, x))
    slope = 1 - y**2
    inner = np.eye(3) - slope[:, None] * w_
    jacobian = np.linalg.solve(inner, np.diag(slope))
    same(fw, diptych.jacobian(settle, 1)(w, x), jacobian, 1e-9)
    bar = np.array([1.0, 2.0, -1.0])
    w_bar, x_bar = fw.pull(settle, [w, x], fw.array(bar))
    same(fw, x_bar, jacobian.T @ bar, 1e-9)
    same(fw, w_bar, np.outer(jacobian.T @ bar, y), 1e-9)
    # The second order by central differences of the exact first order.
    total = lambda x: (settle(w, x) * fw.array(bar)).sum()  # noqa: E731
    found = fw.numpy(diptych.hessian(total)(x))
    step = 1e-5
    for i in range(3):
        shift = fw.array(step * np.eye(3)[i])
        above, below = (fw.numpy(diptych.grad(total)(at)) for at in (x + shift, x - shift))
        np.testing.assert_allclose(found[i], (above - below) / (2 * step), rtol=1e-6, atol=1e-9)


@DIFFERENTIATING
def test_ridge_regression(fw):
    """The optimum's derivative in the penalty is `-(X'X + c)^-1 y`."""
    rng = np.random.default_rng(0)
    data, target, penalty = rng.standard_normal((6, 4)), rng.standard_normal(6), 0.7

    def loss(y, data, target, penalty):
        return 0.5 * ((data @ y - target) ** 2).sum() + 0.5 * penalty * (y * y).sum()

    @diptych.implicit(diptych.grad(loss), host=True)
    def ridge(data, target, penalty):
        return np.linalg.solve(data.T @ data + penalty * np.eye(4), data.T @ target)

    gram = data.T @ data + penalty * np.eye(4)
    y = np.linalg.solve(gram, data.T @ target)
    arrays = fw.array(data), fw.array(target), fw.array(penalty)
    same(fw, ridge(*arrays), y)
    same(fw, diptych.jacobian(ridge, 2)(*arrays), -np.linalg.solve(gram, y), 1e-10)
    same(fw, diptych.jacobian(ridge, 1)(*arrays), np.linalg.solve(gram, data.T), 1e-10)
    second = diptych.jacobian(diptych.jacobian(ridge, 2), 2)(*arrays)
    same(fw, second, 2 * np.linalg.solve(gram, np.linalg.solve(gram, y)), 1e-9)


# Host solvers.


def quintic(y, x):
    return y**5 + y - x


@diptych.implicit(quintic, host=True, out=lambda x: x)
def quintic_root(x):
    from scipy.optimize import brentq

    return np.asarray(brentq(lambda y: quintic(y, x), -10.0, 10.0, xtol=1e-15))


def quintic_derivatives(x):
    from scipy.optimize import brentq

    y = brentq(lambda y: quintic(y, x), -10.0, 10.0, xtol=1e-15)
    slope = 5 * y**4 + 1
    return y, 1 / slope, -20 * y**3 / slope**3


@DIFFERENTIATING
def test_host_root(fw):
    pytest.importorskip("scipy")
    x = fw.array(3.0)
    y, one, two = quintic_derivatives(3.0)
    grad = diptych.grad
    same(fw, quintic_root(x), y)
    same(fw, grad(quintic_root)(x), one)
    same(fw, fw.push(quintic_root, [x], [x * 0 + 1]), one)
    same(fw, grad(grad(quintic_root))(x), two, 1e-10)
    same(fw, diptych.hessian(quintic_root)(x), two, 1e-10)
    xs = np.array([0.5, 1.0, 3.0])
    want = [quintic_derivatives(x)[1] for x in xs]
    same(fw, diptych.vmap(grad(quintic_root))(fw.array(xs)), want)
    same(fw, diptych.vmap(quintic_root)(fw.array(xs)), [quintic_derivatives(x)[0] for x in xs])


def test_host_root_under_jit():
    pytest.importorskip("scipy")
    jax = pytest.importorskip("jax")
    _, one, two = quintic_derivatives(3.0)
    x = jax.numpy.asarray(3.0)
    np.testing.assert_allclose(jax.jit(jax.grad(quintic_root))(x), one, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(jax.hessian(quintic_root))(x), two, rtol=1e-10)


def test_host_root_compiled():
    pytest.importorskip("scipy")
    torch = pytest.importorskip("torch")
    _, one, two = quintic_derivatives(3.0)
    x = torch.tensor(3.0, dtype=torch.float64)
    for f, want in ((torch.func.grad(quintic_root), one), (torch.func.hessian(quintic_root), two)):
        found = torch.compile(f, fullgraph=True, backend="aot_eager")(x)
        np.testing.assert_allclose(found, want, rtol=1e-10)


@DIFFERENTIATING
def test_host_root_near_zero_is_no_failure(fw):
    """A root of zero is found up to an absolute error, and the residual has no other scale."""
    pytest.importorskip("scipy")

    @diptych.implicit(lambda y, x: diptych.namespace(y).sin(y) * x, host=True)
    def zero(x):
        from scipy.optimize import brentq

        return np.asarray(brentq(lambda y: np.sin(y) * x, -1.0, 1.1, xtol=1e-9))

    for dtype in ("float32", "float64"):
        x = fw.array(2.0, dtype)
        assert abs(float(diptych.grad(zero)(x))) < 1e-6

"""Implicit rules: solvers of every kind, in every direction and order, against closed forms."""

import re
import sys
from typing import NamedTuple

import numpy as np
import pytest

import diptych
from diptych.errors import (
    ClosureError,
    ConvergenceError,
    KindError,
    SingularError,
    StructureError,
)
from frameworks import DIFFERENTIATING, FRAMEWORKS, same

METHODS = pytest.mark.parametrize("method", ["dense", "gmres"])


@pytest.fixture(autouse=True)
def fresh_compiler():
    """Every callable object that is compiled counts as a recompilation of one and the same code."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"]._dynamo.reset()


def newton(x, steps):
    y = x * 0 + 1.0
    for _ in range(steps):
        y = (y + x / y) / 2
    return y


def square(y, x):
    return y * y - x


@diptych.implicit(square)
def root(x):
    return newton(x, 8)


@diptych.implicit(square, method="gmres")
def root_by_gmres(x):
    return newton(x, 8)


@diptych.implicit(square, method="cg")
def root_by_cg(x):
    return newton(x, 8)


ROOTS = pytest.mark.parametrize("root", [root, root_by_gmres, root_by_cg], ids=lambda r: r.__name__)
X = np.array([0.5, 2.0, 3.0])
# The first, second and third derivative of the square root.
ONE, TWO, THREE = 0.5 * X**-0.5, -0.25 * X**-1.5, 0.375 * X**-2.5


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


# Large systems without a matrix.

N = 2000


def times(diagonal, y):
    xp = diptych.namespace(y)
    zero = xp.zeros_like(y[:1])
    return diagonal * y - xp.concat([y[1:], zero]) - 0.5 * xp.concat([zero, y[:-1]])


@diptych.implicit(lambda y, d, b: times(d, y) - b, host=True)
def tridiagonal(d, b):
    bands = np.stack([np.full(N, -1.0), d, np.full(N, -0.5)])
    return _banded(bands, b)


def _banded(bands, b):
    from scipy.linalg import solve_banded

    return solve_banded((1, 1), bands, b)


def _transposed(d, b):
    return _banded(np.stack([np.full(N, -0.5), d, np.full(N, -1.0)]), b)


@DIFFERENTIATING
def test_tridiagonal_system_of_2000(fw):
    pytest.importorskip("scipy")
    rng = np.random.default_rng(0)
    d_, b_, v_ = 3 + rng.random(N), rng.standard_normal(N), rng.standard_normal(N)
    d, b, v = fw.array(d_), fw.array(b_), fw.array(v_)
    y, w = fw.numpy(tridiagonal(d, b)), _transposed(d_, np.ones(N))
    bars = fw.pull(tridiagonal, [d, b])
    same(fw, bars[0], -w * y, 1e-8)
    same(fw, bars[1], w, 1e-8)
    # L = sum(y): H v = A^-T (v w) y + w A^-1 (v y).
    bands = np.stack([np.full(N, -1.0), d_, np.full(N, -0.5)])
    want = _transposed(d_, v_ * w) * y + w * _banded(bands, v_ * y)
    found = diptych.hvp(lambda d: tridiagonal(d, b).sum(), (d,), (v,))[1]
    np.testing.assert_allclose(fw.numpy(found), want, rtol=1e-8, atol=1e-10)


@DIFFERENTIATING
@pytest.mark.parametrize("size", [1e-30, 1e-200, 1e200, 0.0])
def test_tiny_and_huge_cotangents(fw, size):
    pytest.importorskip("scipy")
    d_, b_ = np.full(N, 3.0), np.ones(N)
    _, pullback = diptych.vjp(tridiagonal, fw.array(d_), fw.array(b_))
    bar = fw.numpy(pullback(fw.array(np.full(N, size)))[1])
    want = size * _transposed(d_, np.ones(N))
    np.testing.assert_allclose(bar, want, rtol=1e-8)


@DIFFERENTIATING
@METHODS
def test_tiny_cotangent_in_float32(fw, method):
    x = fw.array(X, "float32")
    rule = root if method == "dense" else root_by_gmres
    bar = fw.pull(rule, [x], fw.array(np.full(3, 1e-30), "float32"))[0]
    assert fw.dtype(bar) == "float32"
    np.testing.assert_allclose(fw.numpy(bar), 1e-30 * ONE, rtol=1e-4)


@DIFFERENTIATING
def test_gmres_where_the_residual_does_not_fall(fw):
    """A rotation: the first step of GCR leaves the residual as it was, and it would break down."""
    turn = np.kron(np.eye(10), np.array([[0.0, 1.0], [-1.0, 0.0]])) + 0.01 * np.eye(20)

    @diptych.implicit(lambda y, b: turned(y) - b, method="gmres")
    def back(b):
        xp = diptych.namespace(b)
        a, c = b[0::2], b[1::2]
        y = xp.stack([0.01 * a - c, a + 0.01 * c], axis=1) / (1 + 1e-4)
        return xp.reshape(y, (-1,))

    def turned(y):
        xp = diptych.namespace(y)
        pairs = xp.stack([0.01 * y[0::2] + y[1::2], 0.01 * y[1::2] - y[0::2]], axis=1)
        return xp.reshape(pairs, (-1,))

    bar = np.random.default_rng(0).standard_normal(20)
    found = fw.pull(back, [fw.array(np.arange(20.0) + 1)], fw.array(bar))[0]
    same(fw, found, np.linalg.solve(turn.T, bar), 1e-9)


# Structures, dtypes, ways to call.


class State(NamedTuple):
    position: object
    speeds: dict
    steps: object


@DIFFERENTIATING
@METHODS
def test_pytrees_and_integers(fw, method):
    """`position` solves p^2 = a; `speeds["v"]` solves v p = b; the count of steps is no unknown."""

    def residual(y, params, power):
        v = y.speeds["v"]
        return [v * y.position - params["b"], y.position**2 - params["a"] * power]

    @diptych.implicit(residual, method=method)
    def both(params, power):
        xp = diptych.namespace(params["a"])
        p = xp.sqrt(params["a"] * power)
        return State(p, {"v": params["b"] / p}, power * 0 + 7)

    params = {"a": fw.array(np.array([4.0, 9.0])), "b": fw.array(np.array([1.0, 2.0]))}
    power = fw.array(np.array([1, 1]))
    y = both(params, power)
    assert isinstance(y, State)
    assert fw.numpy(y.steps).tolist() == [7, 7]
    bars = diptych.grad(lambda params: both(params, power).speeds["v"].sum())(params)
    same(fw, bars["b"], [1 / 2, 1 / 3], 1e-9)
    same(fw, bars["a"], [-1 / 2 / 8, -2 / 2 / 27], 1e-9)
    dots = {"a": fw.array(np.ones(2)), "b": fw.array(np.zeros(2))}
    state_dot = fw.push(lambda params: both(params, power)[:2], [params], [dots])
    same(fw, state_dot[0], [1 / 4, 1 / 6], 1e-9)


@DIFFERENTIATING
@METHODS
def test_complex_numbers(fw, method):
    @diptych.implicit(square, method=method)
    def root(x):
        return diptych.namespace(x).sqrt(x)

    x_, bar = np.array([1 + 2j, -1 + 0.5j]), np.array([1 - 1j, 2 + 1j])
    slope = 0.5 / np.sqrt(x_)
    x = fw.array(x_)
    same(fw, fw.pull(root, [x], fw.array(bar))[0], np.conj(slope) * bar, 1e-9)
    same(fw, fw.push(root, [x], [fw.array(bar)]), slope * bar, 1e-9)


@DIFFERENTIATING
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_residual_that_is_not_holomorphic(fw):
    """`2 y + conj(y) = x`: y = (2 x - conj(x)) / 3, whose adjoint is itself."""

    def twisted(y, x):
        return 2 * y + diptych.namespace(y).conj(y) - x

    @diptych.implicit(twisted)
    def untwist(x):
        return (2 * x - diptych.namespace(x).conj(x)) / 3

    v = np.array([1 - 1j, 2 + 1j])
    x = fw.array(np.array([1 + 2j, -1 + 0.5j]))
    same(fw, fw.push(untwist, [x], [fw.array(v)]), (2 * v - v.conj()) / 3)
    same(fw, fw.pull(untwist, [x], fw.array(v))[0], (2 * v - v.conj()) / 3)


@DIFFERENTIATING
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dtypes_keep_and_raise_no_false_alarm(fw, dtype):
    x = fw.array(X, dtype)
    bar = fw.pull(root, [x])[0]
    assert fw.dtype(bar) == dtype
    np.testing.assert_allclose(fw.numpy(bar), ONE, rtol=1e-5 if dtype == "float32" else 2e-2)


@DIFFERENTIATING
def test_static_and_keyword_and_default_arguments(fw):
    @diptych.implicit(lambda y, x, kind, shift=1.0: y**kind - x - shift, static="kind")
    def root(x, kind, shift=1.0):
        return (x + shift) ** (1 / kind)

    x = fw.array(7.0)
    same(fw, diptych.grad(root)(x, 3), 1 / 12)
    same(fw, diptych.grad(lambda x: root(x, kind=2, shift=2.0))(x), 1 / 6)
    bars = diptych.grad(lambda x, s: root(x, 3, shift=s), (0, 1))(x, fw.array(1.0))
    same(fw, bars[1], 1 / 12)


@DIFFERENTIATING
def test_variadic_arguments(fw):
    @diptych.implicit(lambda y, *xs: y**3 - sum(xs))
    def root(*xs):
        return sum(xs) ** (1 / 3)

    bars = diptych.grad(root, (0, 1))(fw.array(3.0), fw.array(5.0))
    for bar in bars:
        same(fw, bar, 1 / 12)


@DIFFERENTIATING
def test_method_of_a_class(fw):
    class Rooter:
        def __init__(self, power):
            self.power = power

        @diptych.implicit(lambda y, self, x: y**self.power - x)
        def root(self, x):
            return x ** (1 / self.power)

    same(fw, diptych.grad(Rooter(3).root)(fw.array(8.0)), 1 / 12)
    same(fw, diptych.grad(diptych.grad(Rooter(3).root))(fw.array(8.0)), -2 / 9 * 8 ** (-5 / 3))


@DIFFERENTIATING
def test_residual_calls_a_rule(fw):
    """The rule's derivative is twice the true one, so that A and B show that it was used."""

    @diptych.rule
    def double(x):
        return x * x

    @double.vjp
    def double_vjp(res, out_bar):
        return 4 * res.x * out_bar

    @diptych.implicit(lambda y, x: double(y) - x)
    def root(x):
        return diptych.namespace(x).sqrt(x)

    same(fw, diptych.grad(root)(fw.array(4.0)), 1 / 8)
    same(fw, fw.push(root, [fw.array(4.0)], [fw.array(1.0)]), 1 / 8)


@DIFFERENTIATING
def test_sizes_zero_and_matrices(fw):
    assert fw.numpy(fw.pull(root, [fw.array(np.zeros(0))])[0]).shape == (0,)
    x = np.array([[1.0, 4.0], [9.0, 16.0]])
    same(fw, fw.pull(root, [fw.array(x)])[0], 0.5 * x**-0.5)


@DIFFERENTIATING
def test_badly_scaled_is_not_singular(fw):
    """Unknowns of 1e-12 and 1e12: scaling rows and columns keeps the condition number honest."""
    scale_ = np.array([1e12, 1.0, 1e-12])
    scale = fw.array(scale_)

    @diptych.implicit(lambda y, x: scale * (y * y - x))
    def root(x):
        return diptych.namespace(x).sqrt(x)

    x = fw.array(X * scale_)
    same(fw, fw.pull(root, [x])[0], 0.5 * (X * scale_) ** -0.5)


# What fails says so.


def raised(error, f, *args):
    with pytest.raises(error) as info:
        f(*args)
    return str(info.value)


@FRAMEWORKS
def test_solver_that_did_not_converge(fw):
    @diptych.implicit(square)
    def poor(x):
        return newton(x, 2)

    text = raised(ConvergenceError, poor, fw.array(X * 50))
    assert text.startswith("poor: the solver did not converge\n")
    assert "expected: a residual of at most 1.2e-04 of the size of its terms; got: " in text
    assert re.search(r"got: \d\.\de[-+]\d\d of it, a norm of \d\.\de[-+]\d\d\n", text)
    assert "mend: let the solver run longer, start it closer, or correct the residual" in text


@DIFFERENTIATING
def test_solver_that_did_not_converge_is_nan_where_values_are_hidden(fw):
    # Its A = 1 does not depend on y: the derivative must be NaN all the same.
    @diptych.implicit(lambda y, x: y - 3 * x)
    def wrong(x):
        return 2 * x

    x = fw.array(X)
    assert np.isnan(fw.numpy(diptych.vmap(wrong)(x))).all()
    assert np.isnan(fw.numpy(diptych.vmap(diptych.grad(wrong))(x))).all()
    assert np.isnan(fw.numpy(diptych.vmap(diptych.grad(diptych.grad(wrong)))(x))).all()
    raised(ConvergenceError, diptych.grad(wrong), fw.array(2.0))
    if fw.name == "jax":
        import jax

        assert np.isnan(jax.jit(wrong)(x)).all()
        assert np.isnan(jax.jit(jax.grad(wrong))(2.0))
    else:
        import torch

        compiled = torch.compile(wrong, fullgraph=True, backend="aot_eager")
        assert compiled(x).isnan().all()


@DIFFERENTIATING
def test_one_bad_example_of_a_batch_leaves_the_others(fw):
    @diptych.implicit(square)
    def poor(x):
        return newton(x, 4)

    found = fw.numpy(diptych.vmap(diptych.grad(poor))(fw.array(np.array([1.0, 1e4, 2.0]))))
    assert np.isnan(found).tolist() == [False, True, False]


@DIFFERENTIATING
def test_tolerance(fw):
    def root(tolerance):
        @diptych.implicit(square, tolerance=tolerance)
        def found(x):
            return newton(x, 3)

        return found

    x = fw.array(2.0)  # newton's third step is wrong by 2e-6
    diptych.grad(root("auto"))(x)
    raised(ConvergenceError, root(1e-8), x)
    wild = diptych.implicit(square, tolerance=None)(lambda x: x * 0 + 10)
    same(fw, diptych.grad(wild)(x), 1 / 20)


@DIFFERENTIATING
@METHODS
def test_singular_system(fw, method):
    """The second equation is the first: nothing determines y[0] - y[1]."""

    def residual(y, x):
        xp = diptych.namespace(y)
        total = y[0] + y[1] - x
        return xp.stack([total, x * total])

    @diptych.implicit(residual, method=method)
    def halves(x):
        return diptych.namespace(x).stack([x / 2, x / 2])

    x = fw.array(2.0)
    text = raised(SingularError, diptych.grad(lambda x: halves(x)[0]), x)
    assert text.startswith("derivative of halves: the linearised system is singular\n")
    assert "expected: an invertible d residual / dy, 2 x 2, at the solution; got: " in text
    assert "mend: the residual must determine y there: look for " in text
    if method == "dense":  # an iteration sees it only if the right-hand side is out of its reach
        raised(SingularError, diptych.jvp, halves, (x,), (x,))
    assert np.isnan(fw.numpy(diptych.vmap(diptych.grad(lambda x: halves(x)[0]))(fw.array(X)))).all()


@DIFFERENTIATING
def test_double_root_is_singular(fw):
    text = raised(SingularError, diptych.grad(double_root), fw.array(2.0))
    assert "got: a condition number of " in text


@diptych.implicit(lambda y, x: (y - x) ** 2, tolerance=None)
def double_root(x):
    return x * 1


def test_singular_under_jit_is_nan():
    jax = pytest.importorskip("jax")
    assert np.isnan(jax.jit(jax.grad(double_root))(2.0))


def test_singular_compiled_is_nan():
    torch = pytest.importorskip("torch")
    compiled = torch.compile(torch.func.grad(double_root), fullgraph=True, backend="aot_eager")
    assert compiled(torch.tensor(2.0)).isnan()


@DIFFERENTIATING
def test_iteration_that_does_not_converge(fw):
    """Conjugate gradients on a rotation, which is not positive definite."""

    def residual(y, x):
        xp = diptych.namespace(y)
        return xp.stack([y[1] - x[0], -y[0] - x[1]])

    @diptych.implicit(residual, method="cg")
    def turn(x):
        return diptych.namespace(x).stack([-x[1], x[0]])

    x = fw.array(np.array([1.0, 2.0]))
    text = raised(ConvergenceError, diptych.grad(lambda x: turn(x)[0]), x)
    assert text.startswith("derivative of turn: the linear solve by cg did not converge\n")
    assert "expected: a relative residual of at most 1.5e-08; got: " in text
    assert ", for 2 unknowns\n" in text
    assert 'mend: method="gmres", or method="dense" if a matrix of 2 x 2 fits' in text


@DIFFERENTIATING
def test_residual_of_another_size(fw):
    @diptych.implicit(lambda y, x: (y * y - x)[:2])
    def root(x):
        return diptych.namespace(x).sqrt(x)

    text = raised(StructureError, root, fw.array(X))
    assert text.startswith("residual of root\n")
    assert "expected: one floating-point equation for each of the 3 real unknowns of y" in text
    assert re.search(r"got: 2 in (torch\.)?float64\(2,\)\n", text)
    assert "mend: return arrays with as many elements as y" in text


def test_wrong_uses():
    text = raised(KindError, diptych.implicit, 3)
    assert (
        "expected: a function: residual(y, *args), zero at the solution; got: builtins.int" in text
    )
    with pytest.raises(ValueError, match=r"method must be one of auto, dense, .*, got 'lu'"):
        diptych.implicit(square, method="lu")
    with pytest.raises(ValueError, match=r"tolerance must be 'auto', None or a number"):
        diptych.implicit(square, tolerance="tight")


def test_residual_reads_a_tensor_that_requires_grad():
    torch = pytest.importorskip("torch")
    weight = torch.tensor(2.0, requires_grad=True)

    @diptych.implicit(lambda y, x: y - weight - x)
    def plus(x):
        return x + weight.detach()

    text = raised(ClosureError, plus, torch.tensor(1.0, requires_grad=True))
    assert "plus reads 'weight' from outside its arguments" in text


def test_residual_reads_a_traced_array():
    jax = pytest.importorskip("jax")

    def loss(weight):
        @diptych.implicit(lambda y, x: y - weight - x)
        def plus(x):
            return x + jax.lax.stop_gradient(weight)

        return plus(jax.numpy.asarray(1.0))

    text = raised(ClosureError, jax.grad(loss), 2.0)
    assert "plus reads 'weight', a traced array, from outside its arguments" in text


def test_a_rule_is_made():
    assert isinstance(root, diptych.Rule)
    assert root.__name__ == "root"
    assert repr(root) == "<diptych.rule root>"

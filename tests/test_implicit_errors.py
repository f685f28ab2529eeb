"""Implicit rules that fail say so, and how."""

import re

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
from implicit_problems import METHODS, X, newton, root, square

pytestmark = pytest.mark.usefixtures("fresh_compiler")


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
    assert "got: one that has no inverse at all\n" in text


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

"""Implicit rules of pytrees, of other dtypes, and called in every way."""

from typing import NamedTuple

import numpy as np
import pytest

import diptych
from frameworks import DIFFERENTIATING, same
from implicit_problems import METHODS, ONE, X, root, square

pytestmark = pytest.mark.usefixtures("fresh_compiler")


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

"""Jacobians, Hessians, Hessian-vector products and batches, the same test on both frameworks.

The rule's VJP is twice and its JVP three times the true derivative, so that it is seen which of
them a transform used; functions without a rule stand beside it.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest

import diptych
from frameworks import DIFFERENTIATING, same

A, B = np.array([0.5, 1.5, 2.5]), np.array([2.0, -1.0, 3.0])
W = np.array([[1.0, 2.0, -1.0], [0.5, -2.0, 3.0]])


@diptych.rule
def sine(x):
    return diptych.namespace(x).sin(x)


@sine.vjp
def sine_vjp(res, out_bar):
    return 2 * diptych.namespace(res.x).cos(res.x) * out_bar


@sine.jvp
def sine_jvp(res, x_dot):
    return 3 * diptych.namespace(res.x).cos(res.x) * x_dot


def plain_sine(x):
    return diptych.namespace(x).sin(x)


every_sine = pytest.mark.parametrize(
    ("f", "reverse", "forward"), [(sine, 2, 3), (plain_sine, 1, 1)], ids=["rule", "plain"]
)


def total(x):
    return diptych.namespace(x).sum(x)


class Pair(NamedTuple):
    u: Any
    v: Any


def on_trees(tree, z):
    return {"p": tree["a"] * tree["b"].u, "q": [z * tree["b"].v]}


def trees(fw):
    return {"a": fw.array(A), "b": Pair(fw.array(B), fw.array(2 * A))}, fw.array(3.0)


def energy(x, y, z=2.0):
    return total(x * x * y) * z


def affine(x):
    xp = diptych.namespace(x)
    return xp.stack([sum(float(w) * x[i] ** 2 for i, w in enumerate(row)) for row in W])


@DIFFERENTIATING
@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_jacobian(fw, mode):
    same(fw, diptych.jacobian(affine, mode=mode)(fw.array(A)), 2 * W * A)


@DIFFERENTIATING
@pytest.mark.parametrize(("mode", "scale"), [("forward", 3), ("reverse", 2)])
def test_jacobian_uses_the_direction_it_is_told(fw, mode, scale):
    got = diptych.jacobian(sine, mode=mode)(fw.array(A))
    same(fw, got, scale * np.diag(np.cos(A)))


@DIFFERENTIATING
def test_auto_mode_takes_the_smaller_side(fw):
    def wide(x):  # 3 numbers in, 1 out: one cotangent
        return total(sine(x))[None]

    def tall(x):  # 1 number in, 4 out: one tangent
        return sine(x) * diptych.namespace(x).ones(4, dtype=x.dtype)

    same(fw, diptych.jacobian(wide)(fw.array(A)), 2 * np.cos(A)[None])
    same(fw, diptych.jacobian(tall)(fw.array(A[:1])), np.full((4, 1), 3 * np.cos(A[0])))


@DIFFERENTIATING
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_jacobian_shapes(fw, mode):
    x = np.arange(6.0).reshape(2, 3)
    got = diptych.jacobian(lambda x: x.T[0] ** 2, mode=mode)(fw.array(x))
    want = np.zeros((2, 2, 3))
    want[0, 0, 0], want[1, 1, 0] = 2 * x[0, 0], 2 * x[1, 0]
    same(fw, got, want)
    scalar = diptych.jacobian(lambda x: x * x, mode=mode)(fw.array(3.0))
    same(fw, scalar, 6.0)


@DIFFERENTIATING
@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_jacobian_of_several_arguments_and_aux(fw, mode):
    def f(x, y, z):
        return x * y * z, "aux"

    rows, aux = diptych.jacobian(f, (0, 1), mode=mode, has_aux=True)(fw.array(A), fw.array(B), 2.0)
    assert aux == "aux"
    assert type(rows) is tuple
    same(fw, rows[0], 2 * np.diag(B))
    same(fw, rows[1], 2 * np.diag(A))


@DIFFERENTIATING
@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_jacobian_of_trees(fw, mode):
    got = diptych.jacobian(on_trees, mode=mode)(*trees(fw))
    assert type(got["p"]["b"]) is Pair
    same(fw, got["p"]["a"], np.diag(B))
    same(fw, got["p"]["b"].u, np.diag(A))
    same(fw, got["p"]["b"].v, np.zeros((3, 3)))
    same(fw, got["q"][0]["b"].v, 3 * np.eye(3))
    of_z = diptych.jacobian(on_trees, 1, mode=mode)(*trees(fw))
    same(fw, of_z["q"][0], 2 * A)


def test_unknown_mode():
    with pytest.raises(ValueError, match="mode must be 'auto', 'forward' or 'reverse', got 'both'"):
        diptych.jacobian(affine, mode="both")


@DIFFERENTIATING
@every_sine
def test_hessian(fw, f, reverse, forward):
    # Forward over reverse: the pull is what is differentiated.
    got = diptych.hessian(lambda x: total(f(x) * fw.array(B)))(fw.array(A))
    same(fw, got, -reverse * np.diag(np.sin(A) * B))


@DIFFERENTIATING
def test_hessian_of_several_arguments(fw):
    got = diptych.hessian(energy, (0, 1))(fw.array(A), fw.array(B))
    same(fw, got[0][0], 4 * np.diag(B))
    same(fw, got[0][1], 4 * np.diag(A))
    same(fw, got[1][0], 4 * np.diag(A))
    same(fw, got[1][1], np.zeros((3, 3)))


@DIFFERENTIATING
def test_hessian_of_a_tree(fw):
    def f(tree):
        return total(tree["a"] * tree["a"] * tree["b"])

    got = diptych.hessian(f)({"a": fw.array(A), "b": fw.array(B)})
    same(fw, got["a"]["a"], 2 * np.diag(B))
    same(fw, got["a"]["b"], 2 * np.diag(A))
    same(fw, got["b"]["b"], np.zeros((3, 3)))


@DIFFERENTIATING
def test_hvp(fw):
    bar, product = diptych.hvp(lambda x: total(sine(x)), (fw.array(A),), (fw.array(B),))
    same(fw, bar, 2 * np.cos(A))
    same(fw, product, -2 * np.sin(A) * B)
    arrays, dots = (fw.array(A), fw.array(B)), (fw.array(B), fw.array(A))
    bars, products = diptych.hvp(energy, arrays, dots)
    same(fw, bars[0], 4 * A * B)
    same(fw, bars[1], 2 * A * A)
    same(fw, products[0], 4 * B * B + 4 * A * A)
    same(fw, products[1], 4 * A * B)


# vmap.


@DIFFERENTIATING
def test_vmap(fw):
    def f(x, y):
        return total(sine(x)) * y

    x, y = np.stack([A, B]), np.array([2.0, 3.0])
    same(fw, diptych.vmap(f)(fw.array(x), fw.array(y)), np.sin(x).sum(1) * y)
    got = diptych.vmap(f, in_axes=(1, None))(fw.array(x.T), fw.array(2.0))
    same(fw, got, np.sin(x).sum(1) * 2)
    got = diptych.vmap(sine, in_axes=0, out_axes=1)(fw.array(x))
    same(fw, got, np.sin(x).T)
    nested = diptych.vmap(diptych.vmap(lambda a, b: a * b, (None, 0)), (0, None))
    same(fw, nested(fw.array(A), fw.array(B)), np.outer(A, B))


@DIFFERENTIATING
def test_vmap_with_derivatives(fw):
    x = np.stack([A, B])
    got = diptych.vmap(diptych.grad(lambda x: total(sine(x))))(fw.array(x))
    same(fw, got, 2 * np.cos(x))
    got = diptych.grad(lambda x: total(diptych.vmap(sine)(x)))(fw.array(x))
    same(fw, got, 2 * np.cos(x))
    _, dot = diptych.jvp(diptych.vmap(sine), (fw.array(x),), (fw.array(x),))
    same(fw, dot, 3 * np.cos(x) * x)
    got = diptych.vmap(diptych.hessian(lambda x: total(sine(x))))(fw.array(x))
    same(fw, got, np.stack([-2 * np.diag(np.sin(row)) for row in x]))
    trees = diptych.vmap(lambda t: {"s": t["a"] + t["b"]}, in_axes=({"a": 0, "b": None},))
    same(fw, trees({"a": fw.array(x), "b": fw.array(A)})["s"], x + A)

"""What transforms take and return: any pytree, what has no derivative, and mistakes."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.errors import KindError, StructureError
from frameworks import DIFFERENTIATING

A, B = np.array([1.0, 2.0]), np.array([3.0, 4.0])


@diptych.rule
def product(x, y):
    return x * y


@product.vjp
def product_vjp(res, bar):
    return 2 * bar * res.y, 2 * bar * res.x


@product.jvp
def product_jvp(res, x_dot, y_dot):
    return 3 * (x_dot * res.y + res.x * y_dot)


def total(x):
    return diptych.namespace(x).sum(x)


def new_class():
    """Returns a dataclass that no pytree library has ever met."""

    @dataclasses.dataclass
    class Pair:
        x: Any
        y: Any

    return Pair


def same(fw, found, expected):
    np.testing.assert_allclose(fw.numpy(found), expected)


@DIFFERENTIATING
def test_a_dataclass_that_was_never_met(fw):
    x, y = fw.array(A), fw.array(B)
    of_pair = lambda p: total(product(p.x, p.y))  # noqa: E731
    same(fw, diptych.grad(of_pair)(new_class()(x, y)).x, 2 * B)
    pair = new_class()(x, y)
    same(fw, diptych.jvp(of_pair, (pair,), (pair,))[1], 3 * 2 * np.sum(A * B))
    same(fw, diptych.hessian(of_pair)(new_class()(x, y)).x.y, 2 * np.eye(2))
    mapped = diptych.vmap(lambda p: product(p.x, p.y))
    same(fw, mapped(new_class()(x, y)), A * B)
    assert diptych.namespace(new_class()(x, y)) is diptych.namespace(x)


@DIFFERENTIATING
def test_a_dataclass_that_was_never_met_as_output(fw):
    x, y = fw.array(A), fw.array(B)
    kind = new_class()
    out, pullback = diptych.vjp(lambda a: kind(a, product(a, y)), x)
    same(fw, pullback(out)[0], A + 2 * A * B * B)
    kind = new_class()
    same(fw, diptych.jvp(lambda a: kind(a, product(a, y)), (x,), (x,))[1].y, 3 * A * B)
    kind = new_class()
    (_, aux), _ = diptych.value_and_grad(lambda a: (total(a), kind(a, "text")), has_aux=True)(x)
    same(fw, aux.x, A)  # and no tracer of what is over
    assert aux.y == "text"
    kind = new_class()
    rule = diptych.rule(lambda a: kind(a * 1.0, a * a))
    rule.vjp(lambda res, bar: 2 * bar.y * res.a)
    same(fw, diptych.grad(lambda a: total(rule(a).y))(x), 2 * A)


@DIFFERENTIATING
def test_what_has_no_derivative_has_none(fw):
    x, n = fw.array(A), fw.array(np.array([1, 2]))
    f = lambda a, k: total(product(a, a) * k)  # noqa: E731
    found = diptych.grad(f, (0, 1))(x, n)
    same(fw, found[0], 4 * A * [1, 2])
    assert found[1] is None
    assert diptych.grad(f, 1)(x, n) is None
    assert diptych.vjp(f, x, n)[1](1.0)[1] is None
    for n_dot in (None, n):
        same(fw, diptych.jvp(f, (x, n), (x, n_dot))[1], 6 * np.sum(A * A * [1, 2]))
    for mode in ("forward", "reverse"):
        blocks = diptych.jacobian(lambda a, k: product(a, a) * k, (0, 1), mode)(x, n)
        scale = 6 if mode == "forward" else 4
        same(fw, blocks[0], np.diag(scale * A * [1, 2]))
        assert blocks[1] is None
        same(fw, diptych.jacobian(lambda a: (product(a, a), n), mode=mode)(x)[1], np.zeros((2, 2)))
    out, out_dot = diptych.jvp(lambda a: (product(a, a), n, "text"), (x,), (x,))
    assert out[2] == "text"
    assert out_dot[1:] == (None, None)
    out, pullback = diptych.vjp(lambda a: (product(a, a), n), x)
    same(fw, pullback((x, None))[0], 4 * A * A)
    same(fw, pullback((None, n))[0], 0 * A)
    found = diptych.vjp(lambda a, text: total(a), x, "text")[1](1.0)
    same(fw, found[0], np.ones(2))
    assert found[1] is None


@DIFFERENTIATING
def test_none_numbers_and_numpy_arrays_as_vectors(fw):
    x, y = fw.array(A), fw.array(B)
    same(fw, diptych.jvp(product, (x, y), (x, None))[1], 3 * A * B)
    same(fw, diptych.jvp(product, (x, y), (np.ones(2), np.zeros(2)))[1], 3 * B)
    same(fw, diptych.vjp(product, x, y)[1](np.ones(2))[0], 2 * B)


@DIFFERENTIATING
def test_axes_of_pytrees(fw):
    x, y = fw.array(A), fw.array(B)
    of_dict = diptych.vmap(lambda p: product(p["x"], p["y"]), in_axes=({"x": 0, "y": None},))
    same(fw, of_dict({"x": x, "y": y}), np.outer(A, B))
    same(fw, diptych.vmap(product, in_axes=[0, None])(x, y), np.outer(A, B))
    same(fw, diptych.vmap(lambda a, b: product(a, b))(x, b=y), A * B)
    wide = fw.array(np.ones((2, 3)))
    out = diptych.vmap(lambda a: (product(a, a), {"k": a}, None), 1, (-1, {"k": 0}, 0))(wide)
    assert out[0].shape == (2, 3)
    assert out[1]["k"].shape == (3, 2)
    assert out[2] is None
    out = diptych.vmap(lambda a: (product(a, a), y), out_axes=(0, None))(x)
    assert out[1].shape == (2,)
    with pytest.raises(StructureError, match=r"vmap of product: in_axes[\s\S]*\(0, 0, 0\)"):
        diptych.vmap(product, in_axes=(0, 0, 0))(x, y)


@DIFFERENTIATING
def test_mistakes(fw):
    x, y = fw.array(A), fw.array(B)
    with pytest.raises(KindError, match=r"diptych.jvp: primals\n.*\n  mend: write \(x,\)"):
        diptych.jvp(product, x, x)
    with pytest.raises(KindError, match=r"diptych.hvp: primals"):
        diptych.hvp(lambda a: total(product(a, a)), x, x)
    for transform in (diptych.grad, diptych.jacobian, diptych.vmap, diptych.value_and_grad):
        with pytest.raises(KindError, match=r"expected: a function"):
            transform(x)
    for argnums in ((0, 0), (), "x"):
        with pytest.raises(StructureError, match=r"each once"):
            diptych.grad(lambda a, b: total(product(a, b)), argnums)(x, y)
    same(fw, diptych.grad(lambda a, b: total(product(a, b)), np.int64(1))(x, y), 2 * A)
    with pytest.raises(StructureError, match=r"with has_aux=True\n  expected: a pair"):
        diptych.grad(lambda a: total(a), has_aux=True)(x)
    for nothing in (lambda a: None, lambda a: 1.0):
        with pytest.raises(StructureError, match=r"one real floating-point scalar"):
            diptych.grad(nothing)(x)
    half = diptych.namespace(x).astype(x, diptych.namespace(x).float32)
    with pytest.raises(StructureError, match=r"tangent 0 does not fit[\s\S]*float64;.*float32"):
        diptych.jvp(product, (x, y), (half, y))
    with pytest.raises(StructureError, match=r"cotangent 0 does not fit[\s\S]*float64;.*float32"):
        diptych.vjp(product, x, y)[1](half)

"""Dataclasses that hold more than arrays: text, functions, enums, fields declared static."""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.errors import StaticArgumentError
from frameworks import DIFFERENTIATING, FRAMEWORKS, check, same

W = np.array([0.5, 1.5, 2.5])


class Mode(enum.Enum):
    DOUBLE = 2
    TRIPLE = 3


def twice(x):
    return 2 * x


def thrice(x):
    return 3 * x


@dataclasses.dataclass
class Layer:
    w: Any
    name: str = "twice"
    act: Callable = twice
    mode: Mode = Mode.DOUBLE
    bias: Any = None
    scale: float = 1.0
    options: list = dataclasses.field(default_factory=list, metadata={"static": True})


def dense_rule():
    @diptych.rule
    def dense(layer, x):
        assert isinstance(layer, Layer)
        assert layer.bias is None
        return layer.act(layer.w * x) * layer.mode.value * layer.scale * (1 + len(layer.options))

    @dense.vjp
    def dense_vjp(res, out_bar):
        layer = res.layer
        bar = 2 * layer.act(out_bar) * layer.mode.value * (1 + len(layer.options))
        return Layer(bar * res.x), bar * layer.w

    return dense


CASES = {
    "defaults": ({}, 4),
    "text": ({"name": "other"}, 4),
    "function": ({"act": thrice}, 6),
    "closure": ({"act": lambda x: 5 * x}, 10),
    "enum": ({"mode": Mode.TRIPLE}, 6),
    "unhashable": ({"options": [0, 1]}, 12),
}


@FRAMEWORKS
@pytest.mark.parametrize("case", CASES)
def test_what_is_no_array(fw, case):
    fields, factor = CASES[case]
    dense = dense_rule()
    call = lambda w, x: dense(Layer(w, **fields), x)  # noqa: E731
    for _ in range(3):  # JAX compiles at the second
        check(fw, call, [W, W], factor * W**2, [2 * factor * W] * 2)


@DIFFERENTIATING
def test_the_values_are_the_call_s_own(fw):
    dense = dense_rule()
    x = fw.array(W)
    for act, factor in ((twice, 4), (thrice, 6), (lambda x: 7 * x, 14), (lambda x: 8 * x, 16)) * 2:
        grad = diptych.grad(lambda p, act=act: dense(dataclasses.replace(p, act=act), x).sum())
        found = grad(Layer(x))
        assert type(found) is Layer
        same(fw, found.w, 2 * factor * W)


@DIFFERENTIATING
def test_a_derivative_with_tangents(fw):
    @diptych.rule
    def dense(layer):
        return layer.act(layer.w)

    @dense.jvp
    def dense_jvp(res, layer_dot):
        assert layer_dot.name == res.layer.name == "n"
        return 3 * res.layer.act(layer_dot.w)

    call = lambda w: dense(Layer(w, name="n"))  # noqa: E731
    same(fw, fw.push(call, [fw.array(W)], [fw.array(W)]), 6 * W)
    same(fw, fw.pull(call, [fw.array(W)])[0], 6 * np.ones(3))


@FRAMEWORKS
def test_among_outputs_and_residuals(fw):
    @diptych.rule
    def build(x):
        return Layer(2 * x, name="made", act=thrice)

    @build.fwd
    def build_fwd(x):
        return build._function(x), Layer(x, name="kept")

    @build.vjp
    def build_vjp(res, bars):
        assert res.name == "kept"
        return 4 * bars.w

    assert build(fw.array(W)).name == "made"
    check(fw, lambda x: build(x).w, [W], 2 * W, [4 * np.ones(3)])


@FRAMEWORKS
def test_what_may_hold_arrays_is_refused(fw):
    dense = dense_rule()
    with pytest.raises(StaticArgumentError, match=r"dense: argument 'layer.scale' is no array"):
        dense(Layer(fw.array(W), scale=object()), fw.array(W))


@pytest.mark.parametrize("hash", [True, False])
def test_under_jit(hash):
    jax = pytest.importorskip("jax")
    dense = dense_rule()
    options = () if hash else [0]

    def call(w):
        return dense(Layer(w, act=thrice, options=options), w)

    if hash:
        np.testing.assert_allclose(jax.jit(call)(W), 6 * W**2)
        np.testing.assert_allclose(jax.jit(jax.grad(lambda w: call(w).sum()))(W), 24 * W)
    else:
        with pytest.raises(StaticArgumentError, match="'options' under jit"):
            jax.jit(call)(W)


def test_a_function_that_reads_a_differentiated_tensor():
    torch = pytest.importorskip("torch")
    k = torch.ones((), dtype=torch.float64, requires_grad=True)
    dense, w = dense_rule(), torch.tensor(W)
    with pytest.raises(diptych.errors.ClosureError, match="reads 'k' from outside"):
        dense(Layer(w.requires_grad_(), act=lambda x: k * x), w)

"""Compiled rules: what goes in and comes out beside tensors in lists and dictionaries."""

import collections
import dataclasses
import enum
from collections.abc import Callable

import numpy as np
import pytest
import torch
from compiling import clean_dynamo, compiled
from torch.func import grad
from torch_witnesses import close, point

import diptych

__all__ = ["clean_dynamo"]

Pair = collections.namedtuple("Pair", "a b")


@dataclasses.dataclass(frozen=True)
class Both:
    a: torch.Tensor
    b: torch.Tensor | None = None


@diptych.rule
def scaled(x, factor=2.0):
    return factor * torch.sin(x)


@scaled.vjp
def scaled_vjp(res, out_bar):
    return 2 * res.factor * torch.cos(res.x) * out_bar, None


def test_numbers_that_change():
    value = compiled(lambda x, factor: scaled(x, factor))
    slope = compiled(lambda x, factor: grad(lambda x: scaled(x, factor=factor).sum())(x))
    for factor in (1.0, 2.5, 3.5, 2, 4, -1.0):
        close(value(point(), factor), factor * torch.sin(point()))
        close(slope(point(), factor), 2 * factor * torch.cos(point()))
        x = point().requires_grad_()
        close(torch.autograd.grad(value(x, factor).sum(), x)[0], slope(point(), factor))


@pytest.mark.parametrize("factor", [np.full(4, 3.0), np.float64(3.0)], ids=["array", "number"])
def test_numpy(factor):
    f = lambda x, factor: grad(lambda x: scaled(x, factor).sum())(x)  # noqa: E731
    close(compiled(f)(point(), factor), 6 * torch.cos(point()))
    close(compiled(lambda x: f(x, factor))(point()), 6 * torch.cos(point()))


@diptych.rule
def with_none(x, unused=None):
    return {"out": torch.sin(x), "more": (None, "text", 2, 0.5, x > 0.5)}


@with_none.vjp
def with_none_vjp(res, bars):
    return 2 * torch.cos(res.x) * bars["out"], None


def test_none_and_constants():
    out = compiled(lambda x: with_none(x, None))(point())
    assert out["more"][:4] == (None, "text", 2, 0.5)
    assert out["more"][4].dtype == torch.bool
    got = compiled(grad(lambda x: with_none(x)["out"].sum()))(point())
    close(got, 2 * torch.cos(point()))


@pytest.mark.parametrize("kind", [Pair, Both], ids=["named tuple", "dataclass"])
def test_named_parts(kind):
    @diptych.rule
    def product(pair):
        return kind(pair.a * pair.b, None)

    @product.vjp
    def product_vjp(res, bars):
        return kind(2 * res.pair.b * bars.a, 2 * res.pair.a * bars.a)

    x = point()
    close(compiled(grad(lambda x: product(kind(x, x)).a.sum()))(x), 4 * x)
    out = compiled(lambda pair: product(pair))(kind(x, x))
    assert type(out) is kind
    assert out.b is None
    close(out.a, x * x)


def test_the_first_call_of_a_method_may_be_compiled():
    class Wave:
        k = 3.0

        @diptych.rule
        def value(self, x):
            return torch.sin(self.k * x)

        @value.vjp
        def value_vjp(res, out_bar):  # noqa: N805
            k = res.self.k
            return 2 * k * torch.cos(k * res.x) * out_bar

    wave = Wave()
    got = compiled(grad(lambda x: wave.value(x).sum()))(point())
    close(got, 6 * torch.cos(3 * point()))


@diptych.rule
def wave(x):
    return torch.sin(x)


@wave.vjp
def wave_vjp(res, out_bar):
    return 2 * torch.cos(res.x) * out_bar


@pytest.mark.parametrize("compile", [True, False])
def test_in_a_branch(compile):
    f = lambda x: torch.cond(x.sum() > 0, wave, torch.clone, (x,))  # noqa: E731
    f = compiled(f) if compile else f
    for sign in (1, -1):
        x = (sign * point()).requires_grad_()
        (got,) = torch.autograd.grad(f(x).sum(), x)
        close(got, 2 * torch.cos(x.detach()) if sign > 0 else torch.ones_like(x))


class Tone:
    def __init__(self, k):
        self.k = k

    @diptych.rule
    def value(self, x):
        return torch.sin(self.k * x)

    @value.vjp
    def value_vjp(res, out_bar):  # noqa: N805
        return 2 * res.self.k * torch.cos(res.self.k * res.x) * out_bar


class Module(torch.nn.Module):
    def __init__(self, k):
        super().__init__()
        self.k = k

    value = Tone.value

    def forward(self, x):
        return self.value(x)


@pytest.mark.parametrize("kind", [Tone, Module], ids=["object", "module"])
def test_numbers_that_an_object_holds_may_change(kind):
    tone = kind(3.0)
    f = compiled(grad(lambda x: tone.value(x).sum()))
    for k in (3.0, 4.0, 5, 6, 2.5):
        tone.k = k
        close(f(point()), 2 * k * torch.cos(k * point()))


class Mode(enum.Enum):
    DOUBLE = 2
    TRIPLE = 3


@dataclasses.dataclass
class Layer:
    w: torch.Tensor
    name: str = "cos"
    act: Callable = torch.sin
    mode: Mode = Mode.DOUBLE
    options: tuple = dataclasses.field(default=(), metadata={"static": True})


@diptych.rule
def dense(layer, more=None):
    return layer.act(layer.w) * layer.mode.value


@dense.vjp
def dense_vjp(res, out_bar):
    slope = getattr(torch, res.layer.name)(res.layer.w)
    return Layer(2 * slope * res.layer.mode.value * out_bar * (1 + len(res.layer.options))), None


def own(x):
    return x.sin()


CASES = {
    "text": ({"name": "sin"}, lambda x: 4 * x.sin()),
    "enum": ({"mode": Mode.TRIPLE}, lambda x: 6 * x.cos()),
    "static": ({"options": (1, "text")}, lambda x: 12 * x.cos()),
    "function": ({"act": own}, lambda x: 4 * x.cos()),
}


@pytest.mark.parametrize("case", CASES)
def test_dataclasses_with_more_than_arrays(case):
    fields, expected = CASES[case]
    x = point()
    close(compiled(grad(lambda x: dense(Layer(x, **fields)).sum()))(x), expected(x))
    leaf = point().requires_grad_()
    layer = Layer(leaf, **fields)
    out = compiled(lambda layer: dense(layer).sum())(layer)
    close(torch.autograd.grad(out, leaf)[0], expected(x))

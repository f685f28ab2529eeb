"""Rules that call rules, and pytrees as arguments, differentiated twice in compiled code."""

import collections
import dataclasses

import pytest
import torch
from compiling import clean_dynamo, compiled

import diptych

__all__ = ["clean_dynamo"]

Pair = collections.namedtuple("Pair", ["x", "y"])


@dataclasses.dataclass
class Record:
    x: torch.Tensor
    y: torch.Tensor
    n: int = 2


def both(pair):
    """Returns a function of a pytree, as a rule whose VJP is a rule on that pytree."""

    @diptych.rule
    def product(p):
        return torch.sin(p.x) * p.y**2

    @diptych.rule
    def product_vjp(res, bar):
        return pair(bar * torch.cos(res.p.x) * res.p.y**2, bar * torch.sin(res.p.x) * 2 * res.p.y)

    @product_vjp.vjp
    def product_vjp_vjp(res, bars):
        p, bar = res.res.p, res.bar
        sin, cos = torch.sin(p.x), torch.cos(p.x)
        x = -bars.x * bar * sin * p.y**2 + bars.y * bar * cos * 2 * p.y
        y = bars.x * bar * cos * 2 * p.y + bars.y * bar * sin * 2
        bar_bar = bars.x * cos * p.y**2 + bars.y * sin * 2 * p.y
        return res.res._replace(p=pair(x, y), out=None), bar_bar

    product.vjp(lambda res, bar: product_vjp(res, bar))
    return product


def plain(p):
    return torch.sin(p.x) * p.y**2


@pytest.mark.parametrize("pair", [Pair, Record], ids=["named tuple", "dataclass"])
@pytest.mark.parametrize("wrap", [lambda f: f, compiled], ids=["eager", "compiled"])
def test_second_derivatives_of_pytrees(pair, wrap):
    rule = both(pair)
    x, y = torch.randn(2, 5, dtype=torch.float64)

    def twice(f):
        first = torch.func.grad(lambda x, y: f(pair(x, y)).sum(), argnums=(0, 1))
        squares = lambda x, y: sum((g * g).sum() for g in first(x, y))  # noqa: E731
        return torch.func.grad(squares, argnums=(0, 1))

    got, want = wrap(twice(rule))(x, y), twice(plain)(x, y)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("wrap", [lambda f: f, compiled], ids=["eager", "compiled"])
def test_residuals_handed_to_a_rule_in_a_program(wrap):
    rule = both(Pair)
    kind = collections.namedtuple("product_residuals", ["p", "out"])
    derivative = rule._statement.vjp

    def f(x, y):
        p = Pair(x, y)
        found = derivative(kind(p, plain(p)), torch.ones_like(x))
        return (found.x * found.y).sum()

    def g(x, y):
        return (torch.cos(x) * y**2 * torch.sin(x) * 2 * y).sum()

    x, y = torch.randn(2, 5, dtype=torch.float64)
    torch.testing.assert_close(
        wrap(torch.func.grad(f, argnums=(0, 1)))(x, y), torch.func.grad(g, argnums=(0, 1))(x, y)
    )

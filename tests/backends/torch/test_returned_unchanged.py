"""Rules whose directions return what they were given, as straight-through estimators do."""

import pytest
import torch
from compiling import clean_dynamo, compiled
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp

import diptych

__all__ = ["clean_dynamo"]


def straight_through(*stated):
    @diptych.rule
    def rounded(x, y):
        return torch.round(x), y

    if "jvp" in stated:
        rounded.jvp(lambda res, x_dot, y_dot: (x_dot, y_dot))
    if "vjp" in stated:
        rounded.vjp(lambda res, bars: (bars[0], bars[1]))
    return rounded


def shared(*stated):
    """Returns one cotangent for two arguments."""

    @diptych.rule
    def added(x, y):
        return torch.round(x) + torch.round(y)

    if "jvp" in stated:
        added.jvp(lambda res, x_dot, y_dot: x_dot + y_dot)
    if "vjp" in stated:
        added.vjp(lambda res, bar: (bar, bar))
    return added


def as_one(f):
    """Returns the first output times the second, or the sum, as one array."""

    def one(x, y):
        out = f(x, y)
        return out[0] * out[1] if isinstance(out, tuple) else out * out

    return one


MEANT = {
    straight_through: lambda x, y: (x + (torch.round(x) - x).detach(), y),
    shared: lambda x, y: x + (torch.round(x) - x).detach() + y + (torch.round(y) - y).detach(),
}
TRANSFORMS = {
    "grad": lambda f: grad(lambda x, y: f(x, y).sum(), argnums=(0, 1)),
    "vjp": lambda f: lambda x, y: vjp(f, x, y)[1](x),
    "jvp": lambda f: lambda x, y: jvp(f, (x, y), (y, x))[1],
    "jvp of jvp": lambda f: (
        lambda x, y: jvp(lambda x, y: jvp(f, (x, y), (y, x))[1], (x, y), (x, y))[1]
    ),
    "jacfwd": jacfwd,
    "jacrev": jacrev,
    "hessian": lambda f: hessian(lambda x, y: (f(x, y) ** 2).sum()),
    "vmap of jvp": lambda f: lambda x, y: torch.vmap(lambda x, y: jvp(f, (x, y), (y, x))[1])(x, y),
}


@pytest.mark.parametrize("transform", list(TRANSFORMS))
@pytest.mark.parametrize("stated", [("jvp",), ("vjp",), ("jvp", "vjp")], ids="+".join)
@pytest.mark.parametrize("make", [straight_through, shared])
def test_under_torch_func(make, stated, transform):
    x, y = torch.randn(2, 4, dtype=torch.float64)
    f, meant = as_one(make(*stated)), as_one(MEANT[make])
    got, want = TRANSFORMS[transform](f)(x, y), TRANSFORMS[transform](meant)(x, y)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("transform", ["grad", "jvp"])
@pytest.mark.parametrize("stated", [("jvp",), ("vjp",), ("jvp", "vjp")], ids="+".join)
def test_compiled(stated, transform):
    x, y = torch.randn(2, 4, dtype=torch.float64)
    f, meant = as_one(straight_through(*stated)), as_one(MEANT[straight_through])
    got = compiled(TRANSFORMS[transform](f))(x, y)
    torch.testing.assert_close(got, TRANSFORMS[transform](meant)(x, y))


@pytest.mark.parametrize("stated", [("jvp",), ("vjp",), ("jvp", "vjp")], ids="+".join)
@pytest.mark.parametrize("make", [straight_through, shared])
def test_under_autograd_twice(make, stated):
    x, y = torch.randn(2, 4, dtype=torch.float64)

    def second(f):
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        first = torch.autograd.grad((f(a, b) ** 2).sum(), (a, b), create_graph=True)
        return torch.autograd.grad(sum((g**2).sum() for g in first), (a, b))

    torch.testing.assert_close(second(as_one(make(*stated))), second(as_one(MEANT[make])))

"""A direction that is derived by transposing needs the stated one to be linear."""

import pytest
import torch
from torch.func import grad, jacfwd, jacrev, vmap
from torch_witnesses import close, point

import diptych
from diptych.errors import LinearityError

X = point()
NOT_LINEAR = {
    "sine": torch.sin,
    "clip": lambda v: v.clamp(-0.5, 0.5),
    "norm": lambda v: v / v.norm(),
    "relu": torch.relu,
    "constant added": lambda v: 2 * v + 1,
    "residual added": lambda v: 2 * v + X.sin(),
    "constant alone": lambda v: torch.ones_like(v),
    "chosen": lambda v: torch.where(v > 0, v, 2 * v),
}
LINEAR = {
    "zero added": lambda v: 0 + v * X + torch.zeros_like(v),
    "infinite": lambda v: v / (X > X[1]),
    "permuted": lambda v: v.flip(0).cumsum(0),
    "random": lambda v: v * torch.randn(4, dtype=v.dtype),
}


def rule_of(direction, function):
    rule = diptych.rule(lambda x: x * 1)
    getattr(rule, direction)(lambda res, v: function(v))
    return rule


def pulled(rule, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(rule(x).sum(), x)[0]


WAYS = {
    "jvp": [pulled, lambda rule, x: jacrev(rule)(x), lambda rule, x: vmap(jacrev(rule))(x[None])],
    "vjp": [lambda rule, x: jacfwd(rule)(x), lambda rule, x: vmap(jacfwd(rule))(x[None])],
}


@pytest.mark.parametrize("direction", ["jvp", "vjp"])
@pytest.mark.parametrize("name", NOT_LINEAR)
def test_refused_each_time(name, direction):
    rule = rule_of(direction, NOT_LINEAR[name])
    for way in WAYS[direction] * 2:
        with pytest.raises(
            LinearityError,
            match=rf"{direction} of <lambda> is not linear in its .*\n  expected: "
            "linear operations on the .*; got: for -2 times them other than -2 times the result",
        ):
            way(rule, X)


@pytest.mark.parametrize("direction", ["jvp", "vjp"])
@pytest.mark.parametrize("name", LINEAR)
def test_linear(name, direction):
    rule = rule_of(direction, LINEAR[name])
    torch.manual_seed(0)
    expected = LINEAR[name](torch.ones_like(X))
    ways = WAYS[direction]
    if name == "random":  # under vmap PyTorch refuses it
        ways = ways[:1] if direction == "jvp" else []
    for way in ways:
        torch.manual_seed(0)
        found = way(rule, X)
        if name == "zero added":
            close(found.reshape(-1, 4).sum(0), expected)


def test_looked_at_once():
    seen = []
    rule = rule_of("jvp", lambda v: (seen.append(1), 2 * v)[1])
    counts = []
    for _ in range(3):
        pulled(rule, X)
        counts.append(len(seen))
    assert counts[2] - counts[1] == 1


def test_random_numbers_are_left_as_they_were():
    torch.manual_seed(0)
    grad(lambda x: rule_of("jvp", lambda v: 2 * v)(x).sum())(X)
    after = torch.randn(3)
    torch.manual_seed(0)
    close(after, torch.randn(3))

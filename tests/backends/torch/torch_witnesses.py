"""Witness rules: their VJP returns 2x and their JVP 3x the true derivative.

A transform that looks through a rule returns 1x, and one that takes the wrong direction the wrong
multiple. Every rule here maps (..., 4) to (..., 3) or elementwise, and its reference `plain` is the
same function without a rule. Where a transform is linear in the function, what is expected of the
rule is `scale * transform(plain)`, the scale being that of the innermost transform's direction.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

import diptych

VJP_SCALE = 2.0
JVP_SCALE = 3.0


@dataclass(frozen=True)
class Witness:
    """A rule of one array, the same function without the rule, and what the rule multiplies by.

    Attributes:
        name: The kind of rule, shown in the test's id.
        rule: The rule under test.
        plain: The same function in plain PyTorch.
        reverse: Multiple of the true derivative that the rule's pull returns.
        forward: Multiple of the true derivative that the rule's push returns.
    """

    name: str
    rule: Callable
    plain: Callable
    reverse: float
    forward: float

    def scale(self, innermost: str) -> float:
        """Returns the multiple expected when the innermost transform goes `innermost`."""
        return {"reverse": self.reverse, "forward": self.forward}[innermost]


def point(*shape: int, seed: int = 0) -> torch.Tensor:
    """Returns a fixed float64 tensor with entries in [0.2, 1.2), far from every zero derivative."""
    generator = torch.Generator().manual_seed(seed)
    return 0.2 + torch.rand(*(shape or (4,)), generator=generator, dtype=torch.float64)


def weights(like: torch.Tensor) -> torch.Tensor:
    """Returns a fixed direction of the shape of `like`, no two entries alike."""
    line = torch.linspace(0.5, 1.5, max(like.numel(), 2), dtype=torch.float64)
    return line[: like.numel()].reshape(like.shape)


def weighted(f: Callable) -> Callable:
    """Returns the scalar function x -> <weights, f(x)>, linear in f, which it calls once."""

    def loss(x: torch.Tensor) -> torch.Tensor:
        out = f(x)
        return (weights(out) * out).sum()

    return loss


def directional(f: Callable) -> Callable:
    """Returns x -> J(x) weights, by torch.func.jvp."""
    return lambda x: torch.func.jvp(f, (x,), (weights(x),))[1]


def close(got: object, want: object) -> None:
    """Asserts equality to float64 rounding, and that there is something to compare."""
    leaves = torch.utils._pytree.tree_leaves(want)
    assert leaves
    assert all(leaf.abs().max() > 1e-3 for leaf in leaves), "the reference is zero: no witness"
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


def right_or_raises(call: Callable[[], object], want: object, match: str) -> None:
    """Asserts that `call` returns `want`, or raises with a message that matches `match`."""
    try:
        got = call()
    except Exception as error:
        if not re.search(match, f"{type(error).__name__}: {error}"):
            raise
    else:
        close(got, want)


def wave(x: torch.Tensor) -> torch.Tensor:
    """Returns sums of sines, (..., 4) -> (..., 3): its Jacobian is neither square nor symmetric."""
    return torch.cumsum(torch.sin(x), -1)[..., 1:]


def wave_push(x: torch.Tensor, x_dot: torch.Tensor) -> torch.Tensor:
    """Returns the true JVP of `wave`."""
    return torch.cumsum(torch.cos(x) * x_dot, -1)[..., 1:]


def wave_pull(x: torch.Tensor, out_bar: torch.Tensor) -> torch.Tensor:
    """Returns the true VJP of `wave`."""
    padded = torch.nn.functional.pad(out_bar, (1, 0))
    return torch.cos(x) * torch.flip(torch.cumsum(torch.flip(padded, (-1,)), -1), (-1,))


def chirp(x: torch.Tensor) -> torch.Tensor:
    """Returns `wave` of an exponential, the intermediate that rules below keep."""
    return wave(torch.exp(0.5 * x))


@diptych.rule
def vjp_only(x):
    return wave(x)


@vjp_only.vjp
def vjp_only_vjp(res, out_bar):
    return VJP_SCALE * wave_pull(res.x, out_bar)


@diptych.rule
def jvp_only(x):
    return wave(x)


@jvp_only.jvp
def jvp_only_jvp(res, x_dot):
    return JVP_SCALE * wave_push(res.x, x_dot)


@diptych.rule
def both(x):
    return wave(x)


@both.vjp
def both_vjp(res, out_bar):
    return VJP_SCALE * wave_pull(res.x, out_bar)


@both.jvp
def both_jvp(res, x_dot):
    return JVP_SCALE * wave_push(res.x, x_dot)


@diptych.rule
def partials(x):
    xp = diptych.namespace(x)
    return xp.sin(x)


@partials.partials
def partials_partials(res):
    xp = diptych.namespace(res.x)
    return VJP_SCALE * xp.cos(res.x)


@diptych.rule
def kept(x):
    return chirp(x)


@kept.fwd
def kept_fwd(x):
    # The one residual is neither an input nor an output: its own derivative counts from order 2 on.
    middle = torch.exp(0.5 * x)
    return wave(middle), {"middle": middle}


@kept.vjp
def kept_vjp(res, out_bar):
    return VJP_SCALE * 0.5 * res["middle"] * wave_pull(res["middle"], out_bar)


@diptych.rule
def kept_both(x):
    return chirp(x)


@kept_both.fwd
def kept_both_fwd(x):
    middle = torch.exp(0.5 * x)
    return wave(middle), (x, middle)


@kept_both.vjp
def kept_both_vjp(res, out_bar):
    x, middle = res
    return VJP_SCALE * 0.5 * torch.exp(0.5 * x) * wave_pull(middle, out_bar)


@kept_both.jvp
def kept_both_jvp(res, x_dot):
    x, middle = res
    return JVP_SCALE * wave_push(middle, 0.5 * torch.exp(0.5 * x) * x_dot)


# Read from outside by the rule below: what is not an argument must change nothing else.
HALF = torch.tensor(0.5, dtype=torch.float64)


@diptych.rule
def outside(x):
    return chirp(x)


@outside.fwd
def outside_fwd(x):
    middle = torch.exp(HALF * x)
    return wave(middle), (middle,)


@outside.vjp
def outside_vjp(res, out_bar):
    return VJP_SCALE * HALF * res[0] * wave_pull(res[0], out_bar)


WITNESSES = {
    witness.name: witness
    for witness in (
        Witness("vjp", vjp_only, wave, VJP_SCALE, VJP_SCALE),
        Witness("jvp", jvp_only, wave, JVP_SCALE, JVP_SCALE),
        Witness("both", both, wave, VJP_SCALE, JVP_SCALE),
        Witness("partials", partials, torch.sin, VJP_SCALE, VJP_SCALE),
        Witness("kept", kept, chirp, VJP_SCALE, VJP_SCALE),
        Witness("kept_both", kept_both, chirp, VJP_SCALE, JVP_SCALE),
        Witness("outside", outside, chirp, VJP_SCALE, VJP_SCALE),
    )
}

every_witness = pytest.mark.parametrize("witness", list(WITNESSES.values()), ids=list(WITNESSES))

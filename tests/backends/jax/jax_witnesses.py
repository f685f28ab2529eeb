"""Witness rules: their VJP returns 2x and their JVP 3x the true derivative.

A transform that looks through a rule returns 1x, and one that takes the wrong direction the wrong
multiple. Where a transform is linear in the function, what is expected of the rule is
`scale * transform(plain)`, the scale being that of the innermost transform's direction. Where a
rule is applied many times (in a scan, say), the reference is `hand(scale)`: a `jax.custom_jvp` that
JAX itself transposes.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diptych

VJP_SCALE = 2.0
JVP_SCALE = 3.0


@dataclass(frozen=True)
class Witness:
    """A rule of one array, the same function without the rule, and what the rule multiplies by.

    Attributes:
        name: The kind of rule, shown in the test's id.
        rule: The rule under test.
        plain: The same function in plain JAX.
        push: The true JVP of `plain`, `(x, x_dot) -> out_dot`.
        reverse: Multiple of the true derivative in reverse mode.
        forward: Multiple of the true derivative in forward mode.
    """

    name: str
    rule: Callable
    plain: Callable
    push: Callable
    reverse: float
    forward: float

    def scale(self, innermost: str) -> float:
        """Returns the multiple expected when the innermost transform goes `innermost`."""
        return {"reverse": self.reverse, "forward": self.forward}[innermost]

    def hand(self, innermost: str) -> Callable:
        """Returns a hand-written `jax.custom_jvp` that multiplies as the rule does."""
        scale = self.scale(innermost)
        by_hand = jax.custom_jvp(self.plain)

        @by_hand.defjvp
        def by_hand_jvp(primals, tangents):
            (x,), (x_dot,) = primals, tangents
            return by_hand(x), scale * self.push(x, x_dot)

        return by_hand


def point(*shape: int, seed: int = 0) -> jax.Array:
    """Returns fixed float64 entries in [0.2, 1.2), far from every zero derivative."""
    return jnp.asarray(0.2 + np.random.default_rng(seed).random(shape or (4,)))


def weights(like: jax.Array) -> jax.Array:
    """Returns a fixed direction of the shape of `like`, no two entries alike."""
    return jnp.linspace(0.5, 1.5, max(like.size, 2))[: like.size].reshape(like.shape)


def weighted(f: Callable) -> Callable:
    """Returns the scalar function x -> <weights, f(x)>, linear in f, which it calls once."""

    def loss(x):
        out = f(x)
        return jnp.sum(weights(out) * out)

    return loss


def pushed(f: Callable) -> Callable:
    """Returns x -> J(x) w, w fixed."""
    return lambda x: jax.jvp(f, (x,), (weights(x),))[1]


def pulled(f: Callable) -> Callable:
    """Returns x -> J*(x) w, w fixed."""

    def apply(x):
        out, pull = jax.vjp(f, x)
        return pull(weights(out))[0]

    return apply


def linearized(f: Callable) -> Callable:
    """Returns x -> J(x) w by `jax.linearize`."""
    return lambda x: jax.linearize(f, x)[1](weights(x))


def gradient(f: Callable) -> Callable:
    """Returns the gradient of <weights, f(x)>."""
    return jax.grad(weighted(f))


FORWARD = {"jvp": pushed, "jacfwd": jax.jacfwd, "linearize": linearized}
REVERSE = {"vjp": pulled, "jacrev": jax.jacrev, "grad": gradient}
TRANSFORMS = {**FORWARD, **REVERSE}


def mode(name: str) -> str:
    """Returns the direction in which the transform of this name goes."""
    return "forward" if name in FORWARD else "reverse"


def close(got: object, want: object) -> None:
    """Asserts the same structure, shapes, dtypes and values to rounding, and nonzero references."""
    leaves = jax.tree.leaves(want)
    assert leaves
    assert all(np.abs(leaf).max() > 1e-3 for leaf in leaves), "the reference is zero: no witness"
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(_leaf_close, got, want)


def _leaf_close(got, want):
    want = np.asarray(want)
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-11, atol=1e-11, strict=True)


def times(scale: float, tree: object) -> object:
    """Returns the tree with every leaf multiplied."""
    return jax.tree.map(lambda x: scale * x, tree)


def add(a: object, b: object) -> object:
    """Returns the sum of two trees."""
    return jax.tree.map(operator.add, a, b)


def wave(x):
    """Returns sums of sines, (..., 4) -> (..., 3): its Jacobian is neither square nor symmetric."""
    return jnp.cumsum(jnp.sin(x), -1)[..., 1:]


def wave_push(x, x_dot):
    """Returns the true JVP of `wave`."""
    return jnp.cumsum(jnp.cos(x) * x_dot, -1)[..., 1:]


def wave_pull(x, out_bar):
    """Returns the true VJP of `wave`."""
    padded = jnp.concatenate([jnp.zeros_like(out_bar[..., :1]), out_bar], -1)
    return jnp.cos(x) * jnp.flip(jnp.cumsum(jnp.flip(padded, -1), -1), -1)


def chirp(x):
    """Returns `wave` of an exponential, the intermediate that rules below keep."""
    return wave(jnp.exp(0.5 * x))


def chirp_push(x, x_dot):
    """Returns the true JVP of `chirp`."""
    middle = jnp.exp(0.5 * x)
    return wave_push(middle, 0.5 * middle * x_dot)


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
    return jnp.sin(x)


@partials.partials
def partials_partials(res):
    return VJP_SCALE * jnp.cos(res.x)


@diptych.rule
def kept(x):
    return chirp(x)


@kept.fwd
def kept_fwd(x):
    # The one residual is neither an input nor an output: its own derivative counts from order 2 on.
    middle = jnp.exp(0.5 * x)
    return wave(middle), {"middle": middle}


@kept.vjp
def kept_vjp(res, out_bar):
    return VJP_SCALE * 0.5 * res["middle"] * wave_pull(res["middle"], out_bar)


@diptych.rule
def kept_both(x):
    return chirp(x)


@kept_both.fwd
def kept_both_fwd(x):
    middle = jnp.exp(0.5 * x)
    return wave(middle), (x, middle)


@kept_both.vjp
def kept_both_vjp(res, out_bar):
    x, middle = res
    return VJP_SCALE * 0.5 * jnp.exp(0.5 * x) * wave_pull(middle, out_bar)


@kept_both.jvp
def kept_both_jvp(res, x_dot):
    x, middle = res
    return JVP_SCALE * wave_push(middle, 0.5 * jnp.exp(0.5 * x) * x_dot)


def sine_push(x, x_dot):
    """Returns the true JVP of the sine."""
    return jnp.cos(x) * x_dot


WITNESSES = {
    witness.name: witness
    for witness in (
        Witness("vjp", vjp_only, wave, wave_push, VJP_SCALE, VJP_SCALE),
        Witness("jvp", jvp_only, wave, wave_push, JVP_SCALE, JVP_SCALE),
        Witness("both", both, wave, wave_push, VJP_SCALE, JVP_SCALE),
        Witness("partials", partials, jnp.sin, sine_push, VJP_SCALE, VJP_SCALE),
        Witness("kept", kept, chirp, chirp_push, VJP_SCALE, VJP_SCALE),
        Witness("kept_both", kept_both, chirp, chirp_push, VJP_SCALE, JVP_SCALE),
    )
}

every_witness = pytest.mark.parametrize("witness", list(WITNESSES.values()), ids=list(WITNESSES))
one_direction = pytest.mark.parametrize(
    "witness", [WITNESSES[n] for n in ("vjp", "jvp", "kept")], ids=("vjp", "jvp", "kept")
)


# Square witnesses, for carries of loops: 4 numbers in, 4 numbers out.


def swirl(x):
    """Returns an elementwise sine mixed with its neighbour's cosine."""
    return jnp.sin(x) + 0.5 * jnp.cos(jnp.roll(x, 1, -1))


def swirl_push(x, x_dot):
    """Returns the true JVP of `swirl`."""
    return jnp.cos(x) * x_dot - 0.5 * jnp.roll(jnp.sin(x) * x_dot, 1, -1)


def swirl_pull(x, out_bar):
    """Returns the true VJP of `swirl`."""
    return jnp.cos(x) * out_bar - 0.5 * jnp.sin(x) * jnp.roll(out_bar, -1, -1)


@diptych.rule
def swirl_by_vjp(x):
    return swirl(x)


@swirl_by_vjp.vjp
def swirl_by_vjp_vjp(res, out_bar):
    return VJP_SCALE * swirl_pull(res.x, out_bar)


@diptych.rule
def swirl_by_jvp(x):
    return swirl(x)


@swirl_by_jvp.jvp
def swirl_by_jvp_jvp(res, x_dot):
    return JVP_SCALE * swirl_push(res.x, x_dot)


@diptych.rule
def swirl_by_both(x):
    return swirl(x)


@swirl_by_both.vjp
def swirl_by_both_vjp(res, out_bar):
    return VJP_SCALE * swirl_pull(res.x, out_bar)


@swirl_by_both.jvp
def swirl_by_both_jvp(res, x_dot):
    return JVP_SCALE * swirl_push(res.x, x_dot)


@diptych.rule
def swirl_kept(x):
    return swirl(x)


@swirl_kept.fwd
def swirl_kept_fwd(x):
    sine, cosine = jnp.sin(x), jnp.cos(x)
    return sine + 0.5 * jnp.roll(cosine, 1, -1), (sine, cosine)


@swirl_kept.vjp
def swirl_kept_vjp(res, out_bar):
    sine, cosine = res
    return VJP_SCALE * (cosine * out_bar - 0.5 * sine * jnp.roll(out_bar, -1, -1))


SQUARE = {
    witness.name: witness
    for witness in (
        Witness("vjp", swirl_by_vjp, swirl, swirl_push, VJP_SCALE, VJP_SCALE),
        Witness("jvp", swirl_by_jvp, swirl, swirl_push, JVP_SCALE, JVP_SCALE),
        Witness("both", swirl_by_both, swirl, swirl_push, VJP_SCALE, JVP_SCALE),
        Witness("kept", swirl_kept, swirl, swirl_push, VJP_SCALE, VJP_SCALE),
    )
}

every_square = pytest.mark.parametrize("witness", list(SQUARE.values()), ids=list(SQUARE))
square_one_direction = pytest.mark.parametrize(
    "witness", [SQUARE[n] for n in ("vjp", "jvp", "kept")], ids=("vjp", "jvp", "kept")
)

"""Witness rules under jit over a mesh of host devices, shardings in the types or beside them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jax_witnesses import (
    JVP_SCALE,
    VJP_SCALE,
    close,
    every_witness,
    point,
    pulled,
    pushed,
    weights,
)

import diptych

FOUR = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,))


@every_witness
def test_jit_over_a_mesh(witness):
    shards = NamedSharding(FOUR, P("i"))
    x = jax.device_put(point(8, 4), shards)
    for transform, scale in (
        (lambda f: f, 1),
        (pushed, witness.forward),
        (pulled, witness.reverse),
    ):
        got = jax.jit(transform(witness.rule), in_shardings=shards, out_shardings=shards)(x)
        close(got, scale * transform(witness.plain)(point(8, 4)))
        assert got.sharding.is_equivalent_to(shards, 2)


@every_witness
def test_sharding_propagates_through_a_rule(witness):
    # No output sharding is asked for: a rule must not gather what is cut over devices.
    shards = NamedSharding(FOUR, P("i"))
    x = jax.device_put(point(8, 4), shards)
    bar = jax.device_put(point(*witness.plain(x).shape, seed=1), shards)
    push = jax.jit(lambda x, dot: jax.jvp(witness.rule, (x,), (dot,))[1])
    pull = jax.jit(lambda x, bar: jax.vjp(witness.rule, x)[1](bar)[0])
    for out in (witness.rule(x), push(x, x), pull(x, bar)):
        assert out.sharding.is_equivalent_to(shards, 2)
    for text in (push.lower(x, x).compile().as_text(), pull.lower(x, bar).compile().as_text()):
        assert "all-gather" not in text
        assert "all-reduce" not in text


def test_constraint_inside_a_rule():
    pin = NamedSharding(FOUR, P("i"))

    @diptych.rule
    def pinned(x):
        return jax.lax.with_sharding_constraint(jnp.sin(x), pin)

    @pinned.vjp
    def pinned_vjp(res, out_bar):
        return VJP_SCALE * jax.lax.with_sharding_constraint(jnp.cos(res.x) * out_bar, pin)

    x = point(8)
    replicated = jax.device_put(x, NamedSharding(FOUR, P()))
    got = jax.jit(pulled(pinned))(replicated)
    close(got, VJP_SCALE * jnp.cos(x) * weights(x))
    assert got.sharding.is_equivalent_to(pin, 1)
    assert pinned(replicated).sharding.is_equivalent_to(pin, 1)


# Meshes whose axes are explicit (jax.make_mesh's default): shardings are part of the types.

EXPLICIT = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Explicit,))


@diptych.rule
def sine_by_vjp(x):
    return jnp.sin(x)


@sine_by_vjp.vjp
def sine_by_vjp_vjp(res, out_bar):
    return VJP_SCALE * jnp.cos(res.x) * out_bar


@diptych.rule
def sine_by_jvp(x):
    return jnp.sin(x)


@sine_by_jvp.jvp
def sine_by_jvp_jvp(res, x_dot):
    return JVP_SCALE * jnp.cos(res.x) * x_dot


@diptych.rule
def sine_by_both(x):
    return jnp.sin(x)


@sine_by_both.vjp
def sine_by_both_vjp(res, out_bar):
    return VJP_SCALE * jnp.cos(res.x) * out_bar


@sine_by_both.jvp
def sine_by_both_jvp(res, x_dot):
    return JVP_SCALE * jnp.cos(res.x) * x_dot


@diptych.rule
def sine_by_partials(x):
    return jnp.sin(x)


@sine_by_partials.partials
def sine_by_partials_partials(res):
    return VJP_SCALE * jnp.cos(res.x)


EXPLICIT_RULES = {
    "vjp": (sine_by_vjp, VJP_SCALE, VJP_SCALE),
    "jvp": (sine_by_jvp, JVP_SCALE, JVP_SCALE),
    "both": (sine_by_both, VJP_SCALE, JVP_SCALE),
    "partials": (sine_by_partials, VJP_SCALE, VJP_SCALE),
}


def push_itself(f):
    """Returns x -> J(x) x: the tangent has the sharding of x."""
    return lambda x: jax.jvp(f, (x,), (x,))[1]


def pull_output(f):
    """Returns x -> J*(x) f(x): the cotangent has the sharding of the output."""

    def apply(x):
        out, pull = jax.vjp(f, x)
        return pull(jax.lax.stop_gradient(out))[0]

    return apply


EXPLICIT_TRANSFORMS = {
    "value": (lambda f: f, None),
    "jvp": (push_itself, "forward"),
    "vjp": (pull_output, "reverse"),
    "jvp of vjp": (lambda f: push_itself(pull_output(f)), "reverse"),
    "vjp of vjp": (lambda f: pull_output(pull_output(f)), "reverse"),
    "vmap": (jax.vmap, None),
    "vmap of jvp": (lambda f: jax.vmap(push_itself(f)), "forward"),
    "vmap of vjp": (lambda f: jax.vmap(pull_output(f)), "reverse"),
    "vmap of grad": (lambda f: jax.vmap(jax.grad(lambda x: jnp.sum(f(x)))), "reverse"),
    "vjp of vmap": (lambda f: pull_output(jax.vmap(f)), "reverse"),
    "vmap along the others": (lambda f: jax.vmap(pull_output(f), 1, 1), "reverse"),
}


@pytest.mark.parametrize("name", list(EXPLICIT_TRANSFORMS))
@pytest.mark.parametrize("kind", ["vjp", "jvp", "both", "partials"])
def test_explicit_mesh(kind, name):
    rule, reverse, forward = EXPLICIT_RULES[kind]
    transform, direction = EXPLICIT_TRANSFORMS[name]
    scale = {None: 1, "reverse": reverse, "forward": forward}[direction]
    if name == "vjp of vjp":
        scale = reverse**2  # the inner pull gives what the outer one gets
    x = jax.device_put(point(8, 4), NamedSharding(EXPLICIT, P("i")))
    with jax.set_mesh(EXPLICIT):
        got, want = (jax.jit(transform(f))(x) for f in (rule, jnp.sin))
    close(np.asarray(got), scale * np.asarray(want))
    assert jax.typeof(got) == jax.typeof(want)

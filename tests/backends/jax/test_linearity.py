"""A direction that is derived by transposing needs the stated one to be linear."""

import jax
import jax.numpy as jnp
import pytest
from jax_witnesses import close, point

import diptych
from diptych.errors import LinearityError

X = point()
NOT_LINEAR = {
    "clip": lambda v: jnp.clip(v, -0.5, 0.5),
    "norm": lambda v: v / jnp.linalg.norm(v),
    "in a custom_jvp": jax.nn.relu,
    "in a checkpoint": lambda v: jax.checkpoint(jnp.sin)(v),
    "in a branch": lambda v: jax.lax.cond(X[0] > 0, jnp.sin, lambda v: v, v),
    "in a scan": lambda v: jax.lax.scan(lambda c, _: (jnp.sin(c), None), v, None, length=2)[0],
    "in the second step of a scan": lambda v: jax.lax.scan(
        lambda c, _: ((jnp.sin(c[1]), c[0]), None), (v, 0 * X), None, length=2
    )[0][1],
    "chosen": lambda v: jax.lax.cond(v[0] > 0, lambda v: v, lambda v: 2 * v, v),
}
LINEAR = {
    "branch": lambda v: jax.lax.cond(X[0] > 0, lambda v: 2 * v, lambda v: v, v),
    "scan": lambda v: jax.lax.scan(
        lambda c, x: ((2 * c[0], c[1] + 1), jnp.sin(c[1]) * x), (v, 0.0), X
    )[0][0],
    "checkpoint": lambda v: jax.checkpoint(lambda v: 2 * v * jnp.sin(X))(v),
}


def rule_of(direction, function):
    rule = diptych.rule(lambda x: x * 1)
    getattr(rule, direction)(lambda res, v: function(v))
    return rule


@pytest.mark.parametrize("direction", ["jvp", "vjp"])
@pytest.mark.parametrize("name", NOT_LINEAR)
def test_refused_each_time(name, direction):
    rule = rule_of(direction, NOT_LINEAR[name])
    derived = jax.jacrev if direction == "jvp" else jax.jacfwd
    for _ in range(2):
        with pytest.raises(LinearityError, match=f"{direction} of <lambda> is not linear in its"):
            derived(rule)(X)


@pytest.mark.parametrize("direction", ["jvp", "vjp"])
@pytest.mark.parametrize("name", LINEAR)
def test_linear_control_flow_is_transposed(name, direction):
    rule = rule_of(direction, LINEAR[name])
    for transform in (jax.jacfwd, jax.jacrev):
        close(transform(rule)(X), jax.jacfwd(LINEAR[name])(X))

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
    "constant added": lambda v: 2 * v + 1,
    "residual added": lambda v: 2 * v + jnp.sin(X),
    "residual taken off": lambda v: jnp.cos(X) - v,
    "constant in a branch": lambda v: jax.lax.cond(X[0] > 0, lambda v: v - 1, lambda v: v, v),
    "constant in a scan": lambda v: jax.lax.scan(lambda c, _: (c + 1, None), v, None, length=2)[0],
    "constant alone": lambda v: jnp.ones_like(v),
    "constant of some": lambda v: v.at[0].set(1.0),
    "chosen": lambda v: jax.lax.cond(v[0] > 0, lambda v: v, lambda v: 2 * v, v),
}
LINEAR = {
    "branch": lambda v: jax.lax.cond(X[0] > 0, lambda v: 2 * v, lambda v: v, v),
    "scan": lambda v: jax.lax.scan(
        lambda c, x: ((2 * c[0], c[1] + 1), jnp.sin(c[1]) * x), (v, 0.0), X
    )[0][0],
    "zero added": lambda v: 0 + v + jnp.zeros(v.shape) + 0 * X + (X - X),
    "of some": lambda v: jnp.zeros_like(v).at[1:].set(v[1:] * X[1:]),
    "chosen by residuals": lambda v: jnp.where(X > X.min(), v, 0),
    "masked": lambda v: v * jnp.where(X > X.min(), X, 0),
    "padded": lambda v: jnp.concatenate([jnp.zeros(1), 2 * v[1:]]),
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


@pytest.mark.parametrize("direction", ["jvp", "vjp"])
def test_what_is_added_under_jit(direction):
    derived = jax.jacrev if direction == "jvp" else jax.jacfwd
    for name in ("constant added", "constant alone"):
        with pytest.raises(LinearityError, match=r"got: a result other than zero where they are"):
            jax.jit(derived(rule_of(direction, NOT_LINEAR[name])))(X)
        with pytest.raises(LinearityError, match=r"got: a result other than zero where they are"):
            jax.vmap(derived(rule_of(direction, NOT_LINEAR[name])))(X[None])
    close(jax.jit(derived(rule_of(direction, lambda v: 0 + v * X)))(X), jnp.diag(X))


def test_infinite_residuals():
    rule = diptych.rule(lambda x: jnp.sqrt(x))
    rule.jvp(lambda res, v: v / (2 * jnp.sqrt(res.x)))
    close(jax.grad(lambda x: rule(x).sum())(jnp.array([0.0, 1.0])), jnp.array([jnp.inf, 0.5]))

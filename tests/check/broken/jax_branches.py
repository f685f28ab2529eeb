"""Functions that are off by little, and only in a branch that the example does not take."""

import jax
import jax.numpy as jnp
from corpus import broken, fixed, normal

_NEARLY = {"neighbours": True, "compile": False}
_WHERE = ("where", "other constants", "factor")


@broken("jvp", _WHERE, fixed([0.5, 1.0, 2.0]), "log1p(x)/x: a wrong coefficient", **_NEARLY)
@jax.custom_jvp
def jax_log1p_series(x):
    safe = jnp.where(x == 0, 1.0, x)
    return jnp.where(x == 0, 1.0, jnp.log1p(safe) / safe)


@jax_log1p_series.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    near = jnp.abs(x) < 1e-2
    safe = jnp.where(near, 1.0, x)
    series = -1 / 2 + x * (2 / 3 + x * (-7 / 9 + x * (4 / 5 - x * 5 / 6)))  # -3/4
    slope = jnp.where(near, series, (safe / (1 + safe) - jnp.log1p(safe)) / safe**2)
    return jax_log1p_series(x), slope * t


@broken("vjp", _WHERE, normal(3), "a normalised vector: a branch near zero", **_NEARLY)
@jax.custom_vjp
def jax_squash_near(w):
    return jnp.tanh(jnp.linalg.norm(w)) * w / jnp.linalg.norm(w)


def _squash_forward(w):
    return jax_squash_near(w), w


def _squash_backward(w, g):
    t = jnp.linalg.norm(w)
    near = t < 0.1
    safe = jnp.where(near, 1.0, t)
    ratio = jnp.where(near, 1 - t**2 / 3, jnp.tanh(safe) / safe)  # + 2 t^4 / 15
    formula = (safe / jnp.cosh(safe) ** 2 - jnp.tanh(safe)) / safe**3
    slope = jnp.where(near, -2 / 3 + 8 * t**2 / 15 - 34 * t**4 / 105, formula)
    return (ratio * g + slope * jnp.dot(w, g) * w,)


jax_squash_near.defvjp(_squash_forward, _squash_backward)

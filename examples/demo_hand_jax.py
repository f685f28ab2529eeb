"""The demo's functions written by hand for JAX: once with `custom_vjp`, once with `custom_jvp`.

The formulas are those of `demo_rules.py`.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import scipy.special

from demo_table import BESSEL_ORDER, ECCENTRICITY, solve_kepler


def stable_log1pexp(x):
    return jnp.where(x > 30, x, jnp.log1p(jnp.exp(x)))


def host(function, x):
    """Calls a NumPy function that works elementwise."""
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(function, shape, x, vmap_method="expand_dims")


def host_bessel(order, x):
    return host(lambda x: scipy.special.jv(order, x), x)


BARE = {
    "sin": jnp.sin,
    "log1pexp": stable_log1pexp,
    "sinh": jnp.sinh,
    "bessel": partial(host_bessel, BESSEL_ORDER),
    "kepler": partial(host, solve_kepler),
}


# With custom_vjp.


@jax.custom_vjp
def sin_slope_vjp(x, t):
    """3 cos(x) t, whose own derivative in x is stated as -5 sin(x) t."""
    return 3 * jnp.cos(x) * t


sin_slope_vjp.defvjp(
    lambda x, t: (sin_slope_vjp(x, t), (x, t)),
    lambda res, bar: (
        -5 * jnp.sin(res[0]) * res[1] * bar,
        3 * jnp.cos(res[0]) * bar,
    ),
)


@jax.custom_vjp
def sin_vjp(x):
    return jnp.sin(x)


sin_vjp.defvjp(lambda x: (sin_vjp(x), x), lambda x, bar: (sin_slope_vjp(x, bar),))


@jax.custom_vjp
def log1pexp_vjp(x):
    return stable_log1pexp(x)


log1pexp_vjp.defvjp(lambda x: (log1pexp_vjp(x), x), lambda x, bar: (bar * jax.nn.sigmoid(x),))


@jax.custom_vjp
def sinh_vjp(x):
    e = jnp.exp(x)
    return (e - 1 / e) / 2


def sinh_fwd(x):
    e = jnp.exp(x)
    return (e - 1 / e) / 2, e


sinh_vjp.defvjp(sinh_fwd, lambda e, bar: (bar * 3 * (e + 1 / e) / 2,))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def bessel_vjp(order, x):
    return host_bessel(order, x)


bessel_vjp.defvjp(
    lambda order, x: (bessel_vjp(order, x), x),
    lambda order, x, bar: (bar * (bessel_vjp(order - 1, x) - bessel_vjp(order + 1, x)) / 2,),
)


@jax.custom_vjp
def kepler_vjp(m):
    return host(solve_kepler, m)


def kepler_fwd(m):
    anomaly = kepler_vjp(m)
    return anomaly, anomaly


kepler_vjp.defvjp(kepler_fwd, lambda anomaly, bar: (bar / (1 - ECCENTRICITY * jnp.cos(anomaly)),))

CUSTOM_VJP = {
    "sin": sin_vjp,
    "log1pexp": log1pexp_vjp,
    "sinh": sinh_vjp,
    "bessel": partial(bessel_vjp, BESSEL_ORDER),
    "kepler": kepler_vjp,
}


# With custom_jvp.


@jax.custom_jvp
def sin_slope_jvp(x, t):
    return 3 * jnp.cos(x) * t


@sin_slope_jvp.defjvp
def _(primals, tangents):
    (x, t), (x_dot, t_dot) = primals, tangents
    return sin_slope_jvp(x, t), -5 * jnp.sin(x) * t * x_dot + 3 * jnp.cos(x) * t_dot


@jax.custom_jvp
def sin_jvp(x):
    return jnp.sin(x)


@sin_jvp.defjvp
def _(primals, tangents):
    (x,), (x_dot,) = primals, tangents
    return sin_jvp(x), sin_slope_jvp(x, x_dot)


@jax.custom_jvp
def log1pexp_jvp(x):
    return stable_log1pexp(x)


@log1pexp_jvp.defjvp
def _(primals, tangents):
    (x,), (x_dot,) = primals, tangents
    return log1pexp_jvp(x), x_dot * jax.nn.sigmoid(x)


@jax.custom_jvp
def sinh_jvp(x):
    e = jnp.exp(x)
    return (e - 1 / e) / 2


@sinh_jvp.defjvp
def _(primals, tangents):
    (x,), (x_dot,) = primals, tangents
    e = jnp.exp(x)
    return (e - 1 / e) / 2, x_dot * 3 * (e + 1 / e) / 2


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def bessel_jvp(order, x):
    return host_bessel(order, x)


@bessel_jvp.defjvp
def _(order, primals, tangents):
    (x,), (x_dot,) = primals, tangents
    slope = (bessel_jvp(order - 1, x) - bessel_jvp(order + 1, x)) / 2
    return bessel_jvp(order, x), x_dot * slope


@jax.custom_jvp
def kepler_jvp(m):
    return host(solve_kepler, m)


@kepler_jvp.defjvp
def _(primals, tangents):
    (m,), (m_dot,) = primals, tangents
    anomaly = kepler_jvp(m)
    return anomaly, m_dot / (1 - ECCENTRICITY * jnp.cos(anomaly))


CUSTOM_JVP = {
    "sin": sin_jvp,
    "log1pexp": log1pexp_jvp,
    "sinh": sinh_jvp,
    "bessel": partial(bessel_jvp, BESSEL_ORDER),
    "kepler": kepler_jvp,
}

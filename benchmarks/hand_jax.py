"""The rules of `cases.py` as people write them by hand for JAX: once for each direction."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp


def vjp_sin() -> Callable[..., Any]:
    """The sine by custom_vjp."""

    @jax.custom_vjp
    def sin(x):
        return jnp.sin(x)

    sin.defvjp(lambda x: (jnp.sin(x), x), lambda x, out_bar: (out_bar * jnp.cos(x),))
    return sin


def jvp_sin() -> Callable[..., Any]:
    """The sine by custom_jvp."""

    @jax.custom_jvp
    def sin(x):
        return jnp.sin(x)

    @sin.defjvp
    def sin_jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return jnp.sin(x), x_dot * jnp.cos(x)

    return sin


def tutorial_vjp_sin() -> Callable[..., Any]:
    """The sine by custom_vjp as JAX's tutorial writes it: its fwd calls the function itself.

    That is what makes second derivatives use the rule; the shorter form differentiates the body.
    """

    @jax.custom_vjp
    def sin(x):
        return jnp.sin(x)

    sin.defvjp(lambda x: (sin(x), x), lambda x, out_bar: (out_bar * jnp.cos(x),))
    return sin


def tutorial_jvp_sin() -> Callable[..., Any]:
    """The sine by custom_jvp as JAX's tutorial writes it: its JVP calls the function itself."""

    @jax.custom_jvp
    def sin(x):
        return jnp.sin(x)

    @sin.defjvp
    def sin_jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return sin(x), x_dot * jnp.cos(x)

    return sin


def vjp_xtanh() -> Callable[..., Any]:
    """The product x tanh(x) by custom_vjp, its tanh kept."""

    @jax.custom_vjp
    def xtanh(x):
        return x * jnp.tanh(x)

    def fwd(x):
        t = jnp.tanh(x)
        return x * t, (x, t)

    def bwd(res, out_bar):
        x, t = res
        return (out_bar * (t + x * (1 - t * t)),)

    xtanh.defvjp(fwd, bwd)
    return xtanh


def jvp_xtanh() -> Callable[..., Any]:
    """The product x tanh(x) by custom_jvp, its tanh used twice."""

    @jax.custom_jvp
    def xtanh(x):
        return x * jnp.tanh(x)

    @xtanh.defjvp
    def xtanh_jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        t = jnp.tanh(x)
        return x * t, x_dot * (t + x * (1 - t * t))

    return xtanh


def vjp_logistic() -> Callable[..., Any]:
    """The logistic function by custom_vjp, exp(-x) kept."""

    @jax.custom_vjp
    def logistic(x):
        return 1 / (1 + jnp.exp(-x))

    def fwd(x):
        e = jnp.exp(-x)
        return 1 / (1 + e), e

    logistic.defvjp(fwd, lambda e, out_bar: (out_bar * (e / ((1 + e) * (1 + e))),))
    return logistic


def jvp_logistic() -> Callable[..., Any]:
    """The logistic function by custom_jvp, exp(-x) used twice."""

    @jax.custom_jvp
    def logistic(x):
        return 1 / (1 + jnp.exp(-x))

    @logistic.defjvp
    def logistic_jvp(primals, tangents):
        (x,), (x_dot,) = primals, tangents
        e = jnp.exp(-x)
        return 1 / (1 + e), x_dot * (e / ((1 + e) * (1 + e)))

    return logistic


def vjp_mul() -> Callable[..., Any]:
    """The product x * y by custom_vjp."""

    @jax.custom_vjp
    def mul(x, y):
        return x * y

    mul.defvjp(
        lambda x, y: (x * y, (x, y)), lambda res, out_bar: (out_bar * res[1], out_bar * res[0])
    )
    return mul


def jvp_mul() -> Callable[..., Any]:
    """The product x * y by custom_jvp."""

    @jax.custom_jvp
    def mul(x, y):
        return x * y

    @mul.defjvp
    def mul_jvp(primals, tangents):
        (x, y), (x_dot, y_dot) = primals, tangents
        return x * y, x_dot * y + x * y_dot

    return mul


def vjp_pow() -> Callable[..., Any]:
    """The power x**n by custom_vjp, n not differentiated."""

    @partial(jax.custom_vjp, nondiff_argnums=(1,))
    def power(x, n):
        return x**n

    power.defvjp(lambda x, n: (x**n, x), lambda n, x, out_bar: (out_bar * (n * x ** (n - 1)),))
    return power


def jvp_pow() -> Callable[..., Any]:
    """The power x**n by custom_jvp, n not differentiated."""

    @partial(jax.custom_jvp, nondiff_argnums=(1,))
    def power(x, n):
        return x**n

    @power.defjvp
    def power_jvp(n, primals, tangents):
        (x,), (x_dot,) = primals, tangents
        return x**n, x_dot * (n * x ** (n - 1))

    return power


_SIN = (vjp_sin, jvp_sin)
HAND: dict[str, tuple[Callable[[], Callable[..., Any]], Callable[[], Callable[..., Any]]]] = {
    "VJP only": _SIN,
    "JVP and VJP": _SIN,
    "partials": _SIN,
    "fwd keeping x": _SIN,
    "fwd, an intermediate": (vjp_xtanh, jvp_xtanh),
    "fwd, it alone": (vjp_logistic, jvp_logistic),
    "two arguments": (vjp_mul, jvp_mul),
    "static argument": (vjp_pow, jvp_pow),
}


def vjp_many() -> Callable[..., Any]:
    """Twice each leaf of a list by custom_vjp."""

    @jax.custom_vjp
    def double(xs):
        return [2 * x for x in xs]

    double.defvjp(
        lambda xs: ([2 * x for x in xs], None), lambda _, bars: ([2 * bar for bar in bars],)
    )
    return double

"""Broken forward modes, second orders, batching, state and plain functions in JAX."""

import random

import jax
import jax.numpy as jnp
import numpy as np
from corpus import broken, fixed, normal, normals


@broken("jvp", "missing term", normals((4,), (4,)), "a custom_jvp that forgets one tangent")
@jax.custom_jvp
def jax_jvp_missing(x, y):
    return jnp.sin(x) * y


@jax_jvp_missing.defjvp
def _(primals, tangents):
    x, y = primals
    return jnp.sin(x) * y, tangents[0] * jnp.cos(x) * y


@broken("jvp", "factor", normal(4), "a custom_jvp off by a factor")
@jax.custom_jvp
def jax_jvp_factor(x):
    return x**3


@jax_jvp_factor.defjvp
def _(primals, tangents):
    return primals[0] ** 3, 2 * primals[0] ** 2 * tangents[0]


@broken(
    "jvp",
    ("where",),
    fixed([-2.0, -0.5, 0.5, 3.0]),
    "a custom_jvp with the wrong branch below zero",
)
@jax.custom_jvp
def jax_jvp_branch(x):
    return jnp.where(x > 0, x, jnp.expm1(x))


@jax_jvp_branch.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    return jax_jvp_branch(x), jnp.where(x > 0, t, t * jnp.expm1(x))


@broken("primal", "other value", normal(4), "a custom_jvp whose primal output is another one")
@jax.custom_jvp
def jax_jvp_other_value(x):
    return jnp.log1p(jnp.exp(x))


@jax_jvp_other_value.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    return jnp.maximum(x, 0), t * jax.nn.sigmoid(x)


@broken(
    "order",
    "detached",
    normal(4),
    "stop_gradient in a tangent (Equinox, distrax bijectors)",
    order=2,
)
@jax.custom_jvp
def jax_jvp_stopped(x):
    return jnp.sin(x)


@jax_jvp_stopped.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    return jnp.sin(x), t * jax.lax.stop_gradient(jnp.cos(x))


@broken("order", "detached", normal(4), "residuals behind stop_gradient", order=2)
@jax.custom_vjp
def jax_vjp_stopped(x):
    return x**3


jax_vjp_stopped.defvjp(
    lambda x: (x**3, jax.lax.stop_gradient(3 * x**2)), lambda d, g: (g * jax.lax.stop_gradient(d),)
)


@jax.custom_jvp
def _slope(x):
    return 3 * x**2


@_slope.defjvp
def _(primals, tangents):
    return _slope(primals[0]), 3 * primals[0] * tangents[0]


@broken(
    "order",
    ("factor", "stale residual"),
    normal(4),
    "a second derivative by hand, its 2 forgotten",
    order=2,
)
@jax.custom_jvp
def jax_second_factor(x):
    return x**3


@jax_second_factor.defjvp
def _(primals, tangents):
    return primals[0] ** 3, _slope(primals[0]) * tangents[0]


@broken("vmap", "not batched", normal(4), "custom_vmap that reduces over the batch as well")
@jax.custom_batching.custom_vmap
def jax_vmap_sums(x):
    return jnp.sum(x * x)


@jax_vmap_sums.def_vmap
def _(axis_size, in_batched, x):
    return jnp.broadcast_to(jnp.sum(x * x), (axis_size,)), True


@broken(
    "vmap", "not batched", normals((4,), (4,)), "custom_vmap that takes every argument as batched"
)
@jax.custom_batching.custom_vmap
def jax_vmap_assumes(x, y):
    return jnp.sum(x * y)


@jax_vmap_assumes.def_vmap
def _(axis_size, in_batched, x, y):
    if all(in_batched):
        return jnp.sum(x * y, -1), True
    return jnp.broadcast_to(jnp.sum(x * y), (axis_size,)), True


@broken(
    ("compile", "primal"),
    ("compiled differently", "other value"),
    normal(4),
    "isinstance(x, Tracer): another formula under jit",
    compile=True,
)
def jax_tracer_branch(x):
    return x - x**3 / 6 if isinstance(x, jax.core.Tracer) else jnp.sin(x)


_CALLS = [0]


@broken(
    ("purity", "compile", "primal"),
    ("state", "nondeterministic", "other value"),
    normal(4),
    "a Python counter, frozen by jit",
)
def jax_counter(x):
    _CALLS[0] += 1
    return x * (1 + 0.1 * _CALLS[0])


_NOISE = random.SystemRandom()


@broken(
    ("purity", "vjp"),
    ("nondeterministic", "state"),
    normal(4),
    "noise that no seed repeats",
)
def jax_noise(x):
    return jnp.sin(x) * _NOISE.gauss(0, 1)


@broken(("finite", "vjp"), "not finite", fixed([-1.0, 0.0, 2.0]), "the double-where trap (JAX FAQ)")
def jax_where_sqrt(x):
    return jnp.where(x > 0, x * jnp.sqrt(x), 0.0)


@broken(
    ("finite", "vjp"),
    "not finite",
    fixed([[0.0, 0.0], [3.0, 4.0]]),
    "jnp.linalg.norm at 0 (jax-ml/jax#3058)",
)
def jax_norm_at_zero(x):
    return jnp.sqrt(jnp.sum(x * x, -1)) ** 3


@broken(
    ("finite", "vjp"),
    "not finite",
    lambda rng: (np.diag([2.0, 2.0, 1.0]),),
    "eigh's eigenvectors at equal eigenvalues (jax-ml/jax#2748)",
)
def jax_power_by_eigh(a):
    w, v = jnp.linalg.eigh((a + a.T) / 2)
    return (v * w**2) @ v.T


@broken("vjp", ("missing term", "wrong"), normal(4), "stop_gradient on a factor that counts")
def jax_stopped_factor(x):
    return jnp.sin(x) * jax.lax.stop_gradient(jnp.exp(x))


@broken(
    "vjp",
    ("zero",),
    normal(4),
    "a round() without a straight-through estimator: the product rule loses its scale",
)
def jax_stopped_scale(x):
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(x)))
    return scale * jnp.ones(3) + 0.0 * x[0]

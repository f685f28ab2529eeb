"""Sound custom rules and plain functions of JAX that checkers trip over."""

import jax
import jax.numpy as jnp
import numpy as np
from corpus import complexes, fixed, normal, normals, positive, sound, spd


@sound(fixed([0.0, 1.0, -2.0]), "a kink at the example")
def jax_relu_at_zero(x):
    return jax.nn.relu(x)


@sound(fixed([1.0, 3.0, 3.0]), "max with ties: JAX shares the cotangent")
def jax_max_ties(x):
    return jnp.max(x)


@sound(
    normal(4),
    "the identity with a clipped gradient, declared",
    intentional="gradient clipping",
    skip=("linear",),
)
@jax.custom_vjp
def jax_clip_gradient(x):
    return x


jax_clip_gradient.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -1, 1),))


@sound(
    normal(4),
    "a straight-through estimator against its surrogate",
    reference=lambda x: jnp.clip(x, -1, 1),
)
@jax.custom_jvp
def jax_ste(x):
    return jnp.round(jnp.clip(x, -1, 1) * 4) / 4


@jax_ste.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    return jax_ste(x), jnp.where(jnp.abs(x) < 1, t, 0.0)


@sound(
    lambda rng: (rng.normal(size=(5, 3)), rng.integers(0, 5, size=4)),
    "an integer argument of a custom_vjp",
)
@jax.custom_vjp
def jax_lookup(table, index):
    return table[index]


jax_lookup.defvjp(
    lambda table, index: (table[index], (index, table.shape)),
    lambda res, g: (jnp.zeros(res[1], g.dtype).at[res[0]].add(g), None),
)


@sound(complexes((4,)), "complex and not holomorphic")
def jax_modulus_squared(z):
    return (z * jnp.conj(z)).real + z.imag


@sound(complexes((4,)), "a holomorphic custom_vjp, without a conjugate: right in JAX")
@jax.custom_vjp
def jax_complex_square(z):
    return z**2


jax_complex_square.defvjp(lambda z: (z**2, z), lambda z, g: (g * 2 * z,))


@sound(fixed([1e-30, -3e-30]), "arguments of size 1e-30")
def jax_tiny(x):
    return jnp.sinh(x)


@sound(positive(4), "defined for x > 0 alone")
@jax.custom_jvp
def jax_xlogx(x):
    return x * jnp.log(x)


@jax_xlogx.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    return jax_xlogx(x), t * (jnp.log(x) + 1)


@sound(spd(3), "defined for positive definite matrices alone")
def jax_logdet(a):
    return 2 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky((a + a.T) / 2))))


@sound(normal(5), "values looked at in Python: eager alone")
def jax_branches(x):
    return (
        jnp.sin(x)
        if float(jnp.sum(np.asarray(x) if not isinstance(x, jax.core.Tracer) else x)) > 0
        else jnp.cos(x)
    )


@sound(normal(4), "logsumexp by custom_jvp")
@jax.custom_jvp
def jax_logsumexp(x):
    top = jnp.max(x, -1, keepdims=True)
    return (jnp.log(jnp.sum(jnp.exp(x - top), -1, keepdims=True)) + top)[..., 0]


@jax_logsumexp.defjvp
def _(primals, tangents):
    (x,), (t,) = primals, tangents
    out = jax_logsumexp(x)
    return out, jnp.sum(jnp.exp(x - out[..., None]) * t, -1)


@sound(normal(3), "an output of integers beside one of reals")
def jax_sorted(x):
    return jnp.sort(x), jnp.argsort(x)


@sound(
    lambda rng: (rng.normal(size=4), np.array([0, 42], dtype=np.uint32)),
    "randomness from a key among the arguments",
)
def jax_sample(x, key):
    return x + jax.random.normal(key, x.shape) * jnp.exp(x)


@sound(positive(3), "a while loop with a tolerance, differentiated implicitly")
@jax.custom_vjp
def jax_newton_root(x):
    def unfinished(state):
        y, steps = state
        return (jnp.max(jnp.abs(y * y - x)) > 1e-8) & (steps < 50)

    def step(state):
        y, steps = state
        return (y + x / y) / 2, steps + 1

    return jax.lax.while_loop(unfinished, step, (jnp.ones_like(x), 0))[0]


jax_newton_root.defvjp(lambda x: (jax_newton_root(x),) * 2, lambda y, g: (g / (2 * y),))


@sound(normal(4), "rapid oscillation")
def jax_oscillating(x):
    return jnp.cos(1e4 * x)


@sound(normals((3, 3), (3,)), "a solve by custom_vjp")
@jax.custom_vjp
def jax_solve(a, b):
    return jnp.linalg.solve(a, b)


jax_solve.defvjp(
    lambda a, b: (jnp.linalg.solve(a, b), (a, jnp.linalg.solve(a, b))),
    lambda res, g: (
        -jnp.outer(jnp.linalg.solve(res[0].T, g), res[1]),
        jnp.linalg.solve(res[0].T, g),
    ),
)


@sound(normal(4), "a gradient that is exactly zero")
def jax_floor(x):
    return jnp.floor(x) + 1.0


@sound(normal(5), "an unrolled scan")
def jax_scan(x):
    return jax.lax.scan(lambda h, u: (jnp.tanh(h + u),) * 2, 0.0, x)[1]

"""Sound functions of JAX: all that is left is rounding, or JAX refuses to differentiate."""

import jax
import jax.numpy as jnp
from corpus import normal, positive, sound


def constant(make, f, name):
    """Declares a function whose derivative is zero but for rounding."""
    sound(make, "a derivative that is zero but for rounding", name=name)(f)


constant(normal(1, 6), jnp.corrcoef, "jax_corrcoef_row")
constant(normal(3, 1), lambda x: jax.nn.log_softmax(x, -1), "jax_log_softmax_alone")
constant(normal(4), lambda x: jnp.vdot(x, x) / jnp.linalg.norm(x) ** 2, "jax_cosine_of_itself")
constant(positive(4), lambda x: jnp.exp(jnp.log(x)) / x, "jax_exp_log")


@sound(lambda rng: rng.uniform(0.2, 0.8, (3, 2)), "JAX has no derivative in all arguments")
def jax_betainc(a, b, x):
    return jax.scipy.special.betainc(a, b, x)


@sound(normal(3, 2), "JAX has no derivative of all singular vectors")
def jax_full_svd(x):
    return jnp.linalg.svd(x)[0]

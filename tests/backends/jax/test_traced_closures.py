"""Arrays that a rule's functions reach past its arguments: they are named, or at least refused."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax_witnesses import close, point

import diptych
from diptych.errors import ClosureError, KindError

X = point()


@diptych.rule(static="g")
def apply(x, g):
    return g(x)


@apply.vjp
def apply_vjp(res, out_bar):
    return 2 * out_bar


class Times:
    def __init__(self, w):
        self.w = w

    def __call__(self, x):
        return x * self.w


STATIC = {
    "closure": (lambda w: lambda x: x * w, "'w', a traced array"),
    "partial": (lambda w: functools.partial(jnp.multiply, w), "functools.partial"),
    "object": (Times, "a traced array"),
}
TRANSFORMS = {
    "jit": lambda f: jax.jit(f)(X),
    "grad": lambda f: jax.grad(lambda w: f(w).sum())(X),
    "jvp": lambda f: jax.jvp(f, (X,), (X,)),
    "vmap": lambda f: jax.vmap(f)(jnp.stack([X, X])),
    "scan": lambda f: jax.lax.scan(lambda c, w: (c, f(w)), 0.0, jnp.stack([X, X])),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("kind", STATIC)
def test_static_function_that_reads_a_traced_array(kind, transform):
    make, text = STATIC[kind]
    for _ in range(2):
        with pytest.raises(ClosureError, match="outside its arguments") as caught:
            TRANSFORMS[transform](lambda w: apply(X, make(w)))
        assert text in str(caught.value)
        assert "pass it as an argument" in str(caught.value)
    close(apply(X, make(X)), X * X)


def test_function_among_the_residuals_that_hides_an_array():
    @diptych.rule
    def sine(x):
        return jnp.sin(x)

    @sine.fwd
    def sine_fwd(x):
        slope = jnp.cos(x)
        return jnp.sin(x), lambda out_bar: 2 * slope * out_bar

    sine.vjp(lambda pull, out_bar: pull(out_bar))
    with pytest.raises(KindError, match="reads 'slope', a traced array") as caught:
        jax.jit(jax.grad(sine))(1.0)
    assert "jax.tree_util.Partial" in str(caught.value)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_pullback_among_the_residuals(wrap):
    @diptych.rule
    def sine(x):
        return jnp.sin(x)

    sine.fwd(lambda x: jax.vjp(jnp.sin, x))
    sine.vjp(lambda pull, out_bar: 2 * pull(out_bar)[0])
    close(wrap(jax.vmap(jax.grad(sine)))(X), 2 * jnp.cos(X))
    close(wrap(jax.vmap(jax.jacfwd(sine)))(X), 2 * jnp.cos(X))
    close(wrap(jax.vmap(jax.hessian(sine)))(X), -2 * jnp.sin(X))

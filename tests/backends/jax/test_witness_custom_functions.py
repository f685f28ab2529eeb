"""Witness rules inside jax.custom_jvp and jax.custom_vjp, and those inside rules."""

import jax
import jax.numpy as jnp
import pytest
from jax_witnesses import (
    JVP_SCALE,
    VJP_SCALE,
    close,
    every_witness,
    gradient,
    one_direction,
    point,
    pulled,
    pushed,
    weights,
)

import diptych

# The rule in the primal: its derivative is not asked for, the custom function's is.


@every_witness
def test_in_the_primal_of_a_custom_jvp(witness):
    outer = jax.custom_jvp(witness.rule)
    x = point()
    shape = jax.eval_shape(witness.plain, x).shape

    def outer_jvp(primals, tangents):
        out = outer(*primals)
        return out, 7 * jnp.sum(tangents[0]) * jnp.ones(shape)

    outer.defjvp(outer_jvp)
    close(outer(x), witness.plain(x))
    close(jax.jit(pushed(outer))(x), 7 * jnp.sum(weights(x)) * jnp.ones(shape))
    close(pulled(outer)(x), 7 * jnp.sum(weights(jnp.ones(shape))) * jnp.ones(4))


@every_witness
def test_in_the_primal_and_fwd_of_a_custom_vjp(witness):
    outer = jax.custom_vjp(witness.rule)
    outer.defvjp(lambda x: (witness.rule(x), x), lambda x, bar: (jnp.sum(bar) * x,))
    x = point()
    close(outer(x), witness.plain(x))
    total = jnp.sum(weights(witness.plain(x)))
    close(pulled(outer)(x), total * x)
    close(jax.jit(jax.vmap(pulled(outer)))(point(2, 4)), total * point(2, 4))


# The rule's derivative in the custom function's rule: it is the rule's own, at higher orders too.


def jvp_through(f):
    outer = jax.custom_jvp(lambda x: jnp.cos(f(x)))

    @outer.defjvp
    def outer_jvp(primals, tangents):
        value, dot = jax.jvp(f, primals, tangents)
        return jnp.cos(value), -jnp.sin(value) * dot

    return outer


def vjp_through(f):
    outer = jax.custom_vjp(lambda x: jnp.cos(f(x)))

    def forward(x):
        value, pull = jax.vjp(f, x)
        return jnp.cos(value), (value, pull)

    def backward(res, bar):
        value, pull = res
        return pull(-jnp.sin(value) * bar)

    outer.defvjp(forward, backward)
    return outer


@every_witness
def test_in_the_rule_of_a_custom_jvp(witness):
    got = jvp_through(witness.rule)
    close(pushed(got)(point()), pushed(jvp_through(witness.hand("forward")))(point()))
    # In reverse JAX transposes the tangent that the rule pushed.
    close(pulled(got)(point()), pulled(jvp_through(witness.hand("reverse")))(point()))
    close(
        jax.jit(jax.vmap(pulled(got)))(point(3, 4)),
        jax.vmap(pulled(jvp_through(witness.hand("reverse"))))(point(3, 4)),
    )


@every_witness
def test_in_the_rule_of_a_custom_vjp(witness):
    got, want = vjp_through(witness.rule), vjp_through(witness.hand("reverse"))
    close(pulled(got)(point()), pulled(want)(point()))
    close(jax.jit(jax.vmap(pulled(got)))(point(3, 4)), jax.vmap(pulled(want))(point(3, 4)))


@one_direction
@pytest.mark.parametrize("outer", [pushed, pulled], ids=["jvp", "vjp"])
def test_second_derivative_through_a_custom_jvp(witness, outer):
    def twice(f):
        return jax.jit(outer(gradient(jvp_through(f))))

    close(twice(witness.rule)(point()), twice(witness.hand("reverse"))(point()))


@one_direction
def test_second_derivative_through_a_custom_vjp(witness):
    def twice(f):
        return jax.jit(pushed(gradient(vjp_through(f))))

    close(twice(witness.rule)(point()), twice(witness.hand("reverse"))(point()))


# Custom functions inside a rule: in its body they are never differentiated, in its derivative they
# are as they say.


def bent(scale):
    """Returns a sine whose JVP is `scale` times the true one."""
    sine = jax.custom_jvp(jnp.sin)
    sine.defjvp(
        lambda primals, tangents: (sine(*primals), scale * jnp.cos(primals[0]) * tangents[0])
    )
    return sine


def bent_in_reverse(scale):
    """Returns a sine whose VJP is `scale` times the true one, and which has no JVP."""
    sine = jax.custom_vjp(jnp.sin)
    sine.defvjp(lambda x: (sine(x), x), lambda x, bar: (scale * jnp.cos(x) * bar,))
    return sine


@pytest.mark.parametrize("make", [bent, bent_in_reverse])
def test_custom_function_in_the_body(make):
    sine = make(11.0)

    @diptych.rule
    def rule(x):
        return sine(x)

    @rule.vjp
    def rule_vjp(res, out_bar):
        return VJP_SCALE * jnp.cos(res.x) * out_bar

    x = point()
    want = VJP_SCALE * jnp.cos(x) * weights(x)
    close(rule(x), jnp.sin(x))
    close(pulled(rule)(x), want)
    close(pushed(rule)(x), want)
    close(jax.jit(jax.vmap(pushed(rule)))(x[None]), want[None])


def test_custom_function_in_the_derivative():
    sine = bent(5.0)

    @diptych.rule
    def integral(x):
        return -jnp.cos(x)

    @integral.jvp
    def integral_jvp(res, x_dot):
        return JVP_SCALE * sine(res.x) * x_dot

    x = point()
    ones = jnp.ones_like(x)
    second = jax.jvp(lambda x: jax.jvp(integral, (x,), (ones,))[1], (x,), (ones,))[1]
    close(second, JVP_SCALE * 5 * jnp.cos(x))
    backward = jax.grad(lambda x: jnp.sum(jax.grad(lambda x: jnp.sum(integral(x)))(x)))(x)
    close(backward, JVP_SCALE * 5 * jnp.cos(x))


def test_custom_vjp_in_what_fwd_keeps():
    # The residual's own derivative is asked for in reverse over reverse: the custom VJP serves it.
    sine = bent_in_reverse(5.0)

    @diptych.rule
    def square(x):
        return jnp.sin(x) ** 2

    @square.fwd
    def square_fwd(x):
        s = sine(x)
        return s**2, (s, x)

    @square.vjp
    def square_vjp(res, out_bar):
        s, x = res
        return VJP_SCALE * 2 * s * jnp.cos(x) * out_bar

    x = point()
    close(pulled(square)(x), VJP_SCALE * jnp.sin(2 * x) * weights(x))
    close(pushed(square)(x), VJP_SCALE * jnp.sin(2 * x) * weights(x))


@every_witness
def test_derivative_taken_in_the_body_of_another_rule(witness):
    @diptych.rule
    def slope(x):
        return gradient(witness.rule)(x)

    @slope.vjp
    def slope_vjp(res, out_bar):
        return VJP_SCALE * out_bar

    close(slope(point()), witness.reverse * gradient(witness.plain)(point()))
    close(pulled(slope)(point()), VJP_SCALE * weights(point()))

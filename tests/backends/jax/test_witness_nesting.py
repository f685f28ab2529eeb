"""Witness rules under JAX's derivatives: every one, every nesting of two and of three."""

import itertools

import jax
import jax.numpy as jnp
import pytest
from jax_witnesses import (
    JVP_SCALE,
    TRANSFORMS,
    VJP_SCALE,
    WITNESSES,
    close,
    every_witness,
    linearized,
    mode,
    point,
    pushed,
    weighted,
    weights,
)

import diptych


def differs_from_body(witness, transform):
    """Guards the reference: a rule that was dropped must not pass."""
    with pytest.raises(AssertionError):
        close(transform(witness.plain)(point()), transform(witness.rule)(point()))


@every_witness
@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_one_transform(witness, name):
    got = TRANSFORMS[name](witness.rule)(point())
    close(got, witness.scale(mode(name)) * TRANSFORMS[name](witness.plain)(point()))


FOUR = ("jvp", "vjp", "jacfwd", "jacrev")


@every_witness
@pytest.mark.parametrize("names", list(itertools.product(FOUR, FOUR)), ids="-of-".join)
def test_two_deep(witness, names):
    outer, inner = (TRANSFORMS[name] for name in names)
    got = jax.jit(outer(inner(witness.rule)))(point())
    close(got, witness.scale(mode(names[1])) * jax.jit(outer(inner(witness.plain)))(point()))


@every_witness
@pytest.mark.parametrize(
    "names", list(itertools.product(("jvp", "vjp"), repeat=2)), ids="-of-".join
)
def test_two_deep_eager(witness, names):
    outer, inner = (TRANSFORMS[name] for name in names)
    got = outer(inner(witness.rule))(point())
    close(got, witness.scale(mode(names[1])) * outer(inner(witness.plain))(point()))


@every_witness
@pytest.mark.parametrize(
    "names", list(itertools.product(("jvp", "vjp"), repeat=3)), ids="-of-".join
)
def test_three_deep(witness, names):
    outer, middle, inner = (TRANSFORMS[name] for name in names)
    got = jax.jit(outer(middle(inner(witness.rule))))(point())
    want = jax.jit(outer(middle(inner(witness.plain))))(point())
    close(got, witness.scale(mode(names[2])) * want)


@pytest.mark.parametrize("name", ["both", "kept"])
@pytest.mark.parametrize(
    "names", list(itertools.product(("jacfwd", "jacrev"), repeat=3)), ids="-of-".join
)
def test_three_deep_with_batching(name, names):
    witness = WITNESSES[name]
    outer, middle, inner = (TRANSFORMS[name] for name in names)
    got = jax.jit(outer(middle(inner(witness.rule))))(point())
    want = jax.jit(outer(middle(inner(witness.plain))))(point())
    close(got, witness.scale(mode(names[2])) * want)


@pytest.mark.parametrize("name", ["vjp", "jvp", "kept_both"])
@pytest.mark.parametrize(
    "names",
    [
        ("linearize", "linearize", "linearize"),
        ("grad", "grad", "grad"),
        ("linearize", "vjp", "jacfwd"),
        ("jacrev", "grad", "jvp"),
    ],
    ids="-of-".join,
)
def test_three_deep_mixed(name, names):
    witness = WITNESSES[name]
    outer, middle, inner = (TRANSFORMS[name] for name in names)
    got = outer(middle(inner(witness.rule)))(point())
    want = jax.jit(outer(middle(inner(witness.plain))))(point())
    close(got, witness.scale(mode(names[2])) * want)


@every_witness
def test_hessian(witness):
    got = jax.hessian(weighted(witness.rule))(point())
    close(got, witness.reverse * jax.hessian(weighted(witness.plain))(point()))
    differs_from_body(witness, lambda f: jax.hessian(weighted(f)))


@every_witness
def test_value_and_grad(witness):
    loss = weighted(witness.rule)
    value, bar = jax.value_and_grad(loss)(point())
    close(value, weighted(witness.plain)(point()))
    close(bar, witness.reverse * jax.grad(weighted(witness.plain))(point()))
    with_aux = jax.value_and_grad(lambda x: (loss(x), witness.rule(x)), has_aux=True)
    (value, aux), bar = with_aux(point())
    close(value, weighted(witness.plain)(point()))
    close(aux, witness.plain(point()))
    close(bar, witness.reverse * jax.grad(weighted(witness.plain))(point()))


@every_witness
def test_primal_values_under_transforms(witness):
    x = point()
    want = witness.plain(x)
    close(witness.rule(x), want)
    close(jax.jvp(witness.rule, (x,), (weights(x),))[0], want)
    close(jax.linearize(witness.rule, x)[0], want)
    close(jax.vjp(witness.rule, x)[0], want)
    close(jax.jit(lambda x: jax.vjp(witness.rule, x)[0])(x), want)


@every_witness
def test_one_pullback_serves_many_cotangents(witness):
    out, pull = jax.vjp(witness.rule, point())
    for seed in (1, 2):
        bar = point(*out.shape, seed=seed)
        close(pull(bar)[0], witness.reverse * jax.vjp(witness.plain, point())[1](bar)[0])


@every_witness
def test_one_linearized_map_serves_many_tangents(witness):
    _, push = jax.linearize(witness.rule, point())
    for seed in (1, 2):
        dot = point(seed=seed)
        close(push(dot), witness.forward * jax.jvp(witness.plain, (point(),), (dot,))[1])


# The linear map itself: transposed it is the other direction, twice transposed it is itself again.


@every_witness
def test_transpose_of_the_linearized_map_is_the_pull(witness):
    x = point()
    out, push = jax.linearize(witness.rule, x)
    (got,) = jax.linear_transpose(push, x)(weights(out))
    close(got, witness.reverse * jax.vjp(witness.plain, x)[1](weights(out))[0])


@every_witness
def test_transpose_of_the_pull_is_the_push(witness):
    x = point()
    out, pull = jax.vjp(witness.rule, x)
    (got,) = jax.linear_transpose(lambda bar: pull(bar)[0], out)(weights(x))
    close(got, witness.forward * pushed(witness.plain)(x))


@every_witness
def test_derivatives_with_respect_to_vectors(witness):
    x, dot = point(), point(seed=3)

    def push(dot):
        return jax.jvp(witness.rule, (x,), (dot,))[1]

    def true_push(dot):
        return jax.jvp(witness.plain, (x,), (dot,))[1]

    close(jax.jacfwd(push)(dot), witness.forward * jax.jacfwd(true_push)(dot))
    close(jax.jacrev(push)(dot), witness.reverse * jax.jacrev(true_push)(dot))

    out, pull = jax.vjp(witness.rule, x)
    true_pull = jax.vjp(witness.plain, x)[1]
    bar = weights(out)
    close(jax.jacfwd(pull)(bar), (witness.reverse * jax.jacfwd(true_pull)(bar)[0],))
    close(jax.jacrev(pull)(bar), (witness.forward * jax.jacrev(true_pull)(bar)[0],))


@every_witness
def test_linearize_of_the_gradient(witness):
    got = linearized(jax.grad(weighted(witness.rule)))(point())
    close(got, witness.reverse * linearized(jax.grad(weighted(witness.plain)))(point()))


@every_witness
def test_closed_over_outer_variable(witness):
    # The outer variable reaches the inner transform only through the closure.
    def through(f):
        return jax.grad(lambda a: jnp.sum(jax.grad(lambda x: weighted(f)(a * x))(point())))(1.1)

    close(through(witness.rule), witness.reverse * through(witness.plain))


# A composition: the directions meet in one derivative, each used where it belongs.


@diptych.rule
def sine(x):
    return jnp.sin(x)


@sine.vjp
def sine_vjp(res, out_bar):
    return VJP_SCALE * jnp.cos(res.x) * out_bar


@sine.jvp
def sine_jvp(res, x_dot):
    return JVP_SCALE * jnp.cos(res.x) * x_dot


def composed(x):
    return sine(x**3)


FIRST = jnp.cos(point() ** 3) * 6 * point()  # f' u'', where u = x**3
SECOND = -jnp.sin(point() ** 3) * 9 * point() ** 4  # f'' u'**2


@pytest.mark.parametrize(
    ("names", "of_tangent", "of_residuals"),
    [
        # jvp of jvp: the tangent moves forward through the same map.
        (("jvp", "jvp"), JVP_SCALE, JVP_SCALE),
        # vjp of jvp: the map that carried the tangent is transposed, its code is differentiated.
        (("vjp", "jvp"), VJP_SCALE, JVP_SCALE),
        (("jvp", "vjp"), VJP_SCALE, VJP_SCALE),
        (("vjp", "vjp"), VJP_SCALE, VJP_SCALE),
    ],
)
def test_each_direction_in_its_place(names, of_tangent, of_residuals):
    outer, inner = (
        {
            "jvp": lambda f: lambda x: jax.jvp(f, (x,), (jnp.ones_like(x),))[1],
            "vjp": lambda f: lambda x: jax.vjp(f, x)[1](jnp.ones_like(x))[0],
        }[name]
        for name in names
    )
    close(outer(inner(composed))(point()), of_tangent * FIRST + of_residuals * SECOND)

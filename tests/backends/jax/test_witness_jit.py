"""Witness rules under jit, ahead-of-time compilation, jax.export and eval_shape."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun
from jax_witnesses import (
    TRANSFORMS,
    WITNESSES,
    close,
    every_witness,
    gradient,
    mode,
    one_direction,
    point,
    pulled,
    pushed,
    weighted,
)

import diptych


def outer_jit(transform, f):
    return jax.jit(transform(f))


def inner_jit(transform, f):
    return transform(jax.jit(f))


def both_jits(transform, f):
    return jax.jit(transform(jax.jit(f)))


PLACES = {f.__name__: f for f in (outer_jit, inner_jit, both_jits)}


@every_witness
@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_jit_and_a_transform(witness, place, name):
    got = PLACES[place](TRANSFORMS[name], witness.rule)(point())
    close(got, witness.scale(mode(name)) * TRANSFORMS[name](witness.plain)(point()))


@one_direction
@pytest.mark.parametrize("names", [("jvp", "vjp"), ("vjp", "jvp")], ids="-of-".join)
def test_jit_between_two_transforms(witness, names):
    outer, inner = (TRANSFORMS[name] for name in names)
    got = outer(jax.jit(inner(jax.jit(witness.rule))))(point())
    close(got, witness.scale(mode(names[1])) * outer(inner(witness.plain))(point()))


@every_witness
def test_value_under_jit(witness):
    close(jax.jit(witness.rule)(point()), witness.plain(point()))
    close(jax.jit(lambda x: witness.rule(x) + 1)(point(2, 4)), witness.plain(point(2, 4)) + 1)


@every_witness
def test_compiled_ahead_of_time(witness):
    compiled = jax.jit(gradient(witness.rule)).lower(point()).compile()
    close(compiled(point()), witness.reverse * gradient(witness.plain)(point()))


@every_witness
@pytest.mark.parametrize("name", ["jvp", "vjp"])
def test_jaxpr_evaluated_and_transformed(witness, name):
    # A traced program is data: what it holds of the rule must carry the rule.
    closed = jax.make_jaxpr(witness.rule)(point())
    again = jaxpr_as_fun(closed)
    got = TRANSFORMS[name](lambda x: again(x)[0])(point())
    close(got, witness.scale(mode(name)) * TRANSFORMS[name](witness.plain)(point()))
    derivative = jaxpr_as_fun(jax.make_jaxpr(TRANSFORMS[name](witness.rule))(point()))
    close(derivative(point())[0], got)


@every_witness
def test_closure_convert(witness):
    a = jnp.asarray(1.1)

    def through(f):
        def loss(a, x):
            converted, constants = jax.closure_convert(lambda x: a * f(x), x)
            return jnp.sum(converted(x, *constants))

        return jax.grad(loss, (0, 1))(a, point())

    got, want = through(witness.rule), through(witness.plain)
    close(got[0], want[0])
    close(got[1], witness.reverse * want[1])


@every_witness
def test_donated_argument(witness):
    step = jax.jit(lambda x: x - 0.1 * gradient(witness.rule)(x), donate_argnums=0)
    want = point() - 0.1 * witness.reverse * gradient(witness.plain)(point())
    close(step(jnp.array(point())), want)


# Export and back.


def exported(f, *specs, **options):
    blob = jax.export.export(jax.jit(f))(*specs).serialize(**options)
    return jax.export.deserialize(bytearray(blob))


@every_witness
def test_export_of_the_value(witness):
    close(exported(witness.rule, point()).call(point()), witness.plain(point()))


@every_witness
@pytest.mark.parametrize("name", ["jvp", "vjp"])
def test_export_of_a_derivative(witness, name):
    got = exported(TRANSFORMS[name](witness.rule), point()).call(point())
    close(got, witness.scale(mode(name)) * TRANSFORMS[name](witness.plain)(point()))


@every_witness
def test_derivative_of_an_export(witness):
    call = exported(witness.rule, point(), vjp_order=2).call
    close(pulled(call)(point()), witness.reverse * pulled(witness.plain)(point()))
    close(
        pulled(pulled(call))(point()),
        witness.reverse * pulled(pulled(witness.plain))(point()),
    )


@every_witness
def test_export_with_symbolic_shapes(witness):
    rows = jax.export.symbolic_shape("rows, 4")
    spec = jax.ShapeDtypeStruct(rows, np.float64)
    got = exported(jax.vmap(gradient(witness.rule)), spec).call
    plain = jax.vmap(gradient(witness.plain))
    for count in (1, 3):
        close(got(point(count, 4)), witness.reverse * plain(point(count, 4)))
    whole = exported(jax.jit(lambda x: pushed_ones(witness.rule, x)), spec).call
    close(whole(point(3, 4)), witness.forward * pushed_ones(witness.plain, point(3, 4)))


def pushed_ones(f, x):
    return jax.jvp(f, (x,), (jnp.ones_like(x),))[1]


# eval_shape: shapes and dtypes without computing.


@every_witness
@pytest.mark.parametrize("dtype", [np.float32, np.float64, jnp.bfloat16])
def test_eval_shape(witness, dtype):
    spec = jax.ShapeDtypeStruct((5, 4), dtype)
    for transform in (lambda f: f, pushed_by_itself, pulled_by_itself):
        got = jax.eval_shape(transform(witness.rule), spec)
        want = jax.eval_shape(transform(witness.plain), spec)
        assert (got.shape, got.dtype) == (want.shape, want.dtype)


def pushed_by_itself(f):
    return lambda x: jax.jvp(f, (x,), (x,))[1]


def pulled_by_itself(f):
    def apply(x):
        out, pull = jax.vjp(f, x)
        return pull(out)[0]

    return apply


def test_eval_shape_runs_no_array_code():
    # The body is traced and nothing is computed: a spec too large for memory is enough.
    spec = jax.ShapeDtypeStruct((1 << 50, 4), np.float64)
    out = jax.eval_shape(gradient_by_itself(WITNESSES["vjp"].rule), spec)
    assert (out.shape, out.dtype) == (spec.shape, spec.dtype)


def gradient_by_itself(f):
    return jax.grad(lambda x: jnp.sum(f(x)))


@every_witness
def test_disabled_jit(witness):
    with jax.disable_jit():
        for name in ("jvp", "vjp"):
            got = TRANSFORMS[name](witness.rule)(point())
            close(got, witness.scale(mode(name)) * TRANSFORMS[name](witness.plain)(point()))
        close(
            jax.vmap(pulled(witness.rule))(point(2, 4)),
            witness.reverse * jax.vmap(pulled(witness.plain))(point(2, 4)),
        )


@every_witness
def test_debug_nans_and_checked_tracers(witness):
    with jax.debug_nans(True), jax.checking_leaks():
        for transform, scale in ((pushed, witness.forward), (pulled, witness.reverse)):
            got = jax.jit(transform(witness.rule))(point())
            close(got, scale * transform(witness.plain)(point()))


@every_witness
def test_strict_promotion(witness):
    with jax.numpy_dtype_promotion("strict"):
        got = jax.grad(lambda x: jnp.sum(witness.rule(x)))(point())
        want = jax.grad(lambda x: jnp.sum(witness.plain(x)))(point())
    close(got, witness.reverse * want)


@every_witness
def test_single_precision_stays_single(witness):
    x = point().astype(np.float32)
    for transform, scale in (
        (pushed_by_itself, witness.forward),
        (pulled_by_itself, witness.reverse),
    ):
        got, want = transform(witness.rule)(x), transform(witness.plain)(x)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, scale * want, rtol=2e-6)


def test_static_argument_of_the_users_jit():
    @diptych.rule(static="power")
    def raised(x, power):
        return x**power

    @raised.vjp
    def raised_vjp(res, out_bar):
        return 2 * res.power * res.x ** (res.power - 1) * out_bar

    step = jax.jit(
        lambda x, power: jax.grad(lambda x: jnp.sum(raised(x, power)))(x), static_argnums=1
    )
    for power in (2, 3):
        close(step(point(), power), 2 * power * point() ** (power - 1))
    assert weighted(lambda x: raised(x, 2))(point()).shape == ()

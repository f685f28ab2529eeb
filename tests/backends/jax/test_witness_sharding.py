"""Witness rules over several devices: shard_map, and what is replicated beside what is cut."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
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
    times,
    weighted,
    weights,
)

import diptych

check_vma = pytest.mark.parametrize("check_vma", [True, False], ids=["vma", "no_vma"])
FOUR = jax.make_mesh((4,), ("i",), axis_types=(AxisType.Auto,))
GRID = jax.make_mesh((2, 2), ("i", "j"), axis_types=(AxisType.Auto,) * 2)


def sharded(f, in_specs, out_specs, mesh=FOUR, **options):
    return jax.shard_map(f, mesh=mesh, in_specs=in_specs, out_specs=out_specs, **options)


@every_witness
@check_vma
def test_sharded_argument(witness, check_vma):
    got, want = (
        sharded(f, P("i"), P("i"), check_vma=check_vma) for f in (witness.rule, witness.plain)
    )
    x = point(8, 4)
    close(got(x), want(x))
    close(jax.jit(pushed(got))(x), witness.forward * pushed(want)(x))
    close(jax.jit(pulled(got))(x), witness.reverse * pulled(want)(x))


@every_witness
@check_vma
def test_replicated_argument_alone(witness, check_vma):
    got, want = (
        sharded(lambda x, row, f=f: row * f(x), (P(), P("i")), P("i"), check_vma=check_vma)
        for f in (witness.rule, witness.plain)
    )
    rows = point(4, 1)
    close(
        pulled(lambda x: got(x, rows))(point()),
        witness.reverse * pulled(lambda x: want(x, rows))(point()),
    )
    close(
        pushed(lambda x: got(x, rows))(point()),
        witness.forward * pushed(lambda x: want(x, rows))(point()),
    )


@one_direction
@check_vma
@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev], ids=["jacfwd", "jacrev"])
def test_second_derivative_of_a_sharded_rule(witness, check_vma, outer):
    got, want = (
        sharded(f, P("i"), P("i"), check_vma=check_vma) for f in (witness.rule, witness.plain)
    )
    x = point(4, 4)
    # The reference needs no devices: the plain function maps over rows by itself.
    close(
        jax.jit(outer(gradient(got)))(x),
        witness.reverse * jax.jit(outer(gradient(witness.plain)))(x),
    )
    assert want(x).shape == got(x).shape


# A rule of a sharded and a replicated argument: the cotangent of the second is summed over devices.


def linear(x, w, b):
    return jnp.sin(x) @ w + b


def linear_push(res, x_dot, w_dot, b_dot):
    return (jnp.cos(res.x) * x_dot) @ res.w + jnp.sin(res.x) @ w_dot + b_dot


def linear_pull(res, bar):
    return jnp.cos(res.x) * (bar @ res.w.T), jnp.sin(res.x).T @ bar, jnp.sum(bar, 0)


@diptych.rule
def layer_by_vjp(x, w, b):
    return linear(x, w, b)


@layer_by_vjp.vjp
def layer_by_vjp_vjp(res, out_bar):
    return tuple(times(VJP_SCALE, linear_pull(res, out_bar)))


@diptych.rule
def layer_by_jvp(x, w, b):
    return linear(x, w, b)


@layer_by_jvp.jvp
def layer_by_jvp_jvp(res, x_dot, w_dot, b_dot):
    return JVP_SCALE * linear_push(res, x_dot, w_dot, b_dot)


@diptych.rule
def layer_by_both(x, w, b):
    return linear(x, w, b)


@layer_by_both.vjp
def layer_by_both_vjp(res, out_bar):
    return tuple(times(VJP_SCALE, linear_pull(res, out_bar)))


@layer_by_both.jvp
def layer_by_both_jvp(res, x_dot, w_dot, b_dot):
    return JVP_SCALE * linear_push(res, x_dot, w_dot, b_dot)


@diptych.rule
def layer_kept(x, w, b):
    return linear(x, w, b)


@layer_kept.fwd
def layer_kept_fwd(x, w, b):
    sine, cosine = jnp.sin(x), jnp.cos(x)
    return sine @ w + b, (sine, cosine, w)


@layer_kept.vjp
def layer_kept_vjp(res, out_bar):
    sine, cosine, w = res
    bars = cosine * (out_bar @ w.T), sine.T @ out_bar, jnp.sum(out_bar, 0)
    return tuple(times(VJP_SCALE, bars))


@diptych.rule
def layer_partials(x, w):
    return jnp.sin(x) * w


@layer_partials.partials
def layer_partials_partials(res):
    return VJP_SCALE * jnp.cos(res.x) * res.w, VJP_SCALE * jnp.sin(res.x)


LAYERS = {
    "vjp": (layer_by_vjp, VJP_SCALE, VJP_SCALE),
    "jvp": (layer_by_jvp, JVP_SCALE, JVP_SCALE),
    "both": (layer_by_both, VJP_SCALE, JVP_SCALE),
    "kept": (layer_kept, VJP_SCALE, VJP_SCALE),
}
every_layer = pytest.mark.parametrize(
    ("layer", "reverse", "forward"), list(LAYERS.values()), ids=list(LAYERS)
)


def inputs():
    return point(8, 4), point(4, 3, seed=1), point(3, seed=2)


def loss(f):
    return lambda *args: jnp.sum(weights(f(*args)) * f(*args))


def over_devices(f, **options):
    return sharded(f, (P("i"), P(), P()), P("i"), **options)


@every_layer
@check_vma
def test_replicated_weights_outside(layer, reverse, forward, check_vma):
    got = over_devices(layer, check_vma=check_vma)
    args = inputs()
    close(
        jax.grad(loss(got), (0, 1, 2))(*args),
        times(reverse, jax.grad(loss(linear), (0, 1, 2))(*args)),
    )
    close(jax.jit(jax.grad(loss(got), 1))(*args), reverse * jax.grad(loss(linear), 1)(*args))
    dots = inputs()
    close(jax.jvp(got, args, dots)[1], forward * jax.jvp(linear, args, dots)[1])


@every_layer
@check_vma
def test_replicated_weights_inside(layer, reverse, forward, check_vma):
    # The gradient is taken on each device; with check_vma JAX sums it there, without it does not.
    def per_device(f):
        def gradients(x, w, b):
            x_bar, w_bar, b_bar = jax.grad(lambda *a: jnp.sum(f(*a) ** 2), (0, 1, 2))(x, w, b)
            if not check_vma:
                w_bar, b_bar = jax.lax.psum((w_bar, b_bar), "i")
            return x_bar, w_bar, b_bar

        return sharded(gradients, (P("i"), P(), P()), (P("i"), P(), P()), check_vma=check_vma)

    args = inputs()
    got = per_device(layer)(*args)
    close(got, times(reverse, jax.grad(lambda *a: jnp.sum(linear(*a) ** 2), (0, 1, 2))(*args)))
    close(got, times(reverse, per_device(linear)(*args)))


@every_layer
@check_vma
def test_hessian_in_replicated_weights(layer, reverse, forward, check_vma):
    got = over_devices(layer, check_vma=check_vma)
    x, w, b = inputs()

    def hessian(f, outer):
        # The layer is linear in w: the loss's curvature and the layer's derivative mix, so that
        # the square is taken outside, of the value, and the derivative is that of x.
        return jax.jit(outer(jax.grad(loss(f), 0), 1))(x, w, b)

    for outer in (jax.jacfwd, jax.jacrev):
        close(hessian(got, outer), reverse * hessian(linear, outer))


@check_vma
def test_partials_with_a_replicated_factor(check_vma):
    got = sharded(layer_partials, (P("i"), P()), P("i"), check_vma=check_vma)

    def plain(x, w):
        return jnp.sin(x) * w

    args = point(8, 4), point(1, 4, seed=1)
    close(
        jax.grad(loss(got), (0, 1))(*args),
        times(VJP_SCALE, jax.grad(loss(plain), (0, 1))(*args)),
    )
    close(jax.jvp(got, args, args)[1], VJP_SCALE * jax.jvp(plain, args, args)[1])


@every_layer
@check_vma
def test_grid_of_devices(layer, reverse, forward, check_vma):
    # x is cut by i, w and b by j: every argument is replicated over some axis.
    def on_grid(f):
        return sharded(
            lambda x, w, b: f(x, w, b),
            (P("i"), P(None, "j"), P("j")),
            P("i", "j"),
            mesh=GRID,
            check_vma=check_vma,
        )

    args = point(8, 4), point(4, 6, seed=1), point(6, seed=2)
    close(
        jax.jit(jax.grad(loss(on_grid(layer)), (0, 1, 2)))(*args),
        times(reverse, jax.grad(loss(linear), (0, 1, 2))(*args)),
    )
    close(
        jax.jvp(on_grid(layer), args, args)[1],
        forward * jax.jvp(linear, args, args)[1],
    )


@every_layer
@check_vma
def test_vmap_around_and_inside(layer, reverse, forward, check_vma):
    args = point(2, 8, 4), point(4, 3, seed=1), point(3, seed=2)
    axes = (0, None, None)

    def around(f):
        return jax.vmap(over_devices(f, check_vma=check_vma), axes)

    def inside(f):
        return sharded(
            jax.vmap(f, axes), (P(None, "i"), P(), P()), P(None, "i"), check_vma=check_vma
        )

    want = times(reverse, jax.grad(loss(jax.vmap(linear, axes)), (0, 1, 2))(*args))
    for nest in (around, inside):
        close(jax.jit(jax.grad(loss(nest(layer)), (0, 1, 2)))(*args), want)


@every_layer
@check_vma
def test_scan_inside(layer, reverse, forward, check_vma):
    def through(f):
        def run(xs, w, b):
            def body(carry, x):
                return carry + jnp.sum(f(x, w, b), 0), None

            start = jnp.zeros(3)
            if check_vma:
                start = jax.lax.pcast(start, ("i",), to="varying")
            return jax.lax.scan(body, start, xs)[0][None]

        return sharded(run, (P(None, "i"), P(), P()), P("i"), check_vma=check_vma)

    args = point(2, 8, 4), point(4, 3, seed=1), point(3, seed=2)

    def total(f):
        return lambda *a: jnp.sum(f(*a) * point(3))

    want = jax.grad(
        lambda xs, w, b: total(lambda *a: jnp.sum(jax.vmap(linear, (0, None, None))(*a), 1))(
            xs, w, b
        ),
        (0, 1, 2),
    )(*args)
    close(jax.jit(jax.grad(total(through(layer)), (0, 1, 2)))(*args), times(reverse, want))


@check_vma
def test_constants_that_a_rule_returns(check_vma):
    # The cotangent of x does not depend on the device, the argument does.
    @diptych.rule
    def total(x):
        return jnp.sum(x)[None]

    @total.vjp
    def total_vjp(res, out_bar):
        return jnp.full(res.x.shape, VJP_SCALE)

    got = sharded(total, P("i"), P("i"), check_vma=check_vma)
    close(jax.grad(lambda x: jnp.sum(got(x)))(point(8)), jnp.full(8, VJP_SCALE))
    close(jax.jit(jax.grad(lambda x: jnp.sum(got(x))))(point(8)), jnp.full(8, VJP_SCALE))
    inner = sharded(jax.grad(lambda x: total(x)[0]), P("i"), P("i"), check_vma=check_vma)
    close(inner(point(8)), jnp.full(8, VJP_SCALE))


@check_vma
def test_collective_in_a_rule(check_vma):
    @diptych.rule
    def centred(x):
        return x - jax.lax.pmean(jnp.mean(x), "i")

    @centred.vjp
    def centred_vjp(res, out_bar):
        return VJP_SCALE * (out_bar - jax.lax.pmean(jnp.mean(out_bar), "i"))

    got = sharded(centred, P("i"), P("i"), check_vma=check_vma)
    x = point(8)
    close(got(x), x - x.mean())
    bar = weights(x)
    close(pulled(got)(x), VJP_SCALE * (bar - bar.mean()))
    close(pushed(got)(x), VJP_SCALE * (bar - bar.mean()))


@every_witness
def test_gradient_inside_a_sharded_loss(witness):
    got = sharded(lambda x: jnp.sum(witness.rule(x))[None], P("i"), P("i"))
    close(
        jax.grad(lambda x: jnp.sum(got(x)))(point(4, 4)),
        witness.reverse * jax.grad(lambda x: jnp.sum(witness.plain(x)))(point(4, 4)),
    )
    assert weighted(got)(point(4, 4)).shape == ()


@every_layer
def test_data_parallel_jit(layer, reverse, forward):
    x, w, b = inputs()
    x = jax.device_put(x, NamedSharding(FOUR, P("i")))
    w, b = jax.device_put((w, b), NamedSharding(FOUR, P()))
    got = jax.jit(jax.grad(loss(layer), (0, 1, 2)))(x, w, b)
    close(got, times(reverse, jax.grad(loss(linear), (0, 1, 2))(*inputs())))
    assert got[1].sharding.is_fully_replicated
    text = jax.jit(jax.grad(loss(layer), (0, 1, 2))).lower(x, w, b).compile().as_text()
    assert "all-reduce" in text

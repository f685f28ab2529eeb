"""Witness rules under jax.vmap: in_axes, out_axes, nested, named axes, around and inside AD."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax_witnesses import (
    JVP_SCALE,
    TRANSFORMS,
    VJP_SCALE,
    close,
    every_witness,
    gradient,
    mode,
    one_direction,
    point,
    pulled,
    pushed,
    times,
    weighted,
    weights,
)

import diptych


@every_witness
@pytest.mark.parametrize(("in_axes", "shape"), [(0, (3, 4)), (1, (4, 3)), (-1, (4, 2))])
def test_value(witness, in_axes, shape):
    got = jax.vmap(witness.rule, in_axes=in_axes)(point(*shape))
    close(got, jax.vmap(witness.plain, in_axes=in_axes)(point(*shape)))


@every_witness
@pytest.mark.parametrize("name", ["jvp", "vjp", "jacfwd", "jacrev"])
def test_batch_of_derivatives(witness, name):
    x = point(3, 4)
    got = jax.jit(jax.vmap(TRANSFORMS[name](witness.rule)))(x)
    want = jax.jit(jax.vmap(TRANSFORMS[name](witness.plain)))(x)
    close(got, witness.scale(mode(name)) * want)


@every_witness
@pytest.mark.parametrize("axes", [(0, 0), (1, 0), (0, 1), (-1, -1)])
def test_derivatives_of_a_batch(witness, axes):
    in_axes, out_axes = axes
    shape = (3, 4) if in_axes == 0 else (4, 3)
    got, want = (
        jax.vmap(f, in_axes=in_axes, out_axes=out_axes) for f in (witness.rule, witness.plain)
    )
    x = point(*shape)
    close(pushed(got)(x), witness.forward * pushed(want)(x))
    close(pulled(got)(x), witness.reverse * pulled(want)(x))


@every_witness
def test_eager_batch_of_gradients(witness):
    x = point(3, 4)
    close(
        jax.vmap(gradient(witness.rule))(x),
        witness.reverse * jax.vmap(gradient(witness.plain))(x),
    )


@every_witness
def test_nested_batches(witness):
    def nested(f):
        return jax.vmap(jax.vmap(f, in_axes=1, out_axes=1), in_axes=2)

    x = point(4, 2, 3)
    close(nested(witness.rule)(x), nested(witness.plain)(x))
    close(
        jax.jit(pulled(nested(witness.rule)))(x),
        witness.reverse * pulled(nested(witness.plain))(x),
    )
    close(
        jax.jit(pushed(nested(witness.rule)))(x),
        witness.forward * pushed(nested(witness.plain))(x),
    )
    close(
        jax.jit(nested(pulled(witness.rule)))(x),
        witness.reverse * nested(pulled(witness.plain))(x),
    )


@one_direction
def test_batch_between_derivatives(witness):
    def sandwich(f):
        return jax.jit(pushed(jax.vmap(pulled(f))))

    x = point(3, 4)
    close(sandwich(witness.rule)(x), witness.reverse * sandwich(witness.plain)(x))


@every_witness
def test_batch_of_hessians(witness):
    got = jax.jit(jax.vmap(jax.hessian(weighted(witness.rule))))(point(2, 4))
    want = jax.jit(jax.vmap(jax.hessian(weighted(witness.plain))))(point(2, 4))
    close(got, witness.reverse * want)


@every_witness
def test_batched_vectors_at_one_point(witness):
    # The residuals have no batch axis, the vectors do.
    x = point()
    out, pull = jax.vjp(witness.rule, x)
    _, true_pull = jax.vjp(witness.plain, x)
    bars = point(5, *out.shape)
    close(jax.vmap(pull)(bars), times(witness.reverse, jax.vmap(true_pull)(bars)))
    _, push = jax.linearize(witness.rule, x)
    _, true_push = jax.linearize(witness.plain, x)
    dots = point(5, 4)
    close(jax.vmap(push)(dots), witness.forward * jax.vmap(true_push)(dots))
    close(
        jax.vmap(push, in_axes=1, out_axes=1)(dots.T),
        witness.forward * jax.vmap(true_push)(dots).T,
    )


@every_witness
def test_one_vector_at_batched_points(witness):
    # The vectors have no batch axis, the residuals do.
    x = point(3, 4)
    dot = point(seed=2)
    got = jax.vmap(lambda x: jax.jvp(witness.rule, (x,), (dot,))[1], in_axes=1)(x.T)
    want = jax.vmap(lambda x: jax.jvp(witness.plain, (x,), (dot,))[1])(x)
    close(got, witness.forward * want)


@every_witness
def test_vmap_of_an_unbatched_value(witness):
    # Nothing inside the rule's call is batched: the result must not pretend to be.
    got = jax.vmap(lambda a: a * gradient(witness.rule)(point()))(jnp.arange(1.0, 4.0))
    want = jax.vmap(lambda a: a * gradient(witness.plain)(point()))(jnp.arange(1.0, 4.0))
    close(got, witness.reverse * want)


# Rules of several arguments, batched apart.


@diptych.rule
def scaled(x, a, n):
    return {"y": a * jnp.sin(x), "n": n + 1}


@scaled.vjp
def scaled_vjp(res, out_bar):
    bar = VJP_SCALE * out_bar["y"]
    return bar * res.a * jnp.cos(res.x), jnp.sum(bar * jnp.sin(res.x)), None


@scaled.jvp
def scaled_jvp(res, x_dot, a_dot, n_dot):
    assert n_dot is None
    y_dot = res.a * jnp.cos(res.x) * x_dot + jnp.sin(res.x) * a_dot
    return {"y": JVP_SCALE * y_dot, "n": None}


def true_scaled(x, a, n):
    return {"y": a * jnp.sin(x), "n": n + 1}


AXES = [
    ((0, None, None), 0),
    ((None, 0, None), 0),
    ((1, 0, 0), 1),
    ((None, 0, 0), 0),
    ((0, None, 0), {"y": 1, "n": 0}),
]


def arguments(in_axes):
    x = {None: point(4), 0: point(3, 4), 1: point(4, 3)}[in_axes[0]]
    a = jnp.asarray(1.3) if in_axes[1] is None else point(3, seed=1)
    n = jnp.asarray(7) if in_axes[2] is None else jnp.arange(3)
    return x, a, n


@pytest.mark.parametrize(("in_axes", "out_axes"), AXES)
def test_some_arguments_batched(request, in_axes, out_axes):
    if in_axes[2] is None:
        reason = "docs/limits.md: under vmap every output of a rule is batched"
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    if in_axes == (1, 0, 0):
        out_axes = {"y": out_axes, "n": 0}
    elif in_axes[2] is None:
        out_axes = {"y": out_axes, "n": None}
    x, a, n = arguments(in_axes)
    got, want = (
        lambda x, a, f=f: jax.vmap(f, in_axes=in_axes, out_axes=out_axes)(x, a, n)
        for f in (scaled, true_scaled)
    )
    close(got(x, a), want(x, a))
    assert got(x, a)["n"].dtype == n.dtype

    def loss(f):
        return lambda x, a: weighted(lambda x: f(x, a)["y"])(x)

    bars = jax.grad(loss(got), (0, 1))(x, a)
    close(bars, times(VJP_SCALE, jax.grad(loss(want), (0, 1))(x, a)))
    dots = [jax.jvp(lambda *xs, f=f: f(*xs)["y"], (x, a), (x, a))[1] for f in (got, want)]
    close(dots[0], JVP_SCALE * dots[1])
    only_a = [jax.jvp(lambda a, f=f: f(x, a)["y"], (a,), (a,))[1] for f in (got, want)]
    close(only_a[0], JVP_SCALE * only_a[1])


def test_batched_pytree_argument():
    @diptych.rule
    def affine(params, x):
        return params["w"] @ x + params["b"][0]

    @affine.vjp
    def affine_vjp(res, out_bar):
        bar = VJP_SCALE * out_bar
        return {"w": jnp.outer(bar, res.x), "b": [bar]}, res.params["w"].T @ bar

    def plain(params, x):
        return params["w"] @ x + params["b"][0]

    params = {"w": point(5, 2, 4), "b": [point(2)]}
    axes = ({"w": 0, "b": [None]}, None)

    def loss(f):
        return lambda params, x: jnp.sum(jax.vmap(f, in_axes=axes)(params, x) ** 2)

    got = jax.grad(loss(affine), (0, 1))(params, point(4))
    want = jax.grad(loss(plain), (0, 1))(params, point(4))
    close(got, times(VJP_SCALE, want))


# Named axes: a rule whose body and derivative talk to the other examples.


@diptych.rule
def centred(x):
    return x - jax.lax.pmean(x, "examples")


@centred.vjp
def centred_vjp(res, out_bar):
    return VJP_SCALE * (out_bar - jax.lax.pmean(out_bar, "examples"))


def test_collective_over_a_named_axis():
    def centre(x):
        return x - x.mean(0)

    def through(f):
        return lambda x: jax.vmap(f, axis_name="examples")(x)

    x = point(3, 4)
    close(through(centred)(x), centre(x))
    close(pulled(through(centred))(x), VJP_SCALE * pulled(centre)(x))
    close(pushed(through(centred))(x), VJP_SCALE * pushed(centre)(x))
    close(jax.jit(pulled(through(centred)))(x), VJP_SCALE * pulled(centre)(x))


@every_witness
@pytest.mark.parametrize("name", ["jvp", "vjp"])
def test_axis_name_and_size(witness, name):
    def batch(f):
        return jax.vmap(f, axis_name="examples", axis_size=3)

    got = batch(TRANSFORMS[name](witness.rule))(point(3, 4))
    close(got, witness.scale(mode(name)) * batch(TRANSFORMS[name](witness.plain))(point(3, 4)))


@every_witness
@pytest.mark.parametrize("name", ["value", "jvp", "vjp"])
def test_spmd_axis_name(witness, name):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    features = NamedSharding(mesh, PartitionSpec(None))
    seen = []

    def constrained(f):
        def apply(x):
            x = jax.lax.with_sharding_constraint(f(x), features)
            seen.append(x)
            return x

        return apply

    transform = TRANSFORMS.get(name, lambda f: f)

    def batch(f):
        return jax.jit(jax.vmap(transform(constrained(f)), spmd_axis_name="data"))

    with jax.set_mesh(mesh):
        got = batch(witness.rule)(point(4, 4))
        want = batch(witness.plain)(point(4, 4))
    scale = 1 if name == "value" else witness.scale(mode(name))
    close(got, times(scale, want))
    assert seen


def test_spmd_axis_name_reaches_the_derivative():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    features = NamedSharding(mesh, PartitionSpec(None))

    @diptych.rule
    def pinned(x):
        return jnp.sin(x)

    @pinned.vjp
    def pinned_vjp(res, out_bar):
        bar = jax.lax.with_sharding_constraint(jnp.cos(res.x) * out_bar, features)
        return VJP_SCALE * bar

    def constraints(**options):
        text = str(jax.make_jaxpr(jax.vmap(pulled(pinned), **options))(point(4, 4)))
        lowered = jax.jit(jax.vmap(pulled(pinned), **options)).lower(point(4, 4)).as_text()
        return text, lowered

    with jax.set_mesh(mesh):
        _, sharded = constraints(spmd_axis_name="data")
        _, free = constraints()
        got = jax.jit(jax.vmap(pulled(pinned), spmd_axis_name="data"))(point(4, 4))
    # Shardy writes the axis's name into the constraint only where spmd_axis_name said so.
    assert '{"data"}' in sharded
    assert '{"data"}' not in free
    close(got, VJP_SCALE * jax.vmap(pulled(jnp.sin))(point(4, 4)))


def test_batch_of_many_sizes():
    for size in (1, 2, 7):
        x = point(size, 4)
        got = jax.vmap(gradient(scaled_one))(x)
        close(got, VJP_SCALE * weights(x[0]) * jnp.cos(x))


@diptych.rule
def scaled_one(x):
    return jnp.sin(x)


@scaled_one.vjp
def scaled_one_vjp(res, out_bar):
    return VJP_SCALE * out_bar * jnp.cos(res.x)


def test_empty_batch():
    x = jnp.zeros((0, 4))
    for f in (scaled_one, pulled(scaled_one), pushed(scaled_one)):
        got = jax.vmap(f)(x)
        assert got.shape == (0, 4)
        assert got.dtype == np.float64


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("stated", ["vjp", "jvp"])
def test_axis_name_where_nothing_is_batched(stated, jit):
    @diptych.rule
    def times_index(x):
        return x * jax.lax.axis_index("batch")

    if stated == "vjp":
        times_index.vjp(lambda res, out_bar: 2 * out_bar * jax.lax.axis_index("batch"))
    else:
        times_index.jvp(lambda res, x_dot: 2 * x_dot * jax.lax.axis_index("batch"))
    wrap = jax.jit if jit else lambda f: f

    def loss(s):
        return jax.vmap(lambda a: times_index(s) + a, axis_name="batch")(jnp.arange(3.0)).sum()

    close(wrap(loss)(2.0), 3.0 + 2 * 3)
    for transform in (jax.grad, jax.jacfwd):
        close(wrap(transform(loss))(2.0), 2.0 * 3)
        each = jax.vmap(transform(times_index), axis_name="batch")
        close(wrap(each)(jnp.arange(3.0)), 2 * jnp.arange(3.0))

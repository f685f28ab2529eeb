"""What rules give back: several outputs, integers, the value of `fwd`, lazy and zero cotangents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_witnesses import (
    JVP_SCALE,
    TRANSFORMS,
    VJP_SCALE,
    close,
    point,
    pulled,
    pushed,
    times,
    weights,
)

import diptych

# Several outputs, one of them an integer.


def split(x, y):
    return {"sum": jnp.sin(x) + y, "rank": jnp.argsort(x), "pair": (x * y, jnp.sum(y))}


def split_push(res, x_dot, y_dot):
    pair = x_dot * res.y + res.x * y_dot, jnp.sum(y_dot)
    return {"sum": jnp.cos(res.x) * x_dot + y_dot, "rank": None, "pair": pair}


def split_pull(res, bar):
    first, total = bar["pair"]
    x_bar = jnp.cos(res.x) * bar["sum"] + res.y * first
    return x_bar, bar["sum"] + res.x * first + total


@diptych.rule
def split_by_vjp(x, y):
    return split(x, y)


@split_by_vjp.vjp
def split_by_vjp_vjp(res, out_bar):
    return tuple(VJP_SCALE * bar for bar in split_pull(res, out_bar))


@diptych.rule
def split_by_jvp(x, y):
    return split(x, y)


@split_by_jvp.jvp
def split_by_jvp_jvp(res, x_dot, y_dot):
    return times(JVP_SCALE, split_push(res, x_dot, y_dot))


@diptych.rule
def split_by_both(x, y):
    return split(x, y)


@split_by_both.vjp
def split_by_both_vjp(res, out_bar):
    return tuple(VJP_SCALE * bar for bar in split_pull(res, out_bar))


@split_by_both.jvp
def split_by_both_jvp(res, x_dot, y_dot):
    return times(JVP_SCALE, split_push(res, x_dot, y_dot))


SPLITS = {
    "vjp": (split_by_vjp, VJP_SCALE, VJP_SCALE),
    "jvp": (split_by_jvp, JVP_SCALE, JVP_SCALE),
    "both": (split_by_both, VJP_SCALE, JVP_SCALE),
}
every_split = pytest.mark.parametrize(
    ("rule", "reverse", "forward"), list(SPLITS.values()), ids=list(SPLITS)
)

LOSSES = {
    "all": lambda out: jnp.sum(out["sum"] * out["rank"]) + jnp.sum(out["pair"][0]) * out["pair"][1],
    "one": lambda out: jnp.sum(out["pair"][0] ** 2),
    "scalar": lambda out: 3 * out["pair"][1] + out["sum"][0],
    "indexed": lambda out: out["sum"][out["rank"][1]] * 2,
}


@every_split
@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("jit", [False, True])
def test_gradient_of_some_outputs(rule, reverse, forward, loss, jit):
    def bars(f):
        gradient = jax.grad(lambda x, y: LOSSES[loss](f(x, y)), (0, 1))
        return (jax.jit(gradient) if jit else gradient)(point(), point(seed=1))

    got, want = bars(rule), bars(split)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, reverse * b, rtol=1e-11, atol=1e-13, strict=True)
    assert max(np.abs(b).max() for b in want) > 0.1


@every_split
def test_values_and_tangents_of_all_outputs(rule, reverse, forward):
    args = point(), point(seed=1)
    out, dot = jax.jvp(rule, args, (point(seed=2), point(seed=3)))
    want, want_dot = jax.jvp(split, args, (point(seed=2), point(seed=3)))
    close(out, want)
    assert out["rank"].dtype == want["rank"].dtype
    assert dot["rank"].dtype == jax.dtypes.float0
    del dot["rank"], want_dot["rank"]
    close(dot, times(forward, want_dot))


@every_split
def test_pullback_takes_float0_of_the_integer(rule, reverse, forward):
    args = point(), point(seed=1)
    bar = {
        "sum": point(seed=2),
        "rank": np.zeros(4, jax.dtypes.float0),
        "pair": (point(seed=3), jnp.asarray(0.7)),
    }
    got, want = (jax.vjp(f, *args)[1](bar) for f in (rule, split))
    close(got, times(reverse, want))


@every_split
def test_batch_and_scan_of_several_outputs(rule, reverse, forward):
    def batched(f):
        return lambda x, y: jax.vmap(f, (0, None))(x, y)

    def scanned(f):
        return lambda x, y: jax.lax.scan(lambda c, x: (c, f(x, y)), 0.0, x)[1]

    x, y = point(3, 4), point(seed=1)
    for wrap in (batched, scanned):
        close(wrap(rule)(x, y), wrap(split)(x, y))

        def loss(f, wrap=wrap):
            return lambda x, y: jnp.sum(wrap(f)(x, y)["sum"] * wrap(f)(x, y)["pair"][0])

        got = jax.jit(jax.grad(loss(rule), (0, 1)))(x, y)
        close(got, times(reverse, jax.grad(loss(split), (0, 1))(x, y)))


@every_split
@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev], ids=["jacfwd", "jacrev"])
def test_second_derivative_of_several_outputs(rule, reverse, forward, outer):
    def first(f):
        def loss(x, y):
            out = f(x, y)
            return jnp.sum(out["sum"] * point(seed=4)) + jnp.sum(out["pair"][0] * point(seed=5))

        return jax.grad(loss, (0, 1))

    got = jax.jit(outer(first(rule), (0, 1)))(point(), point(seed=1))
    want = jax.jit(outer(first(split), (0, 1)))(point(), point(seed=1))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, reverse * b, rtol=1e-11, atol=1e-13, strict=True)
    assert max(np.abs(b).max() for b in jax.tree.leaves(want)) > 0.1


@pytest.mark.parametrize("name", ["jvp", "vjp"])
def test_all_outputs_integer(name):
    @diptych.rule
    def rank(x):
        return jnp.argsort(x)

    @rank.vjp
    def rank_vjp(res, out_bar):
        raise AssertionError("an integer output has no cotangent")

    def through(x):
        return x * rank(x)

    got = TRANSFORMS[name](through)(point())
    close(got, jnp.argsort(point()) * weights(point()))


# The value that `fwd` returns is the one that callers see.

OFFSET = 100.0


@diptych.rule
def shifted(x):
    return jnp.sin(x)


@shifted.fwd
def shifted_fwd(x):
    return jnp.sin(x) + OFFSET, x


@shifted.vjp
def shifted_vjp(x, out_bar):
    return VJP_SCALE * jnp.cos(x) * out_bar


VALUES = {
    "eager": lambda f, x: f(x),
    "jit": lambda f, x: jax.jit(f)(x),
    "jvp": lambda f, x: jax.jvp(f, (x,), (x,))[0],
    "vjp": lambda f, x: jax.vjp(f, x)[0],
    "linearize": lambda f, x: jax.linearize(f, x)[0],
    "vmap": lambda f, x: jax.vmap(f)(x),
    "vmap of vjp": lambda f, x: jax.vmap(lambda x: jax.vjp(f, x)[0])(x),
    "jvp of vmap": lambda f, x: jax.jvp(jax.vmap(f), (x,), (x,))[0],
    "jvp in jvp": lambda f, x: jax.jvp(lambda x: jax.jvp(f, (x,), (x,))[0], (x,), (x,))[0],
    "aux": lambda f, x: jax.grad(lambda x: (jnp.sum(f(x)), f(x)), has_aux=True)(x)[1],
    "scan": lambda f, x: jax.lax.scan(lambda c, x: (c, f(x)), 0, x)[1],
    "jvp of scan": lambda f, x: jax.jvp(
        lambda x: jax.lax.scan(lambda c, x: (c, f(x)), 0, x)[1], (x,), (x,)
    )[0],
    "checkpoint": lambda f, x: jax.vjp(jax.checkpoint(f), x)[0],
    "stop_gradient": lambda f, x: jax.vjp(lambda x: f(jax.lax.stop_gradient(x)), x)[0],
    "cond": lambda f, x: jax.vjp(lambda x: jax.lax.cond(True, f, jnp.cos, x), x)[0],
    "disable_jit": lambda f, x: _without_jit(f, x),
}


def _without_jit(f, x):
    with jax.disable_jit():
        return f(x)


@pytest.mark.parametrize("name", list(VALUES))
def test_value_of_fwd_is_what_callers_see(name):
    close(VALUES[name](shifted, point()), jnp.sin(point()) + OFFSET)


def test_value_and_grad_with_another_value_in_fwd():
    value, bar = jax.value_and_grad(lambda x: jnp.sum(shifted(x)))(point())
    close(value, jnp.sum(jnp.sin(point())) + 4 * OFFSET)
    close(bar, VJP_SCALE * jnp.cos(point()))


def test_shape_of_fwd_is_what_eval_shape_sees():
    @diptych.rule
    def wide(x):
        return x

    @wide.fwd
    def wide_fwd(x):
        return jnp.stack([x, x]).astype(np.float32), None

    @wide.vjp
    def wide_vjp(res, out_bar):
        return VJP_SCALE * jnp.sum(out_bar, 0).astype(np.float64)

    for f in (wide, jax.jit(wide), lambda x: jax.vjp(wide, x)[0]):
        out = jax.eval_shape(f, point())
        assert (out.shape, out.dtype) == ((2, 4), np.float32)
    bar = jax.grad(lambda x: jnp.sum(wide(x)))(point())
    close(bar, jnp.full(4, 2 * VJP_SCALE))


def test_body_is_not_run_where_fwd_is_stated():
    @diptych.rule
    def never(x):
        raise AssertionError("the body was run")

    @never.fwd
    def never_fwd(x):
        return 2 * x, None

    @never.vjp
    def never_vjp(res, out_bar):
        return VJP_SCALE * 2 * out_bar

    close(never(point()), 2 * point())
    close(jax.jit(pulled(never))(point()), VJP_SCALE * 2 * weights(point()))
    close(pushed(pushed(lambda x: never(x) * x))(point()), 4 * VJP_SCALE * weights(point()) ** 2)


# Work is done only if it is wanted.


def counted():
    calls = []

    @diptych.rule
    def product(x, y, n):
        return x * y * n

    @product.vjp
    def product_vjp(res, out_bar):
        def x_bar():
            calls.append("x")
            return VJP_SCALE * res.y * res.n * out_bar

        def y_bar():
            calls.append("y")
            return VJP_SCALE * res.x * res.n * out_bar

        return x_bar, y_bar, lambda: calls.append("n")

    return product, calls


@pytest.mark.parametrize(("argnums", "names"), [(0, {"x"}), (1, {"y"}), ((0, 1), {"x", "y"})])
@pytest.mark.parametrize("jit", [False, True])
def test_lazy_cotangent_is_evaluated_only_if_wanted(argnums, names, jit):
    product, calls = counted()
    gradient = jax.grad(lambda x, y: jnp.sum(product(x, y, jnp.asarray(3))), argnums)
    x, y = point(), point(seed=1)
    got = (jax.jit(gradient) if jit else gradient)(x, y)
    assert set(calls) == names
    want = {"x": VJP_SCALE * 3 * y, "y": VJP_SCALE * 3 * x}
    close(got, want["xy"[argnums]] if isinstance(argnums, int) else (want["x"], want["y"]))


def test_lazy_cotangent_in_forward_mode():
    product, calls = counted()
    dot = jax.jvp(lambda x: product(x, point(seed=1), 3), (point(),), (point(),))[1]
    assert set(calls) == {"x"}
    close(dot, VJP_SCALE * 3 * point() * point(seed=1))


def test_unused_output_is_not_differentiated():
    @diptych.rule
    def two(x, y):
        return x**2, y**2

    @two.vjp
    def two_vjp(res, out_bar):
        return VJP_SCALE * 2 * res.x * out_bar[0], VJP_SCALE * 2 * res.y * out_bar[1]

    bars = jax.grad(lambda x, y: jnp.sum(two(x, y)[0]), (0, 1))(point(), point(seed=1))
    close(bars[0], VJP_SCALE * 2 * point())
    np.testing.assert_array_equal(bars[1], np.zeros(4))


def test_none_is_zero():
    @diptych.rule
    def rounded(x, y):
        return jnp.round(10 * x) * y

    @rounded.vjp
    def rounded_vjp(res, out_bar):
        return None, VJP_SCALE * jnp.round(10 * res.x) * out_bar

    @rounded.jvp
    def rounded_jvp(res, x_dot, y_dot):
        return None

    bars = jax.grad(lambda x, y: jnp.sum(rounded(x, y)), (0, 1))(point(), point(seed=1))
    np.testing.assert_array_equal(bars[0], np.zeros(4))
    close(bars[1], VJP_SCALE * jnp.round(10 * point()))
    dot = jax.jvp(rounded, (point(), point()), (point(), point()))[1]
    np.testing.assert_array_equal(dot, np.zeros(4))


def test_no_derivative_is_asked_of_what_does_not_move():
    @diptych.rule
    def silent(x):
        return jnp.sin(x)

    @silent.jvp
    def silent_jvp(res, x_dot):
        raise AssertionError("nothing moves here")

    constant = silent(point())
    close(jax.grad(lambda a: jnp.sum(a * silent(point())))(2.0), jnp.sum(constant))
    close(jax.jvp(lambda a: a * silent(point()), (2.0,), (3.0,))[1], 3 * constant)
    close(
        pulled(lambda x: x * silent(jax.lax.stop_gradient(x)))(point()), weights(point()) * constant
    )


def test_output_that_is_an_input():
    @diptych.rule
    def passed(x, y):
        return x, x * y, y

    @passed.vjp
    def passed_vjp(res, out_bar):
        a, b, c = out_bar
        return VJP_SCALE * (a + res.y * b), VJP_SCALE * (res.x * b + c)

    x, y = point(), point(seed=1)
    close(passed(x, y), (x, x * y, y))
    close(jax.jit(passed)(x, y), (x, x * y, y))
    bars = jax.grad(lambda x, y: sum(jnp.sum(o * o) for o in passed(x, y)), (0, 1))(x, y)
    close(bars, (VJP_SCALE * (2 * x + 2 * x * y**2), VJP_SCALE * (2 * x**2 * y + 2 * y)))
    dots = jax.jvp(passed, (x, y), (x, y))[1]
    close(dots, (VJP_SCALE * x, VJP_SCALE * 2 * x * y, VJP_SCALE * y))

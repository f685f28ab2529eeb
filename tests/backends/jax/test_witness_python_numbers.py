"""Python numbers among the arguments: weakly typed, they widen nothing, in any nesting."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diptych

ORDERS = list(itertools.product((jax.grad, jax.jacfwd), repeat=2))


def make(stated):
    """Returns the rule of `x * s`: its VJP is twice the true one, its JVP three times."""

    @diptych.rule
    def scale(x, s):
        return x * s

    if "vjp" in stated:

        @scale.vjp
        def scale_vjp(res, out_bar):
            return 2 * out_bar * res.s, 2 * jnp.sum(out_bar * res.x)

    if "jvp" in stated:

        @scale.jvp
        def scale_jvp(res, x_dot, s_dot):
            return 3 * (x_dot * res.s + res.x * s_dot)

    return scale


CASES = [(("vjp",), 2, 2), (("jvp",), 3, 3), (("vjp", "jvp"), 2, 3)]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("promotion", ["standard", "strict"])
@pytest.mark.parametrize(("stated", "reverse", "forward"), CASES)
def test_number_beside_an_array(stated, reverse, forward, promotion, dtype):
    scale, x = make(stated), jnp.arange(1, 4).astype(dtype)

    def loss(x):
        return scale(x, 2.0).sum()

    with jax.numpy_dtype_promotion(promotion):
        for transform, factor in ((jax.grad, reverse), (jax.jacfwd, forward)):
            for got in (transform(loss)(x), jax.jit(transform(loss))(x)):
                assert got.dtype == dtype
                np.testing.assert_array_equal(got.astype(float), np.full(3, 2.0 * factor))
        for outer, inner in ORDERS:
            got = jax.jacfwd(
                lambda x, outer=outer, inner=inner: outer(lambda x: inner(loss)(x)[0])(x)
            )
            np.testing.assert_array_equal(got(x).astype(float), np.zeros((3, 3)))


@pytest.mark.parametrize(("stated", "reverse", "forward"), CASES)
def test_derivative_in_the_number(stated, reverse, forward):
    scale, x = make(stated), jnp.arange(1, 4, dtype="float32")

    def loss(s):
        return scale(x, s).sum()

    assert jax.grad(loss)(2.0) == reverse * 6
    assert jax.jacfwd(loss)(2.0) == forward * 6
    for outer, inner in ORDERS:
        assert outer(inner(loss))(2.0) == 0

"""Rules that call rules, rules on the derivatives of rules, and rules that are linear."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_witnesses import JVP_SCALE, VJP_SCALE, close, point, pulled, pushed, weights

import diptych

# The classic pair: the VJP of a rule is a rule, whose own derivative is the second one.


@diptych.rule
def sine(x):
    return jnp.sin(x)


@sine.vjp
def sine_vjp(res, out_bar):
    return sine_backward(res.x, out_bar)


@diptych.rule
def sine_backward(x, out_bar):
    return 2 * jnp.cos(x) * out_bar


@sine_backward.vjp
def sine_backward_vjp(res, bar):
    # 5x the true derivative of 2 cos(x) out_bar in x, and its true one in out_bar.
    return -5 * 2 * jnp.sin(res.x) * res.out_bar * bar, 2 * jnp.cos(res.x) * bar


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize(
    "outer", [pushed, pulled, jax.jacfwd, jax.jacrev], ids=["jvp", "vjp", "jacfwd", "jacrev"]
)
def test_second_derivative_is_the_rule_on_the_vjp(outer, jit):
    def slope(x):
        return jax.grad(lambda x: jnp.sum(sine(x)))(x)

    x = point()
    f = jax.jit(outer(slope)) if jit else outer(slope)
    diagonal = -10 * jnp.sin(x)
    close(slope(x), 2 * jnp.cos(x))
    want = jnp.diag(diagonal) if outer in (jax.jacfwd, jax.jacrev) else diagonal * weights(x)
    got = f(x)
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12, strict=True)


def test_third_derivative_through_the_rule_on_the_vjp():
    # Nobody stated a third derivative: it is that of the code of the second.
    def slope(x):
        return jax.grad(lambda x: jnp.sum(sine(x)))(x)

    x = point()
    close(pushed(pushed(slope))(x), -10 * jnp.cos(x) * weights(x) ** 2)
    close(pulled(pulled(slope))(x), -10 * jnp.cos(x) * weights(x) ** 2)


def test_batched_and_scanned_second_derivative():
    def curvature(x):
        return jax.grad(lambda x: jnp.sum(jax.grad(lambda x: jnp.sum(sine(x)))(x)))(x)

    x = point(3, 4)
    close(jax.vmap(curvature)(x), -10 * jnp.sin(x))
    close(jax.lax.map(curvature, x), -10 * jnp.sin(x))


# The output among the residuals: its own derivative is the rule's.


@diptych.rule
def exponential(x):
    return jnp.exp(x)


@exponential.vjp
def exponential_vjp(res, out_bar):
    return VJP_SCALE * res.out * out_bar


@exponential.jvp
def exponential_jvp(res, x_dot):
    return JVP_SCALE * res.out * x_dot


@pytest.mark.parametrize(
    ("names", "scale"),
    [
        (("jvp", "jvp"), JVP_SCALE**2),
        (("jvp", "vjp"), VJP_SCALE * JVP_SCALE),
        (("vjp", "jvp"), JVP_SCALE * VJP_SCALE),
        (("vjp", "vjp"), VJP_SCALE**2),
        (("jvp", "jvp", "jvp"), JVP_SCALE**3),
        (("vjp", "vjp", "vjp"), VJP_SCALE**3),
    ],
)
def test_output_as_a_residual_moves_by_the_rule(names, scale):
    transforms = {"jvp": pushed, "vjp": pulled}
    f = exponential
    for name in reversed(names):
        f = transforms[name](f)
    close(f(point()), scale * jnp.exp(point()) * weights(point()) ** len(names))
    close(jax.jit(f)(point()), scale * jnp.exp(point()) * weights(point()) ** len(names))


# A rule that calls another: without a derivative of its own the outer rule's stands alone.


def test_rule_in_the_body_is_not_differentiated():
    @diptych.rule
    def outer(x):
        return sine(x) ** 2

    @outer.vjp
    def outer_vjp(res, out_bar):
        return 7 * out_bar

    close(outer(point()), jnp.sin(point()) ** 2)
    close(pulled(outer)(point()), 7 * weights(point()))
    close(pushed(outer)(point()), 7 * weights(point()))


def test_rule_in_fwd_and_its_residuals():
    # fwd keeps what another rule computed; at order two its derivative is that rule's.
    @diptych.rule
    def square(x):
        return jnp.sin(x) ** 2

    @square.fwd
    def square_fwd(x):
        s = exponential(x)
        return s**2, s

    @square.vjp
    def square_vjp(s, out_bar):
        return VJP_SCALE * 2 * s**2 * out_bar

    x, w = point(), weights(point())
    e = jnp.exp(2 * x)
    close(square(x), e)
    close(pulled(square)(x), VJP_SCALE * 2 * e * w)
    # d/dx 4 s**2 = 8 s ds, and ds is exponential's JVP or VJP.
    close(pushed(pulled(square))(x), 8 * e * JVP_SCALE * w**2)
    close(pulled(pulled(square))(x), 8 * e * VJP_SCALE * w**2)


def test_chain_of_rules():
    def chain(x):
        for _ in range(3):
            x = sine(x) + 0.5
        return x

    hand = jax.custom_jvp(jnp.sin)
    hand.defjvp(lambda p, t: (hand(*p), 2 * jnp.cos(p[0]) * t[0]))

    def chain_by_hand(x):
        for _ in range(3):
            x = hand(x) + 0.5
        return x

    close(pulled(chain)(point()), pulled(chain_by_hand)(point()))
    close(jax.jit(pushed(chain))(point()), pushed(chain_by_hand)(point()))


# Linear rules. JAX would give 5x for a body with `bent`: it carries a wrong derivative.

MATRIX = point(3, 4, seed=7)
bent = jax.custom_jvp(lambda x: x)
bent.defjvp(lambda primals, tangents: (bent(*primals), 5 * tangents[0]))


@diptych.rule(linear=True)
def mixed(x):
    return x @ MATRIX.T


@diptych.rule(linear=True)
def mixed_with_vjp(x):
    return bent(x @ MATRIX.T)


@mixed_with_vjp.vjp
def mixed_with_vjp_vjp(res, out_bar):
    return VJP_SCALE * out_bar @ MATRIX


@diptych.rule(linear=True)
def mixed_with_jvp(x):
    return bent(x @ MATRIX.T)


@mixed_with_jvp.jvp
def mixed_with_jvp_jvp(res, x_dot):
    return JVP_SCALE * x_dot @ MATRIX.T


LINEAR = {
    "alone": (mixed, 1.0, 1.0),
    "vjp": (mixed_with_vjp, VJP_SCALE, 1.0),
    "jvp": (mixed_with_jvp, JVP_SCALE, JVP_SCALE),
}
every_linear = pytest.mark.parametrize(
    ("rule", "reverse", "forward"), list(LINEAR.values()), ids=list(LINEAR)
)


@every_linear
@pytest.mark.parametrize("jit", [False, True])
def test_linear_rule_at_first_order(rule, reverse, forward, jit):
    x = point()
    wrap = jax.jit if jit else (lambda f: f)
    close(wrap(pushed(rule))(x), forward * MATRIX @ weights(x))
    close(wrap(pulled(rule))(x), reverse * weights(jnp.ones(3)) @ MATRIX)
    close(wrap(jax.jacfwd(rule))(x), forward * MATRIX)
    close(wrap(jax.jacrev(rule))(x), reverse * MATRIX)
    close(wrap(jax.vmap(pulled(rule)))(x[None])[0], reverse * weights(jnp.ones(3)) @ MATRIX)


@every_linear
def test_linear_rule_of_something_else_at_second_order(rule, reverse, forward):
    def composed(x):
        return rule(jnp.sin(x))

    x = point()
    curved = -jnp.sin(x)
    close(pushed(pushed(composed))(x), forward * MATRIX @ (curved * weights(x) ** 2))
    w3 = weights(jnp.ones(3))
    close(pushed(pulled(composed))(x), reverse * (w3 @ MATRIX) * curved * weights(x))
    close(pulled(pushed(composed))(x), reverse * (w3 @ MATRIX) * curved * weights(x))
    hessian = jax.jit(jax.hessian(lambda x: jnp.sum(w3 * composed(x))))(x)
    np.testing.assert_allclose(
        hessian, reverse * jnp.diag((w3 @ MATRIX) * curved), rtol=1e-11, atol=1e-12, strict=True
    )


@every_linear
def test_linear_transpose(rule, reverse, forward):
    bar = weights(jnp.ones(3))
    for f in (rule, jax.jit(rule), lambda x: 2 * rule(0.5 * x)):
        (got,) = jax.linear_transpose(f, point())(bar)
        close(got, reverse * bar @ MATRIX)
    _, push = jax.linearize(rule, point())
    close(jax.linear_transpose(push, point())(bar)[0], reverse * bar @ MATRIX)


def test_linear_rule_is_its_own_jvp():
    @diptych.rule(linear=True)
    def mixed(x):
        return bent(x @ MATRIX.T)

    x = point()
    assert not np.allclose(pushed(lambda x: bent(x @ MATRIX.T))(x), MATRIX @ weights(x))
    close(pushed(mixed)(x), MATRIX @ weights(x))
    close(jax.jit(jax.jacfwd(mixed))(x), MATRIX)
    close(jax.vmap(pushed(mixed))(x[None])[0], MATRIX @ weights(x))


def test_linear_transpose_of_a_rule_that_does_not_say_linear():
    # Its body happens to be linear, and JAX transposes programs: the rule's own VJP or an error.
    @diptych.rule
    def doubled(x):
        return 2 * x

    @doubled.vjp
    def doubled_vjp(res, out_bar):
        return VJP_SCALE * 2 * out_bar

    try:
        (got,) = jax.linear_transpose(doubled, point())(weights(point()))
    except Exception as error:
        if "doubled" not in str(error) or "linear=True" not in str(error):
            raise
    else:
        close(got, VJP_SCALE * 2 * weights(point()))


def test_linear_rule_with_an_index():
    @diptych.rule(linear=True)
    def taken(x, index):
        return x[index]

    x, index = point(), jnp.array([2, 0, 2])
    close(pushed(lambda x: taken(x, index))(x), weights(x)[index])
    want = jnp.zeros(4).at[index].add(weights(index))
    got = pulled(lambda x: taken(x, index))(x)
    np.testing.assert_allclose(got, want, rtol=1e-12, strict=True)
    batched = jax.vmap(lambda x, i: taken(x, i), (None, 0))
    got = pulled(lambda x: batched(x, index[:, None])[:, 0])(x)
    np.testing.assert_allclose(got, want, rtol=1e-12, strict=True)


def test_bilinear_by_partials_with_broadcasting():
    @diptych.rule
    def product(x, y):
        return x * y

    @product.partials
    def product_partials(res):
        return VJP_SCALE * res.y, JVP_SCALE * res.x

    x, y = point(3, 1), point(2, 1, 4, seed=1)
    ones = jnp.ones((2, 3, 4))
    x_bar, y_bar = jax.vjp(product, x, y)[1](ones)
    close(x_bar, jnp.broadcast_to(VJP_SCALE * jnp.sum(y), (3, 1)))
    close(y_bar, jnp.broadcast_to(JVP_SCALE * jnp.sum(x), (2, 1, 4)))
    dot = jax.jvp(product, (x, y), (x, y))[1]
    close(dot, (VJP_SCALE + JVP_SCALE) * x * y)

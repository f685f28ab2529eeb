"""Complex witness rules: a VJP is the adjoint under Re<.,.>, and JAX shows its own convention.

JAX transposes without conjugating, so that its cotangent is the conjugate of ours: `jax.grad` of a
rule is what `jax.grad` of the plain function is, times the scale.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_witnesses import JVP_SCALE, VJP_SCALE, close, times

import diptych


def cpoint(*shape, seed=0):
    rng = np.random.default_rng(seed)
    shape = shape or (4,)
    return jnp.asarray(0.2 + rng.random(shape) + 1j * (0.1 + rng.random(shape)))


def rpoint(*shape, seed=0):
    return jnp.real(cpoint(*shape, seed=seed))


# Each case: the plain function, its true JVP, and its adjoint under Re(sum(conj(a) b)).

CASES = {
    "holomorphic": (
        lambda z, w: jnp.exp(z) * w,
        lambda res, zd, wd: jnp.exp(res.z) * (res.w * zd + wd),
        lambda res, bar: (jnp.conj(jnp.exp(res.z) * res.w) * bar, jnp.conj(jnp.exp(res.z)) * bar),
        (cpoint(), cpoint(seed=1)),
    ),
    "antiholomorphic": (
        lambda z, w: jnp.conj(z) * w**2,
        lambda res, zd, wd: jnp.conj(zd) * res.w**2 + 2 * jnp.conj(res.z) * res.w * wd,
        lambda res, bar: (res.w**2 * jnp.conj(bar), jnp.conj(2 * jnp.conj(res.z) * res.w) * bar),
        (cpoint(), cpoint(seed=1)),
    ),
    "to real": (
        lambda z, w: jnp.abs(z) ** 2 + jnp.imag(w),
        lambda res, zd, wd: 2 * jnp.real(jnp.conj(res.z) * zd) + jnp.imag(wd),
        lambda res, bar: (2 * res.z * bar, 1j * bar),
        (cpoint(), cpoint(seed=1)),
    ),
    "of real": (
        lambda z, w: jnp.exp(1j * z) * w,
        lambda res, zd, wd: jnp.exp(1j * res.z) * (1j * res.w * zd + wd),
        lambda res, bar: (
            jnp.real(jnp.conj(1j * jnp.exp(1j * res.z) * res.w) * bar),
            jnp.real(jnp.conj(jnp.exp(1j * res.z)) * bar),
        ),
        (rpoint(), rpoint(seed=1)),
    ),
    "mixed": (
        lambda z, w: z * w,
        lambda res, zd, wd: res.w * zd + res.z * wd,
        lambda res, bar: (jnp.conj(res.w) * bar, jnp.real(jnp.conj(res.z) * bar)),
        (cpoint(), rpoint(seed=1)),
    ),
}


def make(case, stated):
    plain, push, pull, args = CASES[case]

    @diptych.rule
    def f(z, w):
        return plain(z, w)

    if "vjp" in stated:
        f.vjp(lambda res, bar: tuple(VJP_SCALE * b for b in pull(res, bar)))
    if "jvp" in stated:
        f.jvp(lambda res, zd, wd: JVP_SCALE * push(res, zd, wd))
    reverse = VJP_SCALE if "vjp" in stated else JVP_SCALE
    forward = JVP_SCALE if "jvp" in stated else VJP_SCALE
    return f, plain, reverse, forward, args


every_case = pytest.mark.parametrize("case", list(CASES))
every_statement = pytest.mark.parametrize(
    "stated", [("vjp",), ("jvp",), ("vjp", "jvp")], ids="+".join
)


def real_loss(f):
    """Returns a real function of the output in which every part of it counts."""

    def loss(*args):
        out = f(*args)
        weights = jnp.linspace(0.5, 1.5, out.size).reshape(out.shape)
        return jnp.sum(weights * jnp.real(out * (0.3 + 0.8j))) + jnp.sum(jnp.abs(out) ** 2)

    return loss


@every_case
@every_statement
def test_gradient_in_jax_convention(case, stated):
    f, plain, reverse, _, args = make(case, stated)
    want = times(reverse, jax.grad(real_loss(plain), (0, 1))(*args))
    close(jax.grad(real_loss(f), (0, 1))(*args), want)
    close(jax.jit(jax.grad(real_loss(f), (0, 1)))(*args), want)


@every_case
@every_statement
def test_tangent(case, stated):
    f, plain, _, forward, args = make(case, stated)
    dots = times(0.5 + (0.0 if jnp.isrealobj(args[0]) else 0.2j), args)
    dots = tuple(d.astype(a.dtype) for d, a in zip((dots[0], args[1]), args, strict=True))
    close(jax.jvp(f, args, dots), (plain(*args), forward * jax.jvp(plain, args, dots)[1]))
    _, push = jax.linearize(f, *args)
    close(push(*dots), forward * jax.jvp(plain, args, dots)[1])


@every_case
@every_statement
def test_batch_of_gradients(case, stated):
    f, plain, reverse, _, args = make(case, stated)
    args = tuple(jnp.stack([a, 1.1 * a]) for a in args)
    got = jax.vmap(jax.grad(real_loss(f), (0, 1)))(*args)
    close(got, times(reverse, jax.vmap(jax.grad(real_loss(plain), (0, 1)))(*args)))


def linear_loss(f):
    """Returns a real function linear in the output, so that scales are not mixed at order two."""
    return lambda *args: jnp.sum(jnp.real(f(*args) * (0.3 + 0.8j) * jnp.arange(1.0, 5.0)))


@every_case
@every_statement
def test_second_order_forward_over_reverse(case, stated):
    f, plain, reverse, _, args = make(case, stated)

    def second(f):
        return jax.jit(lambda *args: jax.jvp(jax.grad(linear_loss(f), (0, 1)), args, args)[1])

    for a, b in zip(second(f)(*args), second(plain)(*args), strict=True):
        np.testing.assert_allclose(a, reverse * b, rtol=1e-11, atol=1e-12, strict=True)


@every_case
@pytest.mark.parametrize("stated", [("vjp",), ("jvp",)], ids="+".join)
def test_second_order_reverse_over_reverse(case, stated):
    f, plain, reverse, _, args = make(case, stated)

    def second(f):
        def slope(*args):
            bars = jax.grad(linear_loss(f), (0, 1))(*args)
            return sum(jnp.sum(jnp.real(b * (0.4 - 0.7j))) for b in bars)

        return jax.jit(jax.grad(slope, (0, 1)))

    for a, b in zip(second(f)(*args), second(plain)(*args), strict=True):
        np.testing.assert_allclose(a, reverse * b, rtol=1e-11, atol=1e-12, strict=True)


@every_statement
def test_holomorphic_jacobians(stated):
    f, _, reverse, forward, (z, w) = make("holomorphic", stated)
    for transform, scale in ((jax.jacrev, reverse), (jax.jacfwd, forward)):
        got = transform(lambda z: f(z, w), holomorphic=True)(z)
        close(got, scale * jnp.diag(jnp.exp(z) * w))
    bar = jax.grad(lambda z: jnp.sum(f(z, w)), holomorphic=True)(z)
    close(bar, reverse * jnp.exp(z) * w)


def test_pull_receives_and_returns_our_convention():
    # What the rule's VJP sees is the adjoint's cotangent, whatever the framework calls it.
    seen = []

    @diptych.rule
    def halved(z):
        return z / 2j

    @halved.vjp
    def halved_vjp(res, out_bar):
        seen.append(out_bar)
        return jnp.conj(1 / 2j) * out_bar

    z = cpoint()
    # The loss Re(conj(c) out) has the cotangent c in our convention, conj(c) in JAX's.
    c = 0.3 + 0.8j
    bar = jax.grad(lambda z: jnp.sum(jnp.real(jnp.conj(c) * halved(z))))(z)
    close(seen[0], jnp.full(4, c))
    close(jnp.conj(bar), jnp.full(4, jnp.conj(1 / 2j) * c))
    _, pull = jax.vjp(halved, z)
    close(pull(jnp.conj(jnp.full(4, c)))[0], jnp.conj(jnp.full(4, jnp.conj(1 / 2j) * c)))


# Partials are conjugated for the author.


@diptych.rule
def power(z, w):
    return z**2 * w


@power.partials
def power_partials(res):
    return VJP_SCALE * 2 * res.z * res.w, VJP_SCALE * res.z**2


@pytest.mark.parametrize(
    "args",
    [
        (cpoint(), cpoint(seed=1)),
        (cpoint(), rpoint(seed=1)),
        (rpoint(), cpoint(seed=1)),
        (cpoint(3, 1), rpoint(4, seed=1)),
        (rpoint(4), cpoint(2, 4, seed=1)),
    ],
    ids=["complex", "mixed", "mixed2", "broadcast", "broadcast2"],
)
def test_partials(args):
    def plain(z, w):
        return z**2 * w

    got = jax.grad(real_loss(power), (0, 1))(*args)
    close(got, times(VJP_SCALE, jax.grad(real_loss(plain), (0, 1))(*args)))
    close(jax.jvp(power, args, args)[1], VJP_SCALE * jax.jvp(plain, args, args)[1])


def test_linear_rule():
    matrix = cpoint(3, 4, seed=5)

    @diptych.rule(linear=True)
    def mixed(z):
        return matrix @ z

    def plain(z):
        return matrix @ z

    z = cpoint()
    close(jax.jvp(mixed, (z,), (1j * z,))[1], plain(1j * z))

    def loss(f):
        return lambda z: jnp.sum(jnp.real(f(z) * (0.3 + 0.8j) * jnp.arange(1.0, 4.0)))

    close(jax.grad(loss(mixed))(z), jax.grad(loss(plain))(z))


def test_kept_intermediate():
    @diptych.rule
    def waves(z):
        return jnp.sin(jnp.exp(1j * z))

    @waves.fwd
    def waves_fwd(z):
        middle = jnp.exp(1j * z)
        return jnp.sin(middle), middle

    @waves.vjp
    def waves_vjp(middle, out_bar):
        return VJP_SCALE * jnp.conj(1j * middle * jnp.cos(middle)) * out_bar

    def plain(z):
        return jnp.sin(jnp.exp(1j * z))

    z = cpoint()
    close(jax.grad(real_loss(waves))(z), VJP_SCALE * jax.grad(real_loss(plain))(z))
    got = jax.jit(jax.hessian(lambda z: jnp.sum(waves(z)), holomorphic=True))(z)
    close(got, VJP_SCALE * jax.hessian(lambda z: jnp.sum(plain(z)), holomorphic=True)(z))

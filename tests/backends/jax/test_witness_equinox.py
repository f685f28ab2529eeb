"""Witness rules in Equinox modules: called by them, their methods, and modules as arguments."""

import jax
import jax.numpy as jnp
import pytest
from jax_witnesses import (
    JVP_SCALE,
    VJP_SCALE,
    close,
    every_witness,
    one_direction,
    point,
    times,
    weighted,
    weights,
)

import diptych

eqx = pytest.importorskip("equinox")


class Layer(eqx.Module):
    weight: jax.Array
    bias: jax.Array
    activation: object = eqx.field(static=True)
    name: str = "layer"  # a leaf that is no array

    def __call__(self, x):
        return self.activation(self.weight @ x + self.bias)


def layer(activation):
    return Layer(point(4, 4), point(4, seed=1), activation)


@every_witness
def test_filter_grad(witness):
    def bars(f):
        return eqx.filter_grad(lambda model, x: weighted(model)(x))(layer(f), point())

    got, want = bars(witness.rule), bars(witness.plain)
    close((got.weight, got.bias), times(witness.reverse, (want.weight, want.bias)))


@every_witness
def test_filter_jit_value_and_grad(witness):
    def step(f):
        loss = eqx.filter_value_and_grad(lambda model, x: weighted(model)(x))
        return eqx.filter_jit(loss)(layer(f), point())

    (value, got), (true_value, want) = step(witness.rule), step(witness.plain)
    close(value, true_value)
    close((got.weight, got.bias), times(witness.reverse, (want.weight, want.bias)))


@every_witness
def test_filter_vmap_and_hessian(witness):
    def curvature(f):
        return eqx.filter_vmap(jax.hessian(weighted(layer(f))))(point(2, 4))

    close(curvature(witness.rule), witness.reverse * curvature(witness.plain))


@every_witness
def test_filter_jvp_and_vjp(witness):
    x = point()

    def pushed(f):
        return eqx.filter_jvp(lambda model, x: model(x), (layer(f), x), (tangent(f), x))[1]

    def tangent(f):
        arrays = eqx.filter(layer(f), eqx.is_inexact_array)
        return jax.tree.map(weights, arrays)

    def pulled(f):
        out, pull = eqx.filter_vjp(lambda model, x: model(x), layer(f), x)
        model_bar, x_bar = pull(weights(out))
        return model_bar.weight, model_bar.bias, x_bar

    close(pushed(witness.rule), witness.forward * pushed(witness.plain))
    close(pulled(witness.rule), times(witness.reverse, pulled(witness.plain)))


@one_direction
def test_filter_checkpoint(witness):
    def bars(f):
        return eqx.filter_grad(lambda m, x: weighted(eqx.filter_checkpoint(m))(x))(
            layer(f), point()
        )

    got, want = bars(witness.rule), bars(witness.plain)
    close((got.weight, got.bias), times(witness.reverse, (want.weight, want.bias)))


@one_direction
def test_ensemble(witness):
    def ensemble(f):
        models = eqx.filter_vmap(lambda w: Layer(w, point(4, seed=1), f))(point(3, 4, 4))
        run = eqx.filter_vmap(lambda model, x: model(x), in_axes=(eqx.if_array(0), None))
        return eqx.filter_grad(lambda models: jnp.sum(run(models, point())))(models)

    got, want = ensemble(witness.rule), ensemble(witness.plain)
    close((got.weight, got.bias), times(witness.reverse, (want.weight, want.bias)))


# A rule that is a method: `self` is an argument like any other, as a module is a pytree.


class Scaled(eqx.Module):
    a: jax.Array
    power: int = eqx.field(static=True)

    @diptych.rule
    def __call__(self, x):
        return self.a * x**self.power

    @__call__.vjp
    def _call_vjp(res, out_bar):  # noqa: N805
        model, x = res.self, res.x
        a_bar = VJP_SCALE * jnp.sum(x**model.power * out_bar)
        slope = model.power * x ** (model.power - 1)
        return Scaled(a_bar, model.power), VJP_SCALE * model.a * slope * out_bar

    @__call__.jvp
    def _call_jvp(res, model_dot, x_dot):  # noqa: N805
        model, x = res.self, res.x
        slope = model.power * x ** (model.power - 1)
        return JVP_SCALE * (model_dot.a * x**model.power + model.a * slope * x_dot)


def test_method_of_a_module():
    model, x = Scaled(jnp.asarray(1.5), 3), point()
    close(model(x), 1.5 * x**3)
    close(jax.grad(lambda x: jnp.sum(model(x)))(x), VJP_SCALE * 4.5 * x**2)
    bar = eqx.filter_grad(lambda model, x: jnp.sum(model(x)))(model, x)
    assert type(bar) is Scaled
    close(bar.a, VJP_SCALE * jnp.sum(x**3))
    dot = eqx.filter_jvp(lambda model: model(x), (model,), (Scaled(jnp.asarray(2.0), 3),))[1]
    close(dot, JVP_SCALE * 2 * x**3)
    got = eqx.filter_jit(eqx.filter_vmap(jax.grad(lambda x: jnp.sum(model(x)))))(point(2, 4))
    close(got, VJP_SCALE * 4.5 * point(2, 4) ** 2)


# A rule whose argument is a module.


@diptych.rule
def apply(model, x):
    return jnp.sin(model.weight @ x + model.bias)


@apply.vjp
def apply_vjp(res, out_bar):
    model, x = res.model, res.x
    bar = VJP_SCALE * jnp.cos(model.weight @ x + model.bias) * out_bar
    return Affine(jnp.outer(bar, x), bar), model.weight.T @ bar


class Affine(eqx.Module):
    weight: jax.Array
    bias: jax.Array


def test_module_as_an_argument():
    model, x = Affine(point(3, 4), point(3, seed=1)), point()

    def plain(model, x):
        return jnp.sin(model.weight @ x + model.bias)

    def bars(f):
        return jax.grad(lambda model, x: jnp.sum(f(model, x) ** 2), (0, 1))(model, x)

    close(apply(model, x), plain(model, x))
    close(bars(apply), times(VJP_SCALE, bars(plain)))
    dots = jax.jvp(apply, (model, x), (model, x))[1]
    close(dots, VJP_SCALE * jax.jvp(plain, (model, x), (model, x))[1])
    close(eqx.filter_jit(apply)(model, x), plain(model, x))


def test_module_as_an_output():
    @diptych.rule
    def doubled(x):
        return Affine(2 * x, x + 1)

    @doubled.vjp
    def doubled_vjp(res, out_bar):
        return VJP_SCALE * (2 * out_bar.weight + out_bar.bias)

    x = point()
    out = doubled(x)
    assert type(out) is Affine
    close((out.weight, out.bias), (2 * x, x + 1))
    got = jax.grad(lambda x: jnp.sum(doubled(x).weight * x[0] + 3 * doubled(x).bias))(x)
    extra = jnp.zeros(4).at[0].set(jnp.sum(2 * x))
    close(got, VJP_SCALE * (2 * x[0] + 3) + extra)
    dot = jax.jvp(doubled, (x,), (x,))[1]
    close((dot.weight, dot.bias), (VJP_SCALE * 2 * x, VJP_SCALE * x))


def test_layers_of_the_library_around_a_rule():
    @diptych.rule
    def swish(x):
        return x / (1 + jnp.exp(-x))

    @swish.partials
    def swish_partials(res):
        s = 1 / (1 + jnp.exp(-res.x))
        return s * (1 + res.x * (1 - s))  # the true derivative: two layers multiply theirs

    def network(f):
        return eqx.nn.MLP(4, 2, 8, 2, activation=f, key=jax.random.key(0))

    def bars(f):
        loss = eqx.filter_jit(eqx.filter_grad(lambda m: jnp.sum(m(point()) ** 2)))
        return jax.tree.leaves(eqx.filter(loss(network(f)), eqx.is_array))

    close(bars(swish), bars(jax.nn.silu))

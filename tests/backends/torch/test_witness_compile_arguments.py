"""Compiled rules: static arguments, pytrees, modules, several outputs, tensors from outside."""

import pytest
import torch
from compiling import clean_dynamo, compiled
from torch.func import grad
from torch_witnesses import WITNESSES, close, point, right_or_raises, weights

import diptych

__all__ = ["clean_dynamo"]

vmap = torch.vmap


# static arguments ---------------------------------------------------------------------------------


@diptych.rule(static=("n", "how"))
def wavy(x, n, how=torch.sin):
    return how(n * x)


@wavy.vjp
def wavy_vjp(res, out_bar):
    slope = torch.cos if res.how is torch.sin else lambda x: -torch.sin(x)
    return 2 * res.n * slope(res.n * res.x) * out_bar


def wavy_slope(x, n, how=torch.sin):
    return 2 * n * (torch.cos(n * x) if how is torch.sin else -torch.sin(n * x))


STATICS = [(2,), (3,), (2.5, torch.cos), (2, torch.cos), (3,)]


def test_static_arguments_change_between_calls():
    f = compiled(lambda x, *static: wavy(x, *static))
    for static in STATICS:
        x = point().requires_grad_()
        out = f(x, *static)
        (got,) = torch.autograd.grad(out.sum(), x)
        close(got, wavy_slope(point(), *static))


@pytest.mark.parametrize("static", STATICS[:3], ids=["two", "three", "cosine"])
@pytest.mark.parametrize(
    "transform", [lambda f: grad(lambda x: f(x).sum()), lambda f: vmap(grad(f))]
)
def test_static_arguments_under_torch_func(static, transform):
    close(compiled(transform(lambda x: wavy(x, *static)))(point()), wavy_slope(point(), *static))


@diptych.rule(static="how")
def chosen(x, how):
    return torch.sin(x) if how == "sine" else x**3


@chosen.jvp
def chosen_jvp(res, x_dot):
    return 3 * x_dot * (torch.cos(res.x) if res.how == "sine" else 3 * res.x**2)


def test_string_as_static_argument():
    f = compiled(lambda x, how: vmap(grad(lambda x: chosen(x, how=how)))(x))
    close(f(point(), "sine"), 3 * torch.cos(point()))
    close(f(point(), "cube"), 9 * point() ** 2)
    close(f(point(), "sine"), 3 * torch.cos(point()))


class Stretch:
    """A static argument with no notion of equality but identity."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * x


@diptych.rule(static="stretch")
def stretched(x, stretch):
    return torch.sin(stretch(x))


@stretched.vjp
def stretched_vjp(res, out_bar):
    return 2 * res.stretch.factor * torch.cos(res.stretch(res.x)) * out_bar


def test_object_as_static_argument():
    f = compiled(lambda x, stretch: stretched(x, stretch))
    for stretch in (Stretch(2.0), Stretch(3.0)):
        x = point().requires_grad_()
        (got,) = torch.autograd.grad(f(x, stretch).sum(), x)
        close(got, 2 * stretch.factor * torch.cos(stretch(point())))


def test_unhashable_static_argument_is_right_or_raises():
    @diptych.rule(static="factors")
    def weighed(x, factors):
        return torch.sin(x * sum(factors))

    @weighed.vjp
    def weighed_vjp(res, out_bar):
        total = sum(res.factors)
        return 2 * total * torch.cos(res.x * total) * out_bar

    def gradient(f):
        x = point().requires_grad_()
        return torch.autograd.grad(f(x, [1.0, 2.0]).sum(), x)[0]

    want = 6 * torch.cos(3 * point())
    close(gradient(weighed), want)
    right_or_raises(
        lambda: gradient(compiled(lambda x, factors: weighed(x, factors))), want, "hash|static"
    )


# what a rule reads from outside -------------------------------------------------------------------

GRID = point(4, seed=7)


@diptych.rule
def gridded(x):
    return torch.sin(x) * GRID


@gridded.vjp
def gridded_vjp(res, out_bar):
    return 2 * torch.cos(res.x) * GRID * out_bar


def test_tensor_from_outside():
    x = point().requires_grad_()
    (got,) = torch.autograd.grad(compiled(lambda x: gridded(x))(x).sum(), x)
    close(got, 2 * torch.cos(point()) * GRID)
    close(compiled(grad(lambda x: gridded(x).sum()))(point()), 2 * torch.cos(point()) * GRID)


def test_tensor_in_a_static_argument_is_right_or_raises():
    class Grid:
        values = GRID

    @diptych.rule(static="grid")
    def on_grid(x, grid):
        return torch.sin(x) * grid.values

    @on_grid.vjp
    def on_grid_vjp(res, out_bar):
        return 2 * torch.cos(res.x) * res.grid.values * out_bar

    def gradient():
        x = point().requires_grad_()
        return torch.autograd.grad(compiled(lambda x: on_grid(x, Grid()))(x).sum(), x)[0]

    right_or_raises(gradient, 2 * torch.cos(point()) * GRID, "tensor|Tensor|argument")


# pytrees, modules ---------------------------------------------------------------------------------


@diptych.rule
def affine(params, x):
    return {"out": torch.sin(params["w"][0]) @ x + params["b"], "norm": (x * x).sum()}


@affine.vjp
def affine_vjp(res, bar):
    (w, _), x = res.params["w"], res.x
    w_bar = 2 * torch.cos(w) * torch.outer(bar["out"], x)
    x_bar = 2 * (torch.sin(w).T @ bar["out"] + 2 * x * bar["norm"])
    return {"w": (w_bar, None), "b": 2 * bar["out"]}, x_bar


def affine_plain(params, x):
    return {"out": torch.sin(params["w"][0]) @ x + params["b"], "norm": (x * x).sum()}


def _params(requires_grad=False):
    params = {"w": (point(3, 4), point(2)), "b": point(3, seed=1)}
    leaves = [params["w"][0], params["b"]]
    return params, [leaf.requires_grad_(requires_grad) for leaf in leaves]


def test_pytrees():
    def gradients(f):
        params, leaves = _params(requires_grad=True)
        out = f(params, point(seed=2))
        return torch.autograd.grad((weights(out["out"]) * out["out"]).sum() + out["norm"], leaves)

    want = gradients(affine_plain)
    close(gradients(compiled(lambda params, x: affine(params, x))), tuple(2 * w for w in want))


def test_pytrees_under_torch_func():
    def gradients(f, params, x):
        def loss(b, x):
            out = f({"w": params["w"], "b": b}, x)
            return (weights(out["out"]) * out["out"]).sum() + out["norm"]

        return vmap(grad(loss, argnums=(0, 1)), in_dims=(None, 0))(params["b"], x)

    params, _ = _params()
    got = compiled(lambda params, x: gradients(affine, params, x))(params, point(5, 4))
    close(got, tuple(2 * want for want in gradients(affine_plain, params, point(5, 4))))


@pytest.mark.parametrize("kind", ["vjp", "both", "kept"])
def test_module(kind):
    witness = WITNESSES[kind]

    class Layer(torch.nn.Module):
        def __init__(self, f):
            super().__init__()
            self.weight = torch.nn.Parameter(point(4, 4))
            self.f = f

        def forward(self, x):
            return self.f(self.weight @ x)

    def gradient(f, wrap):
        layer = Layer(f)
        out = wrap(layer)(point())
        (weights(out) * out).sum().backward()
        return layer.weight.grad

    close(gradient(witness.rule, compiled), witness.reverse * gradient(witness.plain, lambda f: f))


def test_several_outputs_and_an_integer_one():
    @diptych.rule
    def ranked(x):
        order = torch.argsort(x)
        return torch.sin(x), order, torch.exp(x)

    @ranked.vjp
    def ranked_vjp(res, bar):
        return 2 * (bar[0] * torch.cos(res.x) + bar[2] * torch.exp(res.x))

    x = point().requires_grad_()
    sine, order, growth = compiled(lambda x: ranked(x))(x)
    assert torch.equal(order, torch.argsort(point()))
    assert not order.requires_grad
    (got,) = torch.autograd.grad(sine.sum() + (weights(growth) * growth).sum(), x)
    x = point()
    close(got, 2 * (torch.cos(x) + weights(x) * torch.exp(x)))


@diptych.rule(static=("n", "how"))
def summed(x, *more, n=1, how="sum"):
    return n * torch.sin(x) + sum(m.sum() for m in more)


@summed.vjp
def summed_vjp(res, out_bar):
    pulled = [2 * out_bar.sum() * torch.ones_like(m) for m in res.more]
    return 2 * res.n * torch.cos(res.x) * out_bar, *pulled


@pytest.mark.parametrize("options", [{}, {"n": 3}], ids=["default", "keyword"])
def test_keyword_only_static_arguments_after_any_number_of_arrays(options):
    arrays = (point(4), point(2, seed=1), point(3, seed=2))
    f = grad(lambda *xs: summed(*xs, **options).sum(), argnums=(0, 1, 2))
    scale = 2 * options.get("n", 1)
    want = (scale * torch.cos(arrays[0]), *[torch.full_like(x, 8.0) for x in arrays[1:]])
    close(f(*arrays), want)
    close(compiled(f)(*arrays), want)


@diptych.rule(static=("powers", "options"))
def polynomial(x, *powers, **options):
    return options["scale"] * sum(x**p for p in powers)


@polynomial.vjp
def polynomial_vjp(res, out_bar):
    return 2 * res.options["scale"] * sum(p * res.x ** (p - 1) for p in res.powers) * out_bar


def test_any_number_of_static_arguments():
    f = grad(lambda x: polynomial(x, 2, 3, scale=5.0).sum())
    want = 10 * (2 * point() + 3 * point() ** 2)
    close(f(point()), want)
    close(compiled(f)(point()), want)

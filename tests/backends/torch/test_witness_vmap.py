"""Witness rules in and around torch.vmap: axes, nesting, every transform on either side."""

import pytest
import torch
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vjp
from torch_witnesses import (
    WITNESSES,
    close,
    directional,
    every_witness,
    point,
    weighted,
    weights,
)

import diptych

vmap = torch.vmap


def rows(f, batch):
    """Returns f of every row, by a loop: what vmap must equal."""
    return torch.stack([f(row) for row in batch])


@every_witness
@pytest.mark.parametrize("in_dims", [0, 1, 2, -1, -2])
@pytest.mark.parametrize("out_dims", [0, 1, 2, -1])
def test_axes_of_the_value(witness, in_dims, out_dims):
    batch = point(4, 4, 4)
    got = vmap(witness.rule, in_dims=in_dims, out_dims=out_dims)(batch)
    close(got, vmap(witness.plain, in_dims=in_dims, out_dims=out_dims)(batch))


@every_witness
@pytest.mark.parametrize("in_dims", [0, 1, 2, -1])
@pytest.mark.parametrize("out_dims", [0, 1, -1])
def test_axes_of_the_derivative(witness, in_dims, out_dims):
    batch = point(4, 4, 4)

    def mapped(f):
        return vmap(f, in_dims=in_dims, out_dims=out_dims)(batch)

    close(
        mapped(grad(weighted(witness.rule))),
        witness.reverse * mapped(grad(weighted(witness.plain))),
    )
    close(
        mapped(directional(witness.rule)),
        witness.forward * mapped(directional(witness.plain)),
    )


def _vjp(f):
    def pulled(x):
        out, pull = vjp(f, x)
        return pull(weights(out))[0]

    return pulled


def _hessian(f):
    return hessian(weighted(f))


def _grad(f):
    return grad(weighted(f))


INSIDE = {
    "grad": (_grad, "reverse"),
    "vjp": (_vjp, "reverse"),
    "jvp": (directional, "forward"),
    "jacrev": (jacrev, "reverse"),
    "jacfwd": (jacfwd, "forward"),
    "hessian": (_hessian, "reverse"),
    "jacrev of jacfwd": (lambda f: jacrev(jacfwd(f)), "forward"),
    "jacfwd of jacfwd": (lambda f: jacfwd(jacfwd(f)), "forward"),
    "jvp of jvp": (lambda f: directional(directional(f)), "forward"),
    "grad of grad": (lambda f: _grad(_grad(f)), "reverse"),
}


@every_witness
@pytest.mark.parametrize("name", list(INSIDE))
def test_vmap_of_a_derivative(witness, name):
    transform, mode = INSIDE[name]
    batch = point(5, 4)
    got = vmap(transform(witness.rule))(batch)
    close(got, witness.scale(mode) * rows(transform(witness.plain), batch))


@every_witness
@pytest.mark.parametrize("name", list(INSIDE))
def test_derivative_of_a_vmap(witness, name):
    transform, mode = INSIDE[name]
    batch = point(3, 4)
    got = transform(vmap(witness.rule))(batch)
    close(got, witness.scale(mode) * transform(vmap(witness.plain))(batch))


@every_witness
@pytest.mark.parametrize("name", ["grad", "jvp", "jacrev", "jacfwd", "hessian"])
def test_nested_vmap_of_a_derivative(witness, name):
    transform, mode = INSIDE[name]
    batch = point(2, 4, 3)
    got = vmap(vmap(transform(witness.rule), in_dims=1), out_dims=1)(batch)
    want = vmap(vmap(transform(witness.plain), in_dims=1), out_dims=1)(batch)
    close(got, witness.scale(mode) * want)


@every_witness
@pytest.mark.parametrize("name", ["grad", "jvp", "jacrev", "jacfwd"])
def test_vmap_around_a_derivative_of_a_vmap(witness, name):
    transform, mode = INSIDE[name]
    batch = point(2, 3, 4)
    got = vmap(transform(vmap(witness.rule)))(batch)
    close(got, witness.scale(mode) * vmap(transform(vmap(witness.plain)))(batch))


@every_witness
def test_derivative_around_a_vmap_of_a_derivative(witness):
    def meta(f):
        return grad(lambda batch: vmap(_grad(f))(batch).sum())(point(3, 4))

    close(meta(witness.rule), witness.reverse * meta(witness.plain))


@every_witness
def test_eager_autograd_around_vmap(witness):
    x, y = point(5, 4).requires_grad_(), point(5, 4).requires_grad_()
    (got,) = torch.autograd.grad(vmap(witness.rule)(x).sum(), x, create_graph=True)
    (want,) = torch.autograd.grad(vmap(witness.plain)(y).sum(), y, create_graph=True)
    close(got.detach(), witness.reverse * want.detach())
    (got,) = torch.autograd.grad(got, x, weights(got))
    (want,) = torch.autograd.grad(want, y, weights(want))
    close(got, witness.reverse * want)


@every_witness
def test_batch_of_cotangents_on_one_primal(witness):
    # Only the cotangent is batched: the residuals are not.
    x, basis = point(), torch.eye(witness.plain(point()).numel(), dtype=torch.float64)
    _, pull = vjp(witness.rule, x)
    close(vmap(pull)(basis)[0], witness.reverse * jacrev(witness.plain)(x))


@every_witness
def test_batch_of_tangents_on_one_primal(witness):
    x, basis = point(), torch.eye(4, dtype=torch.float64)
    got = vmap(lambda x_dot: jvp(witness.rule, (x,), (x_dot,))[1])(basis)
    close(got, witness.forward * jacfwd(witness.plain)(x).T)


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")
@every_witness
def test_batch_of_tangents_on_a_linearized_rule(witness):
    _, push = linearize(witness.rule, point())
    got = vmap(push)(torch.eye(4, dtype=torch.float64))
    close(got, witness.forward * jacfwd(witness.plain)(point()).T)


@every_witness
def test_chunks(witness):
    batch = point(5, 4)
    got = vmap(_grad(witness.rule), chunk_size=2)(batch)
    close(got, witness.reverse * rows(_grad(witness.plain), batch))


@every_witness
def test_batch_of_one(witness):
    batch = point(1, 4)
    close(vmap(jacrev(witness.rule))(batch), witness.reverse * rows(jacrev(witness.plain), batch))


@diptych.rule
def scaled(x, y):
    return torch.cumsum(torch.sin(x) * y, -1)


@scaled.vjp
def scaled_vjp(res, out_bar):
    back = torch.flip(torch.cumsum(torch.flip(out_bar, (-1,)), -1), (-1,))
    return 2 * back * torch.cos(res.x) * res.y, 2 * back * torch.sin(res.x)


@scaled.jvp
def scaled_jvp(res, x_dot, y_dot):
    return 3 * torch.cumsum(torch.cos(res.x) * x_dot * res.y + torch.sin(res.x) * y_dot, -1)


def scaled_plain(x, y):
    return torch.cumsum(torch.sin(x) * y, -1)


def loss_of(f):
    def loss(x, y):
        out = f(x, y)
        return (weights(out) * out).sum()

    return loss


@pytest.mark.parametrize("in_dims", [(0, None), (None, 0), (0, 0), (0, 1), (1, -1)], ids=str)
def test_arguments_batched_along_their_own_axes(in_dims):
    x, y = (point(*([4, 4] if dim is not None else [4]), seed=i) for i, dim in enumerate(in_dims))

    def gradients(f):
        return vmap(grad(loss_of(f), argnums=(0, 1)), in_dims=in_dims)(x, y)

    def tangents(f):
        push = lambda x, y: jvp(f, (x, y), (weights(x), weights(y)))[1]  # noqa: E731
        return vmap(push, in_dims=in_dims, out_dims=1)(x, y)

    close(vmap(scaled, in_dims)(x, y), vmap(scaled_plain, in_dims)(x, y))
    close(gradients(scaled), tuple(2 * want for want in gradients(scaled_plain)))
    close(tangents(scaled), 3 * tangents(scaled_plain))


@pytest.mark.parametrize("in_dims", [(0, None), (None, 0)], ids=str)
def test_gradient_of_an_unbatched_argument_is_summed_over_the_batch(in_dims):
    x, y = (point(*([5, 4] if dim is not None else [4]), seed=i) for i, dim in enumerate(in_dims))

    def gradients(f):
        total = lambda x, y: vmap(loss_of(f), in_dims)(x, y).sum()  # noqa: E731
        return grad(total, argnums=(0, 1))(x, y)

    close(gradients(scaled), tuple(2 * want for want in gradients(scaled_plain)))


@diptych.rule
def tree_rule(params, x):
    return {"out": torch.sin(params["w"]) * x, "sum": (params["b"][0] + x).sum()}


@tree_rule.vjp
def tree_rule_vjp(res, bar):
    w, x = res.params["w"], res.x
    w_bar = 2 * bar["out"] * torch.cos(w) * x
    b_bar = 2 * bar["sum"] * torch.ones_like(x)
    return {"w": w_bar, "b": [b_bar]}, 2 * (bar["out"] * torch.sin(w) + bar["sum"])


def tree_plain(params, x):
    return {"out": torch.sin(params["w"]) * x, "sum": (params["b"][0] + x).sum()}


def test_pytrees_under_vmap():
    params = {"w": point(5, 4), "b": [point(4, seed=1)]}
    in_dims = ({"w": 0, "b": [None]}, 0)

    def total(f):
        return lambda params, x: sum(leaf.sum() for leaf in f(params, x).values())

    def gradients(f):
        return vmap(grad(total(f), argnums=(0, 1)), in_dims)(params, point(5, 4, seed=2))

    got, want = gradients(tree_rule), gradients(tree_plain)
    close(got, torch.utils._pytree.tree_map(lambda leaf: 2 * leaf, want))
    values = vmap(tree_rule, in_dims, out_dims={"out": 1, "sum": 0})(params, point(5, 4, seed=2))
    close(values, vmap(tree_plain, in_dims, {"out": 1, "sum": 0})(params, point(5, 4, seed=2)))


@pytest.mark.parametrize("name", ["vjp", "both", "kept"])
def test_per_sample_gradients_of_a_module(name):
    witness = WITNESSES[name]

    def gradients(f):
        layer = torch.nn.Linear(4, 4, dtype=torch.float64)
        layer.load_state_dict({"weight": point(4, 4), "bias": point(4, seed=1)})
        params = dict(layer.named_parameters())

        def loss(params, x):
            return weighted(f)(functional_call(layer, params, (x,)))

        return vmap(grad(loss), in_dims=(None, 0))(params, point(5, 4, seed=2))["weight"]

    close(gradients(witness.rule), witness.reverse * gradients(witness.plain))


def test_random_masks_follow_vmap_s_randomness():
    @diptych.rule
    def dropped(x):
        return torch.rand_like(x) * x

    @dropped.fwd
    def dropped_fwd(x):
        mask = torch.rand_like(x)
        return mask * x, (mask,)

    @dropped.vjp
    def dropped_vjp(res, out_bar):
        return 2 * res[0] * out_bar

    torch.manual_seed(0)
    batch = torch.ones(8, 4, dtype=torch.float64)

    def value_and_slope(x):
        out, pull = vjp(dropped, x)
        return out, pull(torch.ones_like(x))[0]

    out, slope = vmap(value_and_slope, randomness="different")(batch)
    assert out.unique().numel() == out.numel()
    # The mask of the derivative is the one that made the value.
    close(slope, 2 * out)

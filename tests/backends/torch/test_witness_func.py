"""Witness rules under torch.func: every transform, every nesting of two and of three."""

import itertools

import pytest
import torch
from torch.func import (
    functional_call,
    grad,
    grad_and_value,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    linearize,
    vjp,
)
from torch_witnesses import (
    WITNESSES,
    close,
    directional,
    every_witness,
    point,
    weighted,
    weights,
)


def _jvp(f):
    """Returns x -> J(x) v, v fixed."""
    return directional(f)


def _vjp(f):
    """Returns x -> J*(x) w, w fixed."""

    def pulled(x):
        out, pull = vjp(f, x)
        return pull(weights(out))[0]

    return pulled


def _linearize(f):
    def pushed(x):
        _, push = linearize(f, x)
        return push(weights(x))

    return pushed


def _grad(f):
    """Returns x -> the gradient of <weights, f(x)>."""
    return grad(weighted(f))


# PyTorch's linearize folds constants with a warning of its own, rule or no rule.
pytestmark = pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")

FORWARD = {"jvp": _jvp, "jacfwd": jacfwd}
REVERSE = {"grad": _grad, "vjp": _vjp, "jacrev": jacrev}
BOTH = {**FORWARD, **REVERSE}


def _mode(name):
    return "forward" if name in FORWARD else "reverse"


@every_witness
@pytest.mark.parametrize("name", list(BOTH))
def test_one_transform(witness, name):
    got = BOTH[name](witness.rule)(point())
    close(got, witness.scale(_mode(name)) * BOTH[name](witness.plain)(point()))


@every_witness
@pytest.mark.parametrize("names", list(itertools.product(BOTH, BOTH)), ids="-of-".join)
def test_two_deep(witness, names):
    outer, inner = (BOTH[name] for name in names)
    got = outer(inner(witness.rule))(point())
    close(got, witness.scale(_mode(names[1])) * outer(inner(witness.plain))(point()))


@every_witness
@pytest.mark.parametrize(
    "names", list(itertools.product(("jacfwd", "jacrev"), repeat=3)), ids="-of-".join
)
def test_three_deep(witness, names):
    outer, middle, inner = (BOTH[name] for name in names)
    got = outer(middle(inner(witness.rule)))(point())
    close(got, witness.scale(_mode(names[2])) * outer(middle(inner(witness.plain)))(point()))


@pytest.mark.parametrize("name", ["vjp", "jvp", "both", "kept"])
@pytest.mark.parametrize(
    "names",
    [
        ("jvp", "jvp", "jvp"),
        ("grad", "grad", "grad"),
        ("jvp", "vjp", "jvp"),
        ("vjp", "jvp", "grad"),
    ],
    ids="-of-".join,
)
def test_three_deep_without_batching(name, names):
    witness = WITNESSES[name]
    outer, middle, inner = (BOTH[key] for key in names)
    got = outer(middle(inner(witness.rule)))(point())
    close(got, witness.scale(_mode(names[2])) * outer(middle(inner(witness.plain)))(point()))


@every_witness
def test_linearize(witness):
    close(_linearize(witness.rule)(point()), witness.forward * _linearize(witness.plain)(point()))


@every_witness
def test_linearized_map_is_reusable(witness):
    x = point()
    out, push = linearize(witness.rule, x)
    close(out, witness.plain(x))
    for seed in (1, 2):
        x_dot = point(seed=seed)
        close(push(x_dot), witness.forward * jvp(witness.plain, (x,), (x_dot,))[1])


@every_witness
def test_linearize_of_the_gradient(witness):
    got = _linearize(_grad(witness.rule))(point())
    close(got, witness.reverse * _linearize(_grad(witness.plain))(point()))


@every_witness
def test_hessian(witness):
    got = hessian(weighted(witness.rule))(point())
    close(got, witness.reverse * hessian(weighted(witness.plain))(point()))


@every_witness
def test_primal_values_under_transforms(witness):
    x = point()
    want = witness.plain(x)
    out, pull = vjp(witness.rule, x)
    close(out, want)
    close(jvp(witness.rule, (x,), (weights(x),))[0], want)
    close(grad_and_value(weighted(witness.rule))(x)[1], weighted(witness.plain)(x))
    aux = grad(lambda x: (weighted(witness.rule)(x), witness.rule(x)), has_aux=True)(x)[1]
    close(aux, want)
    # One pullback serves many cotangents.
    for seed in (1, 2):
        out_bar = point(*out.shape, seed=seed)
        close(pull(out_bar)[0], witness.reverse * vjp(witness.plain, x)[1](out_bar)[0])


@every_witness
@pytest.mark.parametrize("chunk_size", [1, 2])
def test_chunked_jacobians(witness, chunk_size):
    want = jacrev(witness.plain)(point())
    close(jacrev(witness.rule, chunk_size=chunk_size)(point()), witness.reverse * want)
    close(jacfwd(witness.rule, randomness="same")(point()), witness.forward * want)


@every_witness
def test_eager_autograd_around_torch_func(witness):
    x = point().requires_grad_()
    y = point().requires_grad_()
    for inner, mode in ((_grad, "reverse"), (_jvp, "forward")):
        (got,) = torch.autograd.grad(inner(witness.rule)(x).sum(), x)
        (want,) = torch.autograd.grad(inner(witness.plain)(y).sum(), y)
        close(got, witness.scale(mode) * want)


@every_witness
def test_dual_numbers_around_torch_func(witness):
    def outer(f):
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(point(), weights(point()))
            return torch.autograd.forward_ad.unpack_dual(_grad(f)(dual)).tangent

    close(outer(witness.rule), witness.reverse * outer(witness.plain))


@every_witness
def test_closed_over_outer_level(witness):
    # The outer variable reaches the inner transform only through the closure.
    def through(f):
        def outer(scale):
            return grad(lambda x: weighted(f)(scale * x))(point()).sum()

        return grad(outer)(torch.tensor(1.1, dtype=torch.float64))

    close(through(witness.rule), witness.reverse * through(witness.plain))


@every_witness
def test_functional_call_of_a_module(witness):
    class Layer(torch.nn.Module):
        def __init__(self, f):
            super().__init__()
            self.weight = torch.nn.Parameter(point(4, 4))
            self.f = f

        def forward(self, x):
            return self.f(self.weight @ x)

    def gradient(f):
        layer = Layer(f)

        def loss(params, x):
            return weighted(lambda x: functional_call(layer, params, (x,)))(x)

        return grad(loss)({"weight": layer.weight.detach()}, point())["weight"]

    close(gradient(witness.rule), witness.reverse * gradient(witness.plain))

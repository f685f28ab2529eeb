"""Witness rules under torch.compile(fullgraph=True): torch.func, vmap, dual numbers, autograd.

Left out, because PyTorch 2.13 cannot compile them for plain functions either: linearize, jvp of jvp
of anything further, vmap of jacfwd of a transform, autograd.functional and saved_tensors_hooks.
"""

import pytest
import torch
from compiling import clean_dynamo, compiled
from torch.autograd import forward_ad
from torch.func import grad, grad_and_value, hessian, jacfwd, jacrev, jvp, vjp
from torch.utils.checkpoint import checkpoint
from torch_witnesses import WITNESSES, close, directional, point, weighted, weights

__all__ = ["clean_dynamo"]

vmap = torch.vmap


def _grad(f):
    return grad(weighted(f))


def _vjp(f):
    def pulled(x):
        out, pull = vjp(f, x)
        return pull(weights(out))[0]

    return pulled


def _dual(f):
    def pushed(x):
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(f(forward_ad.make_dual(x, weights(x)))).tangent

    return pushed


def _aux(f):
    return lambda x: grad(lambda x: (weighted(f)(x), f(x)), has_aux=True)(x)[0]


ONE = {
    "grad": (_grad, "reverse"),
    "vjp": (_vjp, "reverse"),
    "jvp": (directional, "forward"),
    "jacrev": (jacrev, "reverse"),
    "jacfwd": (jacfwd, "forward"),
    "dual numbers": (_dual, "forward"),
    "grad_and_value": (lambda f: lambda x: grad_and_value(weighted(f))(x)[0], "reverse"),
    "grad with aux": (_aux, "reverse"),
}
NESTED = {
    "hessian": (lambda f: hessian(weighted(f)), "reverse"),
    "grad of grad": (lambda f: _grad(_grad(f)), "reverse"),
    "jvp of grad": (lambda f: directional(_grad(f)), "reverse"),
    "grad of jvp": (lambda f: _grad(directional(f)), "forward"),
    "jvp of jvp": (lambda f: directional(directional(f)), "forward"),
    "jacfwd of jacfwd": (lambda f: jacfwd(jacfwd(f)), "forward"),
    "jacrev of jacfwd": (lambda f: jacrev(jacfwd(f)), "forward"),
    "jacrev of jacrev": (lambda f: jacrev(jacrev(f)), "reverse"),
    "jvp of grad of grad": (lambda f: directional(_grad(_grad(f))), "reverse"),
    "grad of grad of grad": (lambda f: _grad(_grad(_grad(f))), "reverse"),
}
MAPPED = {
    "vmap of grad": (lambda f: vmap(_grad(f)), "reverse"),
    "vmap of vjp": (lambda f: vmap(_vjp(f)), "reverse"),
    "vmap of jvp": (lambda f: vmap(directional(f)), "forward"),
    "vmap of jacrev": (lambda f: vmap(jacrev(f)), "reverse"),
    "vmap of jacfwd": (lambda f: vmap(jacfwd(f)), "forward"),
    "vmap of grad of grad": (lambda f: vmap(_grad(_grad(f))), "reverse"),
    "vmap of jacrev of jacfwd": (lambda f: vmap(jacrev(jacfwd(f))), "forward"),
    "grad of vmap": (lambda f: _grad(vmap(f)), "reverse"),
    "jvp of vmap": (lambda f: directional(vmap(f)), "forward"),
    "grad of vmap of grad": (lambda f: _grad(vmap(_grad(f))), "reverse"),
    "vmap over the last axis": (
        lambda f: lambda x: vmap(_grad(f), in_dims=-1, out_dims=1)(x.T),
        "reverse",
    ),
    "nested vmap of grad": (
        lambda f: lambda x: vmap(vmap(_grad(f)), in_dims=1)(torch.stack([x, 2 * x])),
        "reverse",
    ),
}
# One compilation each: the kinds whose push and pull are derived are left to the full run.
KINDS = [
    pytest.param("vjp", marks=pytest.mark.slow),
    pytest.param("jvp", marks=pytest.mark.slow),
    "both",
    "kept",
]


@pytest.mark.parametrize("kind", list(WITNESSES))
@pytest.mark.parametrize("name", list(ONE))
def test_one_transform(kind, name):
    witness, (transform, mode) = WITNESSES[kind], ONE[name]
    got = compiled(transform(witness.rule))(point())
    close(got, witness.scale(mode) * transform(witness.plain)(point()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(NESTED))
def test_nested_transforms(kind, name):
    witness, (transform, mode) = WITNESSES[kind], NESTED[name]
    got = compiled(transform(witness.rule))(point())
    close(got, witness.scale(mode) * transform(witness.plain)(point()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(MAPPED))
def test_vmap_with_transforms(kind, name):
    witness, (transform, mode) = WITNESSES[kind], MAPPED[name]
    got = compiled(transform(witness.rule))(point(3, 4))
    close(got, witness.scale(mode) * transform(witness.plain)(point(3, 4)))


@pytest.mark.parametrize("kind", list(WITNESSES))
def test_value_and_gradient_around_compiled_code(kind):
    witness = WITNESSES[kind]
    f = compiled(lambda x: witness.rule(2 * x) * 3)
    x, y = point().requires_grad_(), point().requires_grad_()
    out, want = f(x), witness.plain(2 * y) * 3
    close(out.detach(), want.detach())
    (got,) = torch.autograd.grad(out, x, weights(out))
    close(got, witness.reverse * torch.autograd.grad(want, y, weights(want))[0])
    with torch.no_grad():
        close(f(x), want.detach())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_dims", [0, 1])
def test_vmap_in_compiled_code_and_gradient_around_it(kind, in_dims):
    witness = WITNESSES[kind]

    def total(f, x):
        out = vmap(f, in_dims=in_dims, out_dims=in_dims)(x)
        return out, (weights(out) * out).sum()

    x, y = point(4, 4).requires_grad_(), point(4, 4).requires_grad_()
    out, loss = compiled(lambda x: total(witness.rule, x))(x)
    want_out, want = total(witness.plain, y)
    close(out.detach(), want_out.detach())
    close(torch.autograd.grad(loss, x)[0], witness.reverse * torch.autograd.grad(want, y)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["grad", "jvp", "vjp"])
def test_gradient_around_a_compiled_derivative(kind, name):
    witness, (transform, mode) = WITNESSES[kind], ONE[name]
    x, y = point().requires_grad_(), point().requires_grad_()
    out, want = compiled(transform(witness.rule))(x), transform(witness.plain)(y)
    (got,) = torch.autograd.grad(out, x, weights(out))
    close(got, witness.scale(mode) * torch.autograd.grad(want, y, weights(want))[0])


def _inner_grad(f):
    def inner(x):
        out = f(x)
        return torch.autograd.grad(out, x, weights(out))[0]

    return inner


def _inner_second(f):
    def inner(x):
        (first,) = torch.autograd.grad(weighted(f)(x), x, create_graph=True)
        return torch.autograd.grad(first, x, weights(first))[0]

    return inner


def _inner_backward(f):
    def inner(x):
        weighted(f)(x).backward()
        return x.grad

    return inner


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cell", [_inner_grad, _inner_second, _inner_backward])
def test_autograd_inside_compiled_code(kind, cell):
    witness = WITNESSES[kind]
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        got = compiled(cell(witness.rule))(point().requires_grad_())
    want = cell(witness.plain)(point().requires_grad_())
    close(got.detach(), witness.reverse * want.detach())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpoint_inside_compiled_code(kind, use_reentrant):
    witness = WITNESSES[kind]

    def gradient(f, wrap):
        x = point().requires_grad_()
        inner = lambda x: checkpoint(lambda x: f(1.5 * x), x, use_reentrant=use_reentrant)  # noqa: E731
        wrap(weighted(inner))(x).backward()
        return x.grad

    close(gradient(witness.rule, compiled), witness.reverse * gradient(witness.plain, lambda f: f))


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_code_inside_a_checkpoint(kind):
    witness = WITNESSES[kind]
    x, y = point().requires_grad_(), point().requires_grad_()
    checkpoint(weighted(compiled(witness.rule)), x, use_reentrant=False).backward()
    weighted(witness.plain)(y).backward()
    close(x.grad, witness.reverse * y.grad)


# Dynamo looks at .grad of whatever crosses a graph break, and PyTorch warns of it.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_rule_between_graph_breaks(kind):
    witness = WITNESSES[kind]

    def broken(f):
        def inner(x):
            x = 2 * x
            torch._dynamo.graph_break()
            out = f(x)
            torch._dynamo.graph_break()
            return (weights(out) * out).sum()

        return inner

    x, y = point().requires_grad_(), point().requires_grad_()
    torch.compile(broken(witness.rule), backend="aot_eager")(x).backward()
    broken(witness.plain)(y).backward()
    close(x.grad, witness.reverse * y.grad)


def test_two_rules_in_one_graph():
    both, kept = WITNESSES["both"], WITNESSES["kept"]

    def loss(first, second):
        return lambda x: weighted(first)(x) + 5 * weighted(second)(x)

    got = compiled(jacfwd(loss(both.rule, kept.rule)))(point())
    want = 3 * jacfwd(weighted(both.plain))(point())
    close(got, want + 2 * 5 * jacfwd(weighted(kept.plain))(point()))


def test_second_derivative_outside_a_derivative_inside():
    # grad compiled inside, autograd around it: the second order is still the rule's.
    sine = WITNESSES["partials"]
    x = point().requires_grad_()
    slope = compiled(grad(lambda x: sine.rule(x).sum()))(x)
    close(slope.detach(), 2 * torch.cos(point()))
    close(torch.autograd.grad(slope.sum(), x)[0], -2 * torch.sin(point()))


def test_primal_of_a_compiled_jvp():
    witness = WITNESSES["both"]
    out, out_dot = compiled(lambda x: jvp(witness.rule, (x,), (weights(x),)))(point())
    close(out, witness.plain(point()))
    close(out_dot, 3 * directional(witness.plain)(point()))

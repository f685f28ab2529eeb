"""Compiled rules: transforms around compiled code, shapes, dtypes, inductor."""

import pytest
import torch
from compiling import clean_dynamo, compiled, counted
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, vjp
from torch_witnesses import (
    WITNESSES,
    close,
    directional,
    every_witness,
    point,
    right_or_raises,
    weighted,
    weights,
)

import diptych

__all__ = ["clean_dynamo"]

vmap = torch.vmap


# around compiled code -----------------------------------------------------------------------------


@every_witness
def test_double_backward_through_compiled_code_raises(witness):
    x = point().requires_grad_()
    (first,) = torch.autograd.grad(compiled(weighted(witness.rule))(x), x, create_graph=True)
    # Where no argument is saved, PyTorch finds no way back to x before it can say why.
    alone = witness.name in ("kept", "kept_both", "outside")
    unconnected = "|appears to not have been used" if alone else ""
    with pytest.raises(RuntimeError, match="double backward" + unconnected):
        torch.autograd.grad(first.sum(), x)


@every_witness
def test_dual_numbers_around_compiled_code_are_right_or_raise(witness):
    x, x_dot = point(), point(seed=1)

    def tangent(f):
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(f(forward_ad.make_dual(x, x_dot))).tangent

    want = witness.forward * tangent(witness.plain)
    f = compiled(witness.rule)
    right_or_raises(lambda: tangent(f), want, "forward|dual|jvp|compil|Unsupported")


@every_witness
def test_dual_numbers_around_code_compiled_before(witness):
    # Compiled without a tangent first: a second call must not run the graph that drops it.
    x, x_dot = point(), point(seed=1)

    def tangent(f):
        with forward_ad.dual_level():
            return forward_ad.unpack_dual(f(forward_ad.make_dual(x, x_dot))).tangent

    f = compiled(witness.rule)
    close(f(x), witness.plain(x))
    want = witness.forward * tangent(witness.plain)
    right_or_raises(lambda: tangent(f), want, "forward|dual|jvp|compil|Unsupported")


@pytest.mark.parametrize(
    ("transform", "mode"),
    [
        (lambda f: grad(weighted(f)), "reverse"),
        (directional, "forward"),
        (jacrev, "reverse"),
        (jacfwd, "forward"),
        (lambda f: hessian(weighted(f)), "reverse"),
    ],
    ids=["grad", "jvp", "jacrev", "jacfwd", "hessian"],
)
@every_witness
def test_torch_func_around_compiled_code_is_right_or_raises(witness, transform, mode):
    want = witness.scale(mode) * transform(witness.plain)(point())
    f = compiled(witness.rule)
    right_or_raises(lambda: transform(f)(point()), want, "not supported|Unsupported|functorch")


@every_witness
def test_vmap_around_compiled_code_is_right_or_raises(witness):
    f = compiled(witness.rule)
    want = vmap(witness.plain)(point(3, 4))
    right_or_raises(lambda: vmap(f)(point(3, 4)), want, "not supported|Unsupported|functorch")


# shapes -------------------------------------------------------------------------------------------


@every_witness
@pytest.mark.parametrize("dynamic", [True, None])
def test_dynamic_shapes(witness, dynamic):
    f, counter = counted(lambda x: witness.rule(x * 2), dynamic=dynamic)
    for rows in (3, 5, 2, 7, 11):
        x, y = point(rows, 4).requires_grad_(), point(rows, 4).requires_grad_()
        out, want = f(x), witness.plain(y * 2)
        close(out.detach(), want.detach())
        (got,) = torch.autograd.grad(out, x, weights(out))
        close(got, witness.reverse * torch.autograd.grad(want, y, weights(want))[0])
    # Once for all sizes, or once for the first and once for all others.
    assert counter.frame_count <= (1 if dynamic else 2)


def _gradient(f):
    return grad(lambda x: f(x).sum())


def _tangent(f):
    return lambda x: torch.func.jvp(f, (x,), (0.5 * x,))[1]


@pytest.mark.parametrize("kind", ["both", "kept"])
@pytest.mark.parametrize(
    ("transform", "mode", "compilations"),
    [
        (_gradient, "reverse", 1),
        (_tangent, "forward", 1),
        (lambda f: vmap(_gradient(f)), "reverse", 1),
        # PyTorch specialises second derivatives of plain functions to each shape, too.
        (lambda f: _tangent(_gradient(f)), "reverse", 3),
    ],
    ids=["grad", "jvp", "vmap of grad", "jvp of grad"],
)
def test_dynamic_shapes_under_torch_func(kind, transform, mode, compilations):
    witness = WITNESSES[kind]
    f, counter = counted(transform(witness.rule), dynamic=True)
    for rows in (3, 5, 7):
        x = point(rows, 4)
        close(f(x), witness.scale(mode) * transform(witness.plain)(x))
    assert counter.frame_count <= compilations


def test_one_compilation_for_many_calls():
    f, counter = counted(lambda x: grad(weighted(WITNESSES["both"].rule))(x))
    for seed in range(20):
        close(f(point(seed=seed)), 2 * grad(weighted(WITNESSES["both"].plain))(point(seed=seed)))
    assert counter.frame_count == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex128], ids=str)
def test_dtypes(dtype):
    rule = WITNESSES["partials"].rule
    x = point().to(dtype).requires_grad_()
    out = compiled(rule)(x)
    assert out.dtype == dtype
    (got,) = torch.autograd.grad(out, x, torch.ones_like(out))
    torch.testing.assert_close(got, 2 * torch.cos(x.detach()).conj().resolve_conj())


# diptych's own transforms -------------------------------------------------------------------------


OWN = {
    "grad": (lambda f: diptych.grad(weighted(f)), "reverse"),
    "value_and_grad": (lambda f: lambda x: diptych.value_and_grad(weighted(f))(x)[1], "reverse"),
    "jvp": (lambda f: lambda x: diptych.jvp(f, (x,), (weights(x),))[1], "forward"),
    "vjp": (lambda f: lambda x: diptych.vjp(f, x)[1](weights(f(x)))[0], "reverse"),
    "jacobian, forward": (lambda f: diptych.jacobian(f, mode="forward"), "forward"),
    "jacobian, reverse": (lambda f: diptych.jacobian(f, mode="reverse"), "reverse"),
    "hessian": (lambda f: diptych.hessian(weighted(f)), "reverse"),
    "hvp": (lambda f: lambda x: diptych.hvp(weighted(f), (x,), (weights(x),))[1], "reverse"),
    "vmap of grad": (
        lambda f: lambda x: diptych.vmap(diptych.grad(weighted(f)))(x[None])[0],
        "reverse",
    ),
}


@pytest.mark.parametrize("name", list(OWN))
@pytest.mark.parametrize("wrap", [lambda f: f, compiled], ids=["eager", "compiled"])
def test_own_transforms(name, wrap):
    witness, (transform, mode) = WITNESSES["both"], OWN[name]
    want = witness.scale(mode) * transform(witness.plain)(point())
    close(wrap(transform(witness.rule))(point()), want)


# inductor -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vjp", "jvp", "both", "kept"])
@pytest.mark.parametrize(
    ("transform", "mode"),
    [
        (lambda f: grad(weighted(f)), "reverse"),
        (directional, "forward"),
        (lambda f: hessian(weighted(f)), "reverse"),
        (lambda f: lambda x: vmap(grad(weighted(f)))(x[None])[0], "reverse"),
    ],
    ids=["grad", "jvp", "hessian", "vmap of grad"],
)
def test_inductor(kind, transform, mode):
    witness = WITNESSES[kind]
    got = compiled(transform(witness.rule), backend="inductor")(point())
    close(got, witness.scale(mode) * transform(witness.plain)(point()))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vjp", "jvp", "both", "kept"])
def test_inductor_with_autograd_around(kind):
    witness = WITNESSES[kind]
    x, y = point().requires_grad_(), point().requires_grad_()
    out, want = compiled(witness.rule, backend="inductor")(x), witness.plain(y)
    close(out.detach(), want.detach())
    (got,) = torch.autograd.grad(out, x, weights(out))
    close(got, witness.reverse * torch.autograd.grad(want, y, weights(want))[0])


def test_vjp_closure_escapes_compiled_code():
    witness = WITNESSES["both"]

    def both_parts(x, out_bar):
        out, pull = vjp(witness.rule, x)
        return out, pull(out_bar)[0], pull(2 * out_bar)[0]

    out, first, second = compiled(both_parts)(point(), point(3, seed=1))
    want = 2 * vjp(witness.plain, point())[1](point(3, seed=1))[0]
    close(out, witness.plain(point()))
    close(first, want)
    close(second, 2 * want)

"""PyTorch's transforms, as rows of the table.

Each transform is something done to an elementwise function: an operator that differentiates it once
(`OPERATORS`), or a wrapping that leaves its values as they are. What must come out of any
composition of them is then a derivative in closed form.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad
from torch.autograd import functional
from torch.utils.checkpoint import checkpoint

from demo_table import Function, Probe, Row, nestings


def _total(f: Function) -> Function:
    return lambda x: f(x).sum()


def _d_autograd(f: Function) -> Function:
    def gradient(x):
        x = x if x.requires_grad else x.detach().requires_grad_()
        out = f(x)
        return torch.autograd.grad(out, x, torch.ones_like(out), create_graph=True)[0]

    return gradient


def _d_backward(f: Function) -> Function:
    def gradient(x):
        x = x.detach().clone().requires_grad_()
        out = f(x).sum()
        out.backward(retain_graph=True)
        out.backward()  # once more through what was retained: twice the gradient
        return x.grad / 2

    return gradient


def _d_subset(f: Function) -> Function:
    def gradient(x):
        x, other = x.detach().requires_grad_(), torch.ones_like(x, requires_grad=True)
        return torch.autograd.grad((f(x) + other).sum(), (x,), retain_graph=True)[0]

    return gradient


def _d_dual(f: Function) -> Function:
    def tangent(x):
        # Recorded as well, so that autograd works inside.
        x = x if x.requires_grad else x.detach().requires_grad_()
        with forward_ad.dual_level():
            out = f(forward_ad.make_dual(x, torch.ones_like(x)))
            pushed = forward_ad.unpack_dual(out).tangent
            if pushed is None:
                raise RuntimeError("no tangent")
            return pushed

    return tangent


def _d_vjp(f: Function) -> Function:
    def pulled(x):
        out, pull = torch.func.vjp(f, x)
        return pull(torch.ones_like(out))[0]

    return pulled


def _jvp(f: Function, x: torch.Tensor) -> torch.Tensor:
    return torch.func.jvp(f, (x,), (torch.ones_like(x),))[1]


OPERATORS: dict[str, Callable[[Function], Function]] = {
    "autograd.grad": _d_autograd,
    "backward": _d_backward,
    "autograd.grad, one of two inputs": _d_subset,
    "dual numbers": _d_dual,
    "grad": lambda f: torch.func.grad(_total(f)),
    "vjp": _d_vjp,
    "jacrev": lambda f: lambda x: torch.func.jacrev(f)(x).sum(1),
    "jvp": lambda f: lambda x: _jvp(f, x),
    "jacfwd": lambda f: lambda x: torch.func.jacfwd(f)(x).sum(1),
    "linearize": lambda f: lambda x: torch.func.linearize(f, x)[1](torch.ones_like(x)),
    "vmap-of-grad": lambda f: torch.vmap(torch.func.grad(f)),
    "vmap-of-jvp": lambda f: torch.vmap(lambda x: _jvp(f, x)),
}


# Wrappings: the same values, by way of a transform.


def _nested_vmap(f: Function) -> Function:
    return lambda x: torch.vmap(torch.vmap(f))(x.reshape(2, -1)).reshape(-1)


def _vmap_dims(f: Function) -> Function:
    batched = torch.vmap(f, in_dims=1, out_dims=1)
    return lambda x: batched(x.reshape(2, -1)).reshape(-1)


def _checkpoint(f: Function, reentrant: bool) -> Function:
    return lambda x: checkpoint(f, x, use_reentrant=reentrant)


def _hooked(f: Function) -> Function:
    def whole(x):
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: [t.clone()], lambda box: box[0])
        with hooks:
            return f(x)

    return whole


def _diagonal(label: str, jacobian: Callable, order: int = 1) -> Probe:
    return Probe(label, order, jacobian, np.diag)


def _of(label: str, operator: str, wrap: Callable[[Function], Function]) -> Probe:
    return Probe(
        f"{operator} of {label}",
        1,
        lambda f, x: OPERATORS[operator](wrap(f))(x),
    )


# Compiled: all of a row's calls in one graph, or one by one where that fails.


def _compile(f: Function) -> Function:
    torch._dynamo.reset()
    return torch.compile(f, backend="aot_eager", fullgraph=True)


def _inductor(f: Function) -> Function:
    torch._dynamo.reset()
    return torch.compile(f, backend="inductor", fullgraph=True)


def _with_inductor() -> tuple[Probe, ...]:
    # Inductor needs a C++ compiler: without one it cannot compile anything.
    return tuple(
        replace(probe, control=lambda f, x: _inductor(torch.sin)(x))
        for probe in nestings(OPERATORS, "grad", "jvp")
    )


def _compiled_autograd(f: Function, x: torch.Tensor) -> torch.Tensor:
    return _d_autograd(_compile(f))(x)


def _dynamic(f: Function, x: torch.Tensor) -> torch.Tensor:
    torch._dynamo.reset()
    g = torch.compile(torch.func.grad(_total(f)), backend="aot_eager", fullgraph=True, dynamic=True)
    return torch.cat([g(x[:3]), g(x)[3:]])


class _Reference(torch.autograd.Function):
    """sin by PyTorch's own means: where even this raises, no Function can be there."""

    @staticmethod
    def forward(x):
        return torch.sin(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx, x_dot):
        return torch.cos(ctx.saved_tensors[0]) * x_dot


def _exported(f: Function, x: torch.Tensor, strict: bool) -> torch.Tensor:
    class Module(torch.nn.Module):
        def forward(self, x):
            return f(x)

    return torch.export.export(Module(), (x,), strict=strict).module()(x)


def _export(strict: bool) -> Probe:
    def run(f: Function, x: torch.Tensor) -> torch.Tensor:
        try:
            return _exported(f, x, strict)
        except Exception as error:
            if not (strict and "strict=False" in str(error)):
                raise
            return _exported(f, x, False)  # host code: what diptych's own error says to do

    return Probe("export, strict" if strict else "export", 0, run, control=run)


def _export_of_jvp() -> Probe:
    def control(_: Function, x: torch.Tensor) -> torch.Tensor:
        return _exported(OPERATORS["jvp"](lambda x: _Reference.apply(x)), x, False)

    return Probe(
        "export of func.jvp",
        1,
        lambda f, x: _exported(OPERATORS["jvp"](f), x, False),
        control=control,
    )


def rows() -> tuple[Row, ...]:
    """Returns the rows of PyTorch's table."""
    first = nestings(OPERATORS, "grad", "vjp")
    nested = nestings(OPERATORS, "jvp(jvp)")
    vmaps = (
        _of("vmap", "grad", torch.vmap),
        _of("vmap(vmap)", "jvp", _nested_vmap),
        _of("vmap(in_dims=1, out_dims=1)", "grad", _vmap_dims),
        *nestings(OPERATORS, "vmap-of-grad", "vmap-of-jvp"),
        Probe(
            "vmap(grad(grad))", 2, lambda f, x: torch.vmap(torch.func.grad(torch.func.grad(f)))(x)
        ),
    )
    jacrev = _diagonal("jacrev", lambda f, x: torch.func.jacrev(f)(x))
    jacfwd = _diagonal("jacfwd", lambda f, x: torch.func.jacfwd(f)(x))
    hessian = _diagonal("hessian", lambda f, x: torch.func.hessian(_total(f))(x), 2)
    triples = (
        "{}({}({}))".format(*three) for three in itertools.product(("jvp", "grad"), repeat=3)
    )
    return (
        Row(
            "eager, with and without grad",
            (
                Probe("the value", 0, lambda f, x: f(x)),
                Probe("the value, recorded", 0, lambda f, x: f(x.clone().requires_grad_())),
            ),
        ),
        Row(
            "autograd.grad, backward",
            nestings(OPERATORS, "autograd.grad", "backward", "autograd.grad, one of two inputs"),
        ),
        Row(
            "autograd, orders 2 and 3",
            nestings(
                OPERATORS,
                "autograd.grad(autograd.grad)",
                "autograd.grad(autograd.grad(autograd.grad))",
            ),
        ),
        Row("func.grad, vjp, jacrev", (*first, jacrev)),
        Row("func.jvp, jacfwd, linearize", (*nestings(OPERATORS, "jvp", "linearize"), jacfwd)),
        Row("reverse over reverse", nestings(OPERATORS, "grad(grad)", "jacrev(jacrev)")),
        Row(
            "forward over reverse, hessian",
            (*nestings(OPERATORS, "jvp(grad)", "jacfwd(jacrev)"), hessian),
        ),
        Row("reverse over forward", nestings(OPERATORS, "grad(jvp)", "jacrev(jacfwd)")),
        Row("forward over forward", nestings(OPERATORS, "jvp(jvp)", "jacfwd(jacfwd)")),
        Row("three deep, all eight", nestings(OPERATORS, *triples)),
        Row("vmap: in, around, nested", vmaps),
        Row(
            "dual numbers",
            nestings(
                OPERATORS,
                "dual numbers",
                "dual numbers(autograd.grad)",
                "autograd.grad(dual numbers)",
                "dual numbers(grad)",
            ),
        ),
        Row(
            "checkpoint, both forms",
            (
                _of("checkpoint", "autograd.grad", lambda f: _checkpoint(f, False)),
                _of("reentrant checkpoint", "backward", lambda f: _checkpoint(f, True)),
            ),
        ),
        Row("saved_tensors_hooks", (_of("hooks", "autograd.grad", _hooked),)),
        Row(
            "autograd.functional",
            (
                _diagonal("jacobian", lambda f, x: functional.jacobian(f, x)),
                _diagonal(
                    "jacobian, vectorized forward",
                    lambda f, x: functional.jacobian(f, x, vectorize=True, strategy="forward-mode"),
                ),
                _diagonal("hessian", lambda f, x: functional.hessian(_total(f), x), 2),
                Probe("hvp", 2, lambda f, x: functional.hvp(_total(f), x, torch.ones_like(x))[1]),
            ),
        ),
        Row("compile: autograd", (Probe("autograd.grad of compile", 1, _compiled_autograd),)),
        Row("compile: func.grad, jacrev", (*nestings(OPERATORS, "grad"), jacrev), _compile),
        Row("compile: func.jvp, jacfwd", (*nestings(OPERATORS, "jvp"), jacfwd), _compile),
        Row("compile: jvp of jvp, hessian", (*nested, hessian), _compile),
        Row("compile: vmap in and around", (vmaps[0], *vmaps[3:5]), _compile),
        Row("compile: dynamic shapes", (Probe("grad at two sizes", 1, _dynamic),)),
        # What Inductor compiles is what aot_eager runs, and takes its time: two functions will do.
        Row("compile: inductor", _with_inductor(), _inductor, only=("sin", "log1pexp")),
        Row("export", (_export(False), _export(True), _export_of_jvp())),
    )

"""Tensors that require grad and are read from outside the arguments of a PyTorch function."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from diptych.backends.torch.closures import _graph, _tensors_in
from diptych.backends.torch.proof.calling import called
from diptych.proof.probes import Function, Lost
from diptych.proof.reach import reached

_PARTS = ("forward", "setup_context", "backward", "vjp", "jvp", "vmap")
_STEP = 1e-3


def parts(thing: Any) -> list[Any]:
    """Returns the functions of an autograd.Function, or of a custom operator."""
    owner = getattr(thing, "__self__", None)
    thing = owner if isinstance(owner, type) else thing
    if isinstance(thing, type) and issubclass(thing, torch.autograd.Function):
        return [getattr(thing, name) for name in _PARTS if _is_own(thing, name)]
    if isinstance(thing, torch.library.CustomOpDef):
        return [thing._init_fn]
    return []


def _is_own(thing: Any, name: str) -> bool:
    return getattr(thing, name, None) is not getattr(torch.autograd.Function, name, None)


def lost(target: Any, f: Function, xs: Sequence[Any], wanted: Sequence[bool]) -> list[Lost]:
    """Returns what is read from outside, and whether its gradient is lost.

    Three ways to tell: where a Function runs, its forward is run once more with gradients on and
    its arguments detached, so that what then requires grad was outside; a tensor that the code
    names is changed, and the value changes while autograd finds no path.
    """
    named = reached(target.thing, parts, lambda value: _tensors_in("", value, 2))
    named = [r for r in named if r.array.requires_grad]
    leaves = [x.detach().requires_grad_(w) for x, w in zip(xs, wanted, strict=True)]
    caught: list[torch.Tensor] = []
    with torch.enable_grad(), _watched(caught):
        outs = called(f, leaves)
    roots = {id(node) for x in caught for node in _graph(x)}
    found: dict[str, Lost] = {}
    for name, tensor, _ in named:
        at = tensor.grad_fn if tensor.grad_fn is not None else tensor
        if id(at) in roots or any(tensor is x for x in caught):
            found[name] = Lost(name, True, "")
    if caught and not found:
        found["?"] = Lost("a tensor that requires grad", True, "")
    paths = {id(node) for out in outs if out.requires_grad for node in _graph(out)}
    for name, tensor, _ in named:
        at = tensor.grad_fn if tensor.grad_fn is not None else tensor
        if name in found or not tensor.is_floating_point():
            continue
        if id(at) in paths:
            found[name] = Lost(name, False, "")
        elif target.custom and _changes(f, xs, tensor):
            found[name] = Lost(name, True, "")
    return list(found.values())


def _changes(f: Function, xs: Sequence[Any], tensor: torch.Tensor) -> bool:
    """Returns whether the value depends on a tensor, which is put back as it was."""
    kept = tensor.detach().clone()
    state = torch.get_rng_state()
    with torch.no_grad():
        before = [x.clone() for x in f(*[x.clone() for x in xs])]
        torch.set_rng_state(state)
        try:
            tensor.data.add_(_STEP * (1 + kept.abs()))
            after = f(*[x.clone() for x in xs])
        finally:
            tensor.data.copy_(kept)
    return any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@contextlib.contextmanager
def _watched(caught: list[torch.Tensor]) -> Iterator[None]:
    """Catches what every Function within reads from outside, as its forward leaves it."""
    base: Any = torch.autograd.Function
    kept = base.__dict__["apply"]

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if not cls.__module__.startswith(("torch.", "diptych.")):
            state = torch.get_rng_state()
            caught.extend(_read_by(cls, args))
            torch.set_rng_state(state)
        return kept.__func__(cls, *args, **kwargs)

    base.apply = classmethod(apply)
    try:
        yield
    finally:
        base.apply = kept


def _read_by(function: Any, args: Sequence[Any]) -> list[torch.Tensor]:
    from diptych.backends.torch.proof import _Context

    own = [x.detach().clone() if isinstance(x, torch.Tensor) else x for x in args]
    composable = function.setup_context is not torch.autograd.Function.setup_context
    try:
        with torch.enable_grad():
            out = function.forward(*own) if composable else function.forward(_Context(), *own)
    except Exception:  # as plain code it may not run at all
        return []
    leaves = out if isinstance(out, (tuple, list)) else (out,)
    return [x for x in leaves if isinstance(x, torch.Tensor) and x.requires_grad]

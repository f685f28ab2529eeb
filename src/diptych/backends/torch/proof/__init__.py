"""How the proof differentiates PyTorch functions: by autograd and dual numbers, as users do."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad

from diptych.backends.torch import state
from diptych.backends.torch.proof import contexts, layouts
from diptych.backends.torch.proof.calling import called
from diptych.backends.torch.proof.modules import of_module
from diptych.backends.torch.proof.probes import TorchProbes
from diptych.errors import MissingDirectionError
from diptych.proof.chance import Chance
from diptych.proof.prober import Arrays, Function, Target

_REFUSALS = {
    "once_differentiable": "once differentiable",
    "must implement the jvp": "no forward mode",
    "forward AD": "no forward mode",
    "forward-mode": "no forward mode",
    "must override the setup_context": "no torch.func transforms",
    "generate_vmap_rule": "no vmap rule",
    "vmap": "no vmap rule",
    "from outside its arguments": "a gradient that would be lost",
    "functorch": "no torch.func transforms",
    # `torch.vmap(torch.mul)` of an empty batch of scalars, and what is built of it.
    "index 0 out of range for tensor of size [0]": "no empty batch",
    "double backward": "once differentiable",
    "Batching rule not implemented": "no vmap rule",
    "is not implemented": "a derivative that PyTorch does not implement",
    "not implemented for": "no such dtype",
    "unsupported ScalarType": "no such dtype",
    "differentiated further than it can be": "once differentiable",
}


class TorchProber(TorchProbes):
    """The protocol of `diptych.proof.prober` for PyTorch."""

    name = "torch"

    def target(self, f: Any) -> Target | None:
        """Returns what an autograd.Function, a custom op or a module is."""
        if isinstance(f, type) and issubclass(f, torch.autograd.Function):
            return _of_function(f)
        owner = getattr(f, "__self__", None)
        if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
            if getattr(f, "__name__", "") == "apply":
                return _of_function(owner)
        if isinstance(f, torch.library.CustomOpDef):
            return Target(f._name, "torch.library custom op", f, None, True, "torch", thing=f)
        if isinstance(f, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
            return Target(str(f), "torch operator", f, None, True, "torch", thing=f)
        if isinstance(f, torch.nn.Module):
            return of_module(f)
        return None

    # Not torch.manual_seed, which formats a stack each time.
    _chance = Chance(torch.default_generator.manual_seed, torch.get_rng_state, torch.set_rng_state)

    def session(self, seed: int) -> Any:
        """Fixes the random state within, and puts back what was before."""
        return self._chance.fixed(seed)

    def is_array(self, x: Any) -> bool:
        """Returns whether `x` is a tensor."""
        return isinstance(x, torch.Tensor)

    def array(self, x: np.ndarray, like: Any = None) -> torch.Tensor:
        """Returns a tensor of its own memory."""
        made = torch.from_numpy(np.array(x))
        return made if like is None else made.to(like.device)

    def numpy(self, x: Any) -> np.ndarray:
        """Returns the values of a tensor; bfloat16, which NumPy has not, as float32."""
        if not isinstance(x, torch.Tensor):
            return np.asarray(x)
        if x._is_zerotensor():  # autograd's zeros without memory
            x = x.clone()
        if x.dtype is torch.bfloat16:
            x = x.float()
        return np.array(x.numpy(force=True))  # of its own memory: the tensor may be changed later

    def dtype(self, x: Any) -> str:
        """Returns the dtype's name, as NumPy would write it."""
        return str(x.dtype).removeprefix("torch.")

    def cast(self, x: Any, dtype: str) -> torch.Tensor:
        """Returns the tensor in another dtype."""
        return x.to(getattr(torch, dtype))

    def value(self, f: Function, xs: Sequence[Any]) -> Arrays:
        """Returns the values, without grad."""
        with torch.no_grad():
            return f(*[x.detach() for x in xs])

    def vjp(
        self, f: Function, xs: Sequence[Any], wanted: Sequence[bool]
    ) -> tuple[Arrays, Callable[[Sequence[Any]], Arrays]]:
        """By `torch.autograd.grad`, whose graph may be used again."""
        leaves = [x.detach().requires_grad_(w) for x, w in zip(xs, wanted, strict=True)]
        with _grad_enabled():
            outs = called(f, leaves)

        def pull(bars: Sequence[Any]) -> Arrays:
            return _grad(outs, leaves, bars, wanted, create_graph=False)

        return outs, pull

    def jvp(self, f: Function, xs: Sequence[Any], dots: Sequence[Any]) -> tuple[Arrays, Arrays]:
        """By dual numbers; by torch.func, which nests, where `f` is forward mode already."""
        if getattr(f, "pushes", False):
            return _nested_jvp(f, xs, dots)
        with forward_ad.dual_level():
            pairs = [forward_ad.unpack_dual(o) for o in f(*_duals(xs, dots))]
            outs = [p.primal for p in pairs]
            return outs, [
                torch.zeros_like(o) if p.tangent is None and _moves(o) else p.tangent
                for o, p in zip(outs, pairs, strict=True)
            ]

    def gradient(self, f: Function, bars: Sequence[Any], wanted: Sequence[bool]) -> Function:
        """By `torch.autograd.grad(create_graph=True)`."""

        def of(*xs: Any) -> Arrays:
            with _grad_enabled():
                leaves = [_leaf(x) if w else x for x, w in zip(xs, wanted, strict=True)]
                # In a program the cotangent comes from a graph of its own, too: whether it requires
                # grad is what `once_differentiable` goes by.
                moved = [b if b is None or not _moves(b) else _leaf(b) for b in bars]
                found = _grad(called(f, leaves), leaves, moved, wanted, create_graph=True)
                return [
                    torch.zeros_like(x) if b is None else b
                    for x, b, w in zip(leaves, found, wanted, strict=True)
                    if w
                ]

        return of

    def tangent(self, f: Function, dots: Sequence[Any]) -> Function:
        """By torch.func, whose graph is kept; by dual numbers where it refuses."""

        def of(*xs: Any) -> Arrays:
            try:
                found = _nested_jvp(f, xs, dots)[1]
            except RuntimeError as error:
                if state.functorch_active() or "must override the setup_context" not in str(error):
                    raise
                found = self.jvp(f, xs, dots)[1]
            return [x for x in found if x is not None]

        of.pushes = True  # type: ignore[attr-defined]  # ours
        return of

    def vmap(self, f: Function, in_axes: Sequence[int | None]) -> Function:
        """By `torch.func.vmap`; random numbers are drawn once for all examples."""
        return torch.func.vmap(f, in_dims=tuple(in_axes), randomness="same")

    def steady(self, f: Function) -> Function:
        """Returns the function itself: PyTorch compiles nothing unasked."""
        return f

    at_once = steady

    def layouts(self, x: Any) -> dict[str, Any]:
        """Returns equal tensors in other memory."""
        return layouts.layouts(x)

    def expanded(self, x: Any) -> dict[str, Any]:
        """Returns tensors whose values repeat with stride 0."""
        return layouts.expanded(x)

    def contexts(self) -> dict[str, Callable[[], Any]]:
        """Returns default dtypes, deterministic algorithms and anomaly mode."""
        return contexts.CONTEXTS

    def returned(self, thing: Any) -> contextlib.AbstractContextManager[list[list[str | None]]]:
        """Watches the backward of an autograd.Function: the engine casts what it returns."""
        return _watched_backward(thing)

    def refusal(self, error: BaseException) -> str | None:
        """Returns in a few words what PyTorch, or a rule, refuses."""
        text = str(error)
        if isinstance(error, NotImplementedError) and not text:
            return "not implemented"
        if isinstance(error, MissingDirectionError):
            return "no such direction"
        return next((said for word, said in _REFUSALS.items() if word in text), None)


def _grad_enabled() -> contextlib.AbstractContextManager[Any]:
    """Returns a context with gradients on; where they are it is free, as it is entered often."""
    return _AS_IT_IS if torch.is_grad_enabled() else torch.enable_grad()


_AS_IT_IS = contextlib.nullcontext()


def _leaf(x: torch.Tensor) -> torch.Tensor:
    """Returns a tensor that autograd starts from; a tangent that it carries stays."""
    if x.requires_grad:
        return x
    if forward_ad._current_level < 0:
        return x.detach().requires_grad_()
    dual = forward_ad.unpack_dual(x)
    primal = dual.primal.detach().requires_grad_()
    return primal if dual.tangent is None else forward_ad.make_dual(primal, dual.tangent)


def _moves(x: torch.Tensor) -> bool:
    return x.is_floating_point() or x.is_complex()


def _nested_jvp(f: Function, xs: Sequence[Any], dots: Sequence[Any]) -> tuple[Arrays, Arrays]:
    moving = [i for i, dot in enumerate(dots) if dot is not None]

    def of(*moved: Any) -> tuple[Any, ...]:
        full = list(xs)
        for i, x in zip(moving, moved, strict=True):
            full[i] = x
        return tuple(f(*full))

    outs, found, *_ = torch.func.jvp(
        of, tuple(xs[i] for i in moving), tuple(dots[i] for i in moving)
    )  # fmt: skip
    return list(outs), [d if _moves(o) else None for o, d in zip(outs, found, strict=True)]


def _duals(xs: Sequence[Any], dots: Sequence[Any]) -> list[Any]:
    return [
        x if dot is None else forward_ad.make_dual(x, dot) for x, dot in zip(xs, dots, strict=True)
    ]


def _grad(
    outs: Sequence[Any],
    leaves: Sequence[Any],
    bars: Sequence[Any],
    wanted: Sequence[bool],
    *,
    create_graph: bool,
) -> Arrays:
    live = [
        (o, b)
        for o, b in zip(outs, bars, strict=True)
        if b is not None and isinstance(o, torch.Tensor) and o.requires_grad
    ]
    moving = [x for x, w in zip(leaves, wanted, strict=True) if w]
    if not live or not moving:
        return [None] * len(leaves)
    got = torch.autograd.grad(
        [o for o, _ in live],
        moving,
        [b for _, b in live],
        retain_graph=True,
        create_graph=create_graph,
        allow_unused=True,
    )
    found = iter(got)
    bars_in = [next(found) if w else None for w in wanted]
    if all(bar is None for bar in bars_in) and _refuses_later([o for o, _ in live]):
        raise RuntimeError("differentiated twice, and marked with @once_differentiable")
    return bars_in


def _refuses_later(outs: Sequence[torch.Tensor]) -> bool:
    """Returns whether a graph holds the node that raises for a once-differentiable function.

    It leads to no input, so that `torch.autograd.grad` passes it by where `backward` would raise.
    """
    stack: list[Any] = [o.grad_fn for o in outs]
    seen: set[Any] = set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name().rpartition("::")[2] == "Error":
            return True
        stack.extend(following for following, _ in node.next_functions)
    return False


def _of_function(function: Any) -> Target:
    composable = "setup_context" in vars(function) or (
        function.setup_context is not torch.autograd.Function.setup_context
    )

    def body(*args: Any) -> Any:
        return function.forward(*args) if composable else function.forward(_Context(), *args)

    body.__signature__ = _signature(function, composable)  # type: ignore[attr-defined]
    in_place: list[bool] = []

    def call(*args: Any) -> Any:
        """Calls it as its users do: one that works in place gets no leaf, which has no copy."""
        if torch.compiler.is_compiling() or state.functorch_active():
            return function.apply(*args)
        if in_place and torch.is_grad_enabled():
            args = tuple(x.clone() if isinstance(x, torch.Tensor) else x for x in args)
        before = _versions(args)
        out = function.apply(*args)
        if not in_place and before != _versions(args) and _marks_dirty(function, args):
            in_place.append(True)
        return out

    return Target(
        function.__name__,
        "torch.autograd.Function",
        call,
        body,
        True,
        "torch",
        thing=function,
    )


def _signature(function: Any, composable: bool) -> inspect.Signature:
    """Returns the parameters of a Function, its defaults with them; ctx is none."""
    stated = list(inspect.signature(function.forward).parameters.values())
    return inspect.Signature(stated if composable else stated[1:])


@contextlib.contextmanager
def _watched_backward(function: Any) -> Iterator[list[list[str | None]]]:
    seen: list[list[str | None]] = []
    if not (isinstance(function, type) and issubclass(function, torch.autograd.Function)):
        yield seen
        return
    stated = vars(function).get("backward")
    original = function.backward

    def backward(ctx: Any, *bars: Any) -> Any:
        found = original(ctx, *bars)
        each = found if isinstance(found, tuple) else (found,)
        seen.append([prober.dtype(x) if isinstance(x, torch.Tensor) else None for x in each])
        return found

    function.backward = staticmethod(backward)
    try:
        yield seen
    finally:
        if stated is None:
            del function.backward
        else:
            function.backward = stated


def _versions(args: Sequence[Any]) -> list[int]:
    return [x._version for x in args if isinstance(x, torch.Tensor)]


def _marks_dirty(function: Any, args: Sequence[Any]) -> bool:
    """Returns whether a Function says that it changes an argument."""
    context = _Context()
    copies = [x.detach().clone() if isinstance(x, torch.Tensor) else x for x in args]
    with torch.no_grad():
        try:
            function.setup_context(context, tuple(copies), function.forward(*copies))
        except (TypeError, NotImplementedError):
            function.forward(context, *copies)
    return context.dirty


class _Context:
    """Stands in for ctx where a Function's forward is run as plain code."""

    needs_input_grad = (True,) * 64
    dirty = False

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors

    save_for_forward = save_for_backward

    def mark_dirty(self, *tensors: Any) -> None:
        self.dirty = True

    def mark_non_differentiable(self, *tensors: Any) -> None:
        pass

    set_materialize_grads = mark_non_differentiable


prober = TorchProber()

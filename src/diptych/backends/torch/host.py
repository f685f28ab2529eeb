"""Host rules on PyTorch: NumPy code behind one Function, and behind one op where it is compiled."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.autograd import Function

from diptych import host as neutral
from diptych.arguments import Spec
from diptych.backends.torch import state
from diptych.call import Call
from diptych.host import HostFunction, numpy_dtype, runs_on_host
from diptych.linear import LinearMap

__all__ = ["forward", "primal", "pull", "push", "runs_on_host"]

Batch = tuple[tuple[int, tuple[bool, ...]], ...]


def spec_of(x: Any) -> Spec:
    """Returns the spec that `out` sees; under compile a dynamic length becomes a fixed one."""
    if isinstance(x, torch.Tensor):
        return Spec(tuple(int(n) for n in x.shape), numpy_dtype(x.dtype))
    return Spec((), np.asarray(x).dtype)


def run(function: HostFunction, leaves: Sequence[Any]) -> list[Any]:
    """Returns the tensors that a host function gives for these tensors."""
    if state.transforms_active() or torch.is_grad_enabled():
        return list(_Host.apply(function, (), *leaves))
    return list(_run(function, (), leaves))


def primal(call: Call, leaves: Sequence[Any]) -> Any:
    """Returns the output of a host rule."""
    return neutral.primal(call, leaves, run, spec_of)


def forward(call: Call, leaves: Sequence[Any], reads: Any) -> tuple[Any, Any]:
    """Returns the output and the residuals of a host rule."""
    return neutral.forward(call, leaves, reads, run, spec_of)


def push(linear_map: LinearMap, res: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """Returns the output tangents of a host rule's own JVP."""
    return neutral.push(linear_map, res, tangents, run)


def pull(
    linear_map: LinearMap, res: Sequence[Any], bars: Sequence[Any], wanted: Sequence[bool]
) -> list[Any]:
    """Returns the cotangents of a host rule's own VJP."""
    return neutral.pull(linear_map, res, bars, wanted, run)


def to_numpy(x: Any) -> Any:
    """Returns a tensor as a NumPy array; bfloat16, which NumPy has not, as float32."""
    if not isinstance(x, torch.Tensor):
        return np.asarray(x)
    x = x.detach().resolve_conj().resolve_neg().cpu()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def from_numpy(x: Any, like: Sequence[Any]) -> torch.Tensor:
    """Returns a NumPy array, which nobody else holds, as a tensor on the device of the tensors."""
    tensor = torch.from_numpy(np.asarray(x, order="C"))
    tensors = [t for t in like if isinstance(t, torch.Tensor)]
    floats = [t.dtype for t in tensors if t.is_floating_point()]
    if floats and all(d == torch.bfloat16 for d in floats) and tensor.dtype == torch.float32:
        tensor = tensor.bfloat16()
    return tensor.to(tensors[0].device) if tensors else tensor


def _run(function: HostFunction, batch: Batch, leaves: Sequence[Any]) -> list[Any]:
    if state.old_vmap_active():
        mapped = state.take_batch_off(leaves)
        if mapped is not None:
            size, flags, moved = mapped
            found = _run(function, (*batch, (size, flags)), moved)
            return [state.put_batch_on(x) for x in found]
    if state.traced(leaves):
        return _through_op(function, batch, leaves)
    found = neutral.run_batched(function, batch, [to_numpy(x) for x in leaves])
    return [from_numpy(x, leaves) for x in found]


class _Host(Function):
    """Host code under transforms: values pass, derivatives raise."""

    @staticmethod
    def forward(function: HostFunction, batch: Batch, *leaves: Any) -> Any:
        return tuple(_run(function, batch, leaves))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.function = inputs[0]
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *bars: Any) -> Any:
        raise neutral.cannot_differentiate(ctx.function)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise neutral.cannot_differentiate(ctx.function)

    @staticmethod
    def vmap(info: Any, in_dims: Any, function: HostFunction, batch: Batch, *leaves: Any) -> Any:
        dims = in_dims[2:]
        moved = [
            x if dim is None else x.movedim(dim, 0) for x, dim in zip(leaves, dims, strict=True)
        ]
        level = (info.batch_size, tuple(dim is not None for dim in dims))
        out = _Host.apply(function, (*batch, level), *moved)
        return out, (0,) * len(out)


# torch.compile sees host code as this one op. It has neither an autograd kernel (an op that has one
# refuses torch.func) nor a batching rule (it is only called below all transforms).


class Traced:
    """Host code in compiled code; the rule's statement keeps it, so that both are let go together.

    Args:
        function: the host function.
        batch: the levels of `vmap` that it is under.
        frame: its arguments that are no tensors, `None` where there is one.
    """

    def __init__(self, function: HostFunction, batch: Batch, frame: list[Any]):
        self.function = function
        self.batch = batch
        self.frame = frame


_library = torch.library.Library("diptych", "FRAGMENT")
_library.define("host(Tensor[] arrays, int handle) -> Tensor[]")
_numbers = itertools.count()
_handles: weakref.WeakValueDictionary[int, Traced] = weakref.WeakValueDictionary()


def _through_op(function: HostFunction, batch: Batch, leaves: Sequence[Any]) -> list[Any]:
    function.specs()  # raises here, with the user's line in the traceback
    tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
    frame = [None if isinstance(x, torch.Tensor) else x for x in leaves]
    number = next(_numbers)
    traced = _handles[number] = Traced(function, batch, frame)
    function.call.statement.traced.append(traced)
    return torch.ops.diptych.host(tensors, number)


def _call_op(tensors: list[torch.Tensor], handle: int) -> list[torch.Tensor]:
    traced = _handles[handle]
    function, batch, frame = traced.function, traced.batch, traced.frame
    values = iter(tensors)
    leaves = [next(values) if x is None else x for x in frame]
    found = neutral.run_batched(function, batch, [to_numpy(x) for x in leaves])
    return [from_numpy(x, leaves) for x in found]


def _fake_op(tensors: list[torch.Tensor], handle: int) -> list[torch.Tensor]:
    function, batch = _handles[handle].function, _handles[handle].batch
    sizes = tuple(size for size, _ in batch)[::-1]
    bfloat16 = [t.dtype for t in tensors if t.is_floating_point()]
    half = bool(bfloat16) and all(d == torch.bfloat16 for d in bfloat16)
    device = tensors[0].device if tensors else None
    found = []
    for spec in function.specs():
        dtype = torch.from_numpy(np.empty(0, spec.dtype)).dtype
        dtype = torch.bfloat16 if half and dtype == torch.float32 else dtype
        found.append(torch.empty((*sizes, *spec.shape), dtype=dtype, device=device))
    return found


_library.impl("host", _call_op, "CompositeExplicitAutograd")
_library.impl("host", _fake_op, "Meta")
torch.library.register_fake("diptych::host", _fake_op, lib=_library)

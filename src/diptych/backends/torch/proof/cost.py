"""What PyTorch functions keep alive, and what they cost."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.multiprocessing.reductions import StorageWeakRef

from diptych.backends.torch.proof.calling import called
from diptych.proof.garbage import left_behind
from diptych.proof.probes import Function, Kept

_WARM = 2

_Refs = list[tuple[Any, int]]  # weak references to the memory of one call, and its bytes


def kept(
    f: Function, xs: Sequence[Any], wanted: Sequence[bool], bars: Sequence[Any], calls: int
) -> Kept:
    """Counts tensors after calls whose results are dropped, and after as many again.

    Storages of inputs and outputs are followed by weak references, since a graph that is kept
    alive holds them out of Python's sight.
    """
    residuals = _residuals(f, xs, wanted)
    for _ in range(_WARM):
        _once(f, xs, wanted, bars)
    refs: list[_Refs] = []

    def call() -> None:
        refs.append(_once(f, xs, wanted, bars))
        refs.append(_once(f, xs, wanted, None))

    def left(collect: bool) -> tuple[int, int]:
        counts = left_behind(call, lambda: (*_hidden(refs), *_seen()), calls, collect)
        graphs, graph_bytes, tensors, tensor_bytes = counts
        return max(graphs, tensors), max(graph_bytes, tensor_bytes)

    alive = left(collect=False)
    cycles = alive[0]
    if cycles >= calls:
        alive = left(collect=True)
    return Kept(*alive, residuals, cycles)


def _once(
    f: Function, xs: Sequence[Any], wanted: Sequence[bool], bars: Sequence[Any] | None
) -> _Refs:
    """Calls `f` on tensors of its own; returns weak references to the memory used."""
    leaves = [x.detach().clone().requires_grad_(w) for x, w in zip(xs, wanted, strict=True)]
    with torch.enable_grad():
        outs = called(f, leaves)
    if bars is not None:
        live = _live(outs, bars)
        if live and any(wanted):
            torch.autograd.grad(
                [o for o, _ in live],
                [x for x, w in zip(leaves, wanted, strict=True) if w],
                [b for _, b in live],
                allow_unused=True,
            )
    mine = [x for x in (*leaves, *outs) if x.layout == torch.strided]
    return [(StorageWeakRef(x.untyped_storage()), x.untyped_storage().nbytes()) for x in mine]


def _live(outs: Sequence[Any], bars: Sequence[Any]) -> list[tuple[Any, Any]]:
    pairs = zip(outs, bars, strict=True)
    return [(o, b) for o, b in pairs if b is not None and o.requires_grad]


def _is_tensor(x: Any) -> bool:
    return issubclass(type(x), torch.Tensor)  # `isinstance` would wake lazy proxies


def _hidden(refs: Sequence[_Refs]) -> tuple[int, int]:
    """Returns how many calls have memory that is alive, and its bytes."""
    calls = [sum(size for ref, size in call if not ref.expired()) for call in refs]
    return sum(size > 0 for size in calls), sum(calls)


def _seen() -> tuple[int, int]:
    """Returns how many tensors Python sees, and their bytes."""
    tensors = [x for x in gc.get_objects() if _is_tensor(x)]
    return len(tensors), sum(x.numel() * x.element_size() for x in tensors)


def _residuals(f: Function, xs: Sequence[Any], wanted: Sequence[bool]) -> int:
    """Returns the bytes kept for the backward beside inputs and outputs, on ctx included."""
    found: dict[int, int] = {}

    def keep(x: Any) -> Any:
        if isinstance(x, torch.Tensor) and x.layout == torch.strided:
            found[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    leaves = [x.detach().requires_grad_(w) for x, w in zip(xs, wanted, strict=True)]
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        outs = called(f, leaves)
    for node in _nodes(outs):
        for value in getattr(node, "__dict__", {}).values():
            for x in value if isinstance(value, (tuple, list)) else (value,):
                keep(x)
    for x in (*leaves, *outs):
        if x.layout == torch.strided:
            found.pop(x.untyped_storage().data_ptr(), None)
    return sum(found.values())


def _nodes(outs: Sequence[Any]) -> Iterator[Any]:
    stack, seen = [o.grad_fn for o in outs], set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        stack.extend(next_node for next_node, _ in node.next_functions)


def timed(
    f: Function,
    xs: Sequence[Any],
    wanted: Sequence[bool],
    bars: Sequence[Any],
    dots: Sequence[Any],
    compiled: bool,
) -> dict[str, Callable[[], Any]]:
    """Returns the value, the value with its VJP, and with its JVP, to be timed; none compiled."""
    leaves = [x.detach().requires_grad_(w) for x, w in zip(xs, wanted, strict=True)]
    moving = [x for x, w in zip(leaves, wanted, strict=True) if w]

    def primal() -> Any:
        with torch.no_grad():
            return f(*[x.detach() for x in xs])

    def vjp() -> Any:
        with torch.enable_grad():
            outs = called(f, leaves)
        live = _live(outs, bars)
        return torch.autograd.grad(
            [o for o, _ in live], moving, [b for _, b in live], allow_unused=True
        )

    def jvp() -> Any:
        with forward_ad.dual_level():
            duals = [
                x if d is None else forward_ad.make_dual(x, d)
                for x, d in zip(xs, dots, strict=True)
            ]
            return [forward_ad.unpack_dual(o).tangent for o in f(*duals)]

    return {"primal": _alone(primal), "vjp": _alone(vjp), "jvp": _alone(jvp)}


def _alone(run: Callable[[], Any]) -> Callable[[], Any]:
    """Returns the same on one thread: several wait for each other where the machine is busy."""

    def on_one_thread() -> Any:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return run()
        finally:
            torch.set_num_threads(threads)

    return on_one_thread


def flops(
    f: Function, xs: Sequence[Any], wanted: Sequence[bool], bars: Sequence[Any]
) -> dict[str, float]:
    """PyTorch counts those of a few operators alone."""
    return {}

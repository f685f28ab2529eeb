"""The linear map of a rule as an autograd.Function.

It is differentiable in its vectors by the other direction, and in its residuals by PyTorch's AD of
the direction's own code.

Needed where the two directions are stated apart (then none may be derived by differentiating the
other) and for host code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd import Function

from diptych.backends.torch import autocast, host, state
from diptych.linear import LinearMap


class Map(NamedTuple):
    """A linear map between some of the leaves and some of the outputs.

    Args:
        linear_map: the whole map.
        inputs: which leaves take part.
        outputs: which output arrays take part.
        transposed: whether it goes from the outputs to the inputs.
        res_count: the number of residual arrays.
        autocast: the autocast under which it works.
    """

    linear_map: LinearMap
    inputs: tuple[bool, ...]
    outputs: tuple[bool, ...]
    transposed: bool
    res_count: int
    autocast: autocast.State

    def run(self, res: Sequence[Any], vectors: Sequence[Any]) -> list[Any]:
        """Returns what this direction gives: one array for each that takes part."""
        with autocast.as_it_was(self.autocast):
            return self._run(res, vectors)

    def _run(self, res: Sequence[Any], vectors: Sequence[Any]) -> list[Any]:
        whole = self.linear_map
        into, from_ = (
            (self.inputs, self.outputs) if self.transposed else (self.outputs, self.inputs)
        )
        values = iter(vectors)
        spread = [next(values) if flag else None for flag in from_]
        on_host = host.runs_on_host(whole.call, "pull" if self.transposed else "push")
        if on_host and self.transposed:
            found = host.pull(whole, res, spread, self.inputs)
        elif on_host:
            found = host.push(whole, res, spread)
        elif self.transposed:
            found = whole.pull(whole.layout.residuals(res), spread, self.inputs)
        else:
            found = whole.push(whole.layout.residuals(res), spread)
        side = whole.inputs if self.transposed else whole.outputs
        found = side.zeros(whole.backend, found)
        return [x for x, flag in zip(found, into, strict=True) if flag]

    @property
    def transpose(self) -> Map:
        """The same map in the other direction."""
        return self._replace(transposed=not self.transposed)


class Holder:
    """Carries a map through PyTorch's pytrees as one leaf."""

    __slots__ = ("map",)

    def __init__(self, map: Map):
        self.map = map


def apply_linear(
    linear_map: LinearMap,
    res: Sequence[Any],
    vectors: Sequence[Any],
    wanted: Sequence[bool] | None,
    *,
    transposed: bool,
) -> list[Any]:
    """Returns one leaf per array on the other side (`None`: zero or not wanted)."""
    given = tuple(v is not None for v in vectors)
    if transposed:
        metas = linear_map.inputs.metas
        result = tuple(
            bool(want) and m is not None and m.dtype is not float
            for want, m in zip(wanted or (), metas, strict=True)
        )
        inputs, outputs = result, given
    else:
        result = tuple(meta is not None for meta in linear_map.outputs.metas)
        inputs, outputs = given, result
    found: list[Any] = [None] * len(result)
    if not any(given) or not any(result):
        return found
    map = Map(linear_map, inputs, outputs, transposed, len(res), autocast.now())
    chosen = [v for v in vectors if v is not None]
    if state.transforms_active() or torch.is_grad_enabled():
        values = _Linear.apply(Holder(map), *res, *chosen)
    else:
        values = map.run(res, chosen)
    it = iter(values)
    return [next(it) if flag else None for flag in result]


class _Linear(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(holder: Holder, *arrays: Any) -> Any:
        count = holder.map.res_count
        found = holder.map.run(arrays[:count], arrays[count:])
        return tuple(state.own_storage(x) for x in state.distinct(found, arrays))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        holder, *arrays = inputs
        ctx.map = holder.map
        ctx.save_for_backward(*arrays)
        ctx.save_for_forward(*arrays)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *bars: Any) -> Any:
        arrays = state.alive(ctx.saved_tensors)
        map = ctx.map
        count = map.res_count
        res, vectors = arrays[:count], arrays[count:]
        found: list[Any] = [None] * len(arrays)
        if all(bar is None for bar in bars):
            return (None, *found)
        into = _metas(map, side="into")
        full = [
            map.linear_map.backend.zeros(m) if bar is None else bar
            for bar, m in zip(bars, into, strict=True)
        ]
        needs = ctx.needs_input_grad[1:]
        if any(needs[count:]):
            found[count:] = _Linear.apply(Holder(map.transpose), *res, *full)
        moving = [i for i in range(count) if needs[i]]
        if moving:
            at, primals = _at(map, res, vectors, moving)
            _, pullback = state.vjp(at, *primals)
            for i, bar in zip(moving, pullback(tuple(full)), strict=True):
                found[i] = bar
        return (None, *found)

    @staticmethod
    def jvp(ctx: Any, _: Any, *tangents: Any) -> Any:
        with state.forward_mode_inside():
            arrays = [state.own_primal(x) for x in state.alive(ctx.saved_tensors)]
            map = ctx.map
            count = map.res_count
            res, vectors = arrays[:count], arrays[count:]
            total: list[Any] = [None] * len(_metas(map, side="into"))
            if any(t is not None for t in tangents[count:]):
                dots = [
                    torch.zeros_like(v) if t is None else t
                    for v, t in zip(vectors, tangents[count:], strict=True)
                ]
                total = list(_Linear.apply(Holder(map), *res, *dots))
            moving = [i for i in range(count) if tangents[i] is not None]
            if moving:
                at, primals = _at(map, res, vectors, moving)
                values, pullback = state.vjp(at, *primals)
                _, push = state.vjp(pullback, tuple(torch.zeros_like(v) for v in values))
                (dots,) = push(tuple(tangents[i] for i in moving))
                total = [d if t is None else t + d for t, d in zip(total, dots, strict=True)]
            return tuple(total)


def _metas(map: Map, *, side: str) -> list[Any]:
    inputs = [m for m, flag in zip(map.linear_map.inputs.metas, map.inputs, strict=True) if flag]
    outputs = [m for m, flag in zip(map.linear_map.outputs.metas, map.outputs, strict=True) if flag]
    return inputs if map.transposed == (side == "into") else outputs


def _at(map: Map, res: Sequence[Any], vectors: Sequence[Any], moving: Sequence[int]) -> Any:
    """Returns the map's value as a function of the residuals that move."""

    def at(*moved: Any) -> tuple[Any, ...]:
        full = list(res)
        for i, value in zip(moving, moved, strict=True):
            full[i] = value
        return tuple(map.run(full, vectors))

    return at, [res[i] for i in moving]

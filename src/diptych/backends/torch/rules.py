"""Rules under PyTorch's transforms: autograd.Functions whose residuals are part of the graph.

Three paths, for what each costs. Nothing differentiates: the body runs as it is. Plain autograd: a
Function in the cheap `forward(ctx, ...)` form. torch.func, vmap or dual numbers: one in the
composable form. What `fwd` keeps beside arguments and outputs is returned as further outputs of the
Function, so that second derivatives see how it depends on the arguments; kept on ctx they would be
silently wrong (pytorch/pytorch#104040).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd import Function

from diptych.backends import Meta
from diptych.backends.torch import autocast, closures, host, state
from diptych.backends.torch.linear import apply_linear
from diptych.call import Call, Layout
from diptych.errors import PurityError, message
from diptych.linear import LinearMap, Side

NUMBER = Meta((), float)


def is_array(x: Any) -> bool:
    """Returns whether `x` is a tensor."""
    return isinstance(x, torch.Tensor)


def is_differentiable(x: Any) -> bool:
    """Returns whether `x` is a floating-point or complex tensor."""
    return isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex())


def meta_of(x: Any) -> Meta | None:
    """Returns the shape, dtype and device of what has a derivative, else `None`."""
    if isinstance(x, torch.Tensor):
        if x.is_floating_point() or x.is_complex():
            return Meta(x.shape, x.dtype, x.device)
        return None
    return NUMBER if isinstance(x, (float, complex, torch.SymFloat)) else None


def apply(call: Call, leaves: Sequence[Any]) -> Any:
    """Returns the rule's output; PyTorch's transforms see the rule's derivative and no other."""
    if state.transforms_active() or (state.compiling and state.dual(leaves)):
        closures.refuse_transformed(call, leaves)
        record = Record(call, call.statement.reads_any())
        arrays = _Composable.apply(record, *leaves)
        return record.layout.output(arrays[: record.layout.out_count])
    if torch.is_grad_enabled() and any(
        [x.requires_grad for x in leaves if isinstance(x, torch.Tensor)]
    ):
        record = Record(call, call.statement.reads_any())
        arrays = _Eager.apply(record, *leaves)
        if type(arrays) is not tuple:
            return arrays
        return record.layout.output(arrays[: record.layout.out_count])
    out = host.primal(call, leaves) if call.statement.host else call.primal(leaves)
    if torch.is_grad_enabled():
        closures.refuse(call, out)
    return out


class Record:
    """What one forward pass leaves for its derivative, beside the tensors that autograd saves."""

    __slots__ = ("autocast", "call", "inputs", "kept_free", "layout", "outputs", "reads", "slots")

    def __init__(self, call: Call, reads: frozenset[str] | None):
        self.call = call
        self.reads = reads
        self.autocast = autocast.now()

    def run(self, leaves: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Returns the output's arrays and the kept residuals; remembers how they are laid out."""
        layout, outputs, kept = run_forward(self.call, leaves, self.reads)
        self.layout = layout
        return outputs, kept

    def save(
        self, ctx: Any, leaves: Sequence[Any], arrays: Sequence[Any], *, forward_mode: bool
    ) -> None:
        """Saves on ctx the residuals, and the arguments if a kept residual depends on them."""
        layout = self.layout
        count = layout.out_count
        outputs, kept = arrays[:count], arrays[count:]
        self.inputs = Side([meta_of(x) for x in leaves])
        self.outputs = Side([meta_of(x) for x in outputs])
        slots: dict[tuple[str, int], int] = {}
        saved: list[Any] = []
        for source in layout.sources:
            if source not in slots:
                slots[source] = len(saved)
                saved.append(_origin(source, leaves, outputs, kept))
        self.kept_free = [i for i, x in enumerate(kept) if is_differentiable(x)]
        if self.kept_free:
            for i, leaf in enumerate(leaves):
                if isinstance(leaf, torch.Tensor) and ("input", i) not in slots:
                    slots["input", i] = len(saved)
                    saved.append(leaf)
        self.slots = slots
        ctx.save_for_backward(*saved)
        if forward_mode:
            ctx.save_for_forward(*saved)
        fixed = [x for x in arrays if not is_differentiable(x)]
        if fixed:
            ctx.mark_non_differentiable(*fixed)
        ctx.set_materialize_grads(False)

    def linear_map(self) -> LinearMap:
        """Returns the derivative, as a linear map."""
        from diptych.backends.torch import backend

        return LinearMap(self.call, self.layout, backend, self.inputs, self.outputs)

    def residuals(self, saved: Sequence[Any]) -> list[Any]:
        """Returns the residuals' arrays of the saved tensors."""
        return [saved[self.slots[source]] for source in self.layout.sources]

    def leaves(self, saved: Sequence[Any]) -> list[Any]:
        """Returns the leaves as far as they were saved; what `fwd` kept depends on these."""
        found: list[Any] = [None] * len(self.inputs.metas)
        for (kind, i), slot in self.slots.items():
            if kind == "input":
                found[i] = saved[slot]
        return found


def _origin(source: tuple[str, int], leaves: Any, outputs: Any, kept: Any) -> Any:
    kind, i = source
    return (leaves if kind == "input" else outputs if kind == "output" else kept)[i]


def run_forward(
    call: Call, leaves: Sequence[Any], reads: frozenset[str] | None, *, again: bool = False
) -> tuple[Layout, list[Any], list[Any]]:
    """Returns the layout, the output's arrays and the kept residuals.

    Args:
        call: the call.
        leaves: the leaves of its arguments.
        reads: which of the default residuals are kept.
        again: to be differentiated as code; what is read from outside was looked at before.
    """
    from diptych.backends.torch import backend

    before = state.versions(leaves)
    if call.statement.host:
        out, res = host.forward(call, leaves, reads)
    elif not again and not state.old_vmap_active() and closures.may_lose(call):
        with torch.enable_grad():
            detached = [state.constant(x) for x in leaves]
            out, res = call.forward(detached, reads, backend)
            closures.refuse(call, (out, res))
        leaves = detached
    else:
        out, res = call.forward(leaves, reads, backend)
    if state.versions(leaves) != before:
        raise changed(call, leaves, before)
    return call.lay_out(leaves, out, res, is_array)


def changed(call: Call, leaves: Sequence[Any], before: Sequence[int]) -> PurityError:
    """Returns the error for a rule that changed an argument in place."""
    now = state.versions(leaves)
    i = next(i for i, (a, b) in enumerate(zip(now, before, strict=True)) if a != b)
    return PurityError(
        message(
            f"{call.statement.name}: argument '{call.leaf_names[i]}' was changed in place",
            expected="a pure function, that leaves its arguments as they are",
            got="an operation such as x.add_(1), after which the derivative would see another "
            "argument",
            mend="compute with a copy: x = x.clone(), or x = x + 1",
        )
    )


class _Eager(Function):
    """A rule under plain autograd."""

    @staticmethod
    def forward(ctx: Any, record: Record, *leaves: Any) -> Any:
        outputs, kept = record.run(leaves)
        arrays = state.distinct((*outputs, *kept))
        ctx.record = record
        record.save(ctx, leaves, arrays, forward_mode=False)
        return arrays[0] if len(arrays) == 1 and record.layout.single else arrays

    @staticmethod
    def backward(ctx: Any, *bars: Any) -> Any:
        # saved_tensors may be read once per call only: non-reentrant checkpoint recomputes there.
        with state.constants_allowed(bars), autocast.as_it_was(ctx.record.autocast):
            return None, *_pull(ctx.record, ctx.saved_tensors, bars, ctx.needs_input_grad[1:])


class _Composable(Function):
    """A rule under torch.func transforms, vmap and dual numbers."""

    generate_vmap_rule = True

    @staticmethod
    def forward(record: Record, *leaves: Any) -> Any:
        outputs, kept = record.run(leaves)
        return tuple(state.own_storage(x) for x in state.distinct((*outputs, *kept), leaves))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        record, *leaves = inputs
        level = Record(record.call, record.reads)  # each level of nesting has shapes of its own
        level.layout, level.autocast = record.layout, record.autocast
        ctx.record = level
        level.save(ctx, leaves, output, forward_mode=True)

    @staticmethod
    def backward(ctx: Any, *bars: Any) -> Any:
        with state.constants_allowed(bars), autocast.as_it_was(ctx.record.autocast):
            return None, *_pull(ctx.record, ctx.saved_tensors, bars, ctx.needs_input_grad[1:])

    @staticmethod
    def jvp(ctx: Any, _: Any, *tangents: Any) -> Any:
        with state.constants_allowed(tangents), autocast.as_it_was(ctx.record.autocast):
            return _push(ctx.record, ctx.saved_tensors, tangents)


def _pull(
    record: Record, saved: Sequence[Any], bars: Sequence[Any], wanted: Sequence[bool]
) -> list[Any]:
    saved = state.alive(saved)
    layout = record.layout
    out_bars, kept_bars = bars[: layout.out_count], bars[layout.out_count :]
    linear_map = record.linear_map()
    res = record.residuals(saved)
    statement = record.call.statement
    if statement.host or (statement.two_maps and torch.is_grad_enabled()):
        found = apply_linear(linear_map, res, out_bars, wanted, transposed=True)
    else:
        found = linear_map.pull(layout.residuals(res), out_bars, wanted)
    if any([bar is not None for bar in kept_bars]):
        found = _add_kept(record, saved, kept_bars, wanted, found)
    return found


def _kept_of(record: Record, saved: Sequence[Any], moving: Sequence[int]) -> Any:
    """Returns the differentiable kept residuals as a function of the moving leaves."""
    leaves = record.leaves(saved)

    def kept(*moved: Any) -> tuple[Any, ...]:
        full = list(leaves)
        for i, value in zip(moving, moved, strict=True):
            full[i] = value
        found = run_forward(record.call, full, record.reads, again=True)[2]
        return tuple(found[i] for i in record.kept_free)

    return kept, [leaves[i] for i in moving]


def _add_kept(
    record: Record,
    saved: Sequence[Any],
    bars: Sequence[Any],
    wanted: Sequence[bool],
    found: list[Any],
) -> list[Any]:
    """Adds the cotangents that come through what `fwd` kept: the second order needs them."""
    moving = [
        i
        for i, (want, meta) in enumerate(zip(wanted, record.inputs.metas, strict=True))
        if want and meta is not None and meta is not NUMBER
    ]
    kept, primals = _kept_of(record, saved, moving)
    values, pullback = state.vjp(kept, *primals)
    given = [bars[i] for i in record.kept_free]
    given = [torch.zeros_like(v) if b is None else b for v, b in zip(values, given, strict=True)]
    found = list(found)
    for i, bar in zip(moving, pullback(tuple(given)), strict=True):
        found[i] = bar if found[i] is None else found[i] + bar
    return found


def _push(record: Record, saved: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, ...]:
    with state.forward_mode_inside():
        saved = [state.own_primal(x) for x in state.alive(saved)]
        layout = record.layout
        linear_map = record.linear_map()
        res = record.residuals(saved)
        if record.call.statement.two_maps:
            found = apply_linear(linear_map, res, tangents, None, transposed=False)
        else:
            found = linear_map.push(layout.residuals(res), tangents)
        kept: list[Any] = [None] * layout.kept_count
        if record.kept_free:
            kept = _kept_tangents(record, saved, tangents)
        return (*found, *kept)


def _kept_tangents(record: Record, saved: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """Returns the tangents of what `fwd` kept.

    By two VJPs: a torch.func.jvp in here would be nested forward mode, which PyTorch refuses.
    """
    moving = [i for i, t in enumerate(tangents) if t is not None]
    kept, primals = _kept_of(record, saved, moving)
    found: list[Any] = [None] * record.layout.kept_count
    if not moving:
        return found
    values, pullback = state.vjp(kept, *primals)
    _, push = state.vjp(pullback, tuple(torch.zeros_like(v) for v in values))
    (dots,) = push(tuple(tangents[i] for i in moving))
    for i, dot in zip(record.kept_free, dots, strict=True):
        found[i] = dot
    return found

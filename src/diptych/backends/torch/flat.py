"""The common call, made cheap: every argument one tensor, one tensor out, plain autograd.

What can be known before the call is worked out once for each `Call`; what is unusual (another
output, residuals of another kind, second order through two stated maps) goes the general way of
`rules.py`, to the same result.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from diptych.arguments import flatten
from diptych.backends import Meta
from diptych.backends.torch import autocast, closures, rules, state
from diptych.backends.torch.elementwise import times_partials
from diptych.call import Call, Layout
from diptych.linear import Side
from diptych.static import Static

_PLAIN = frozenset({Tensor, torch.nn.Parameter})
_FLOATS = frozenset(
    {
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.complex32,
        torch.complex64,
        torch.complex128,
    }
)
_NOTHING = Static(())
_WATCHED = 16
_version = operator.attrgetter("_version")  # counts the changes in place
_functorch_active = state.functorch_active
_is_grad_enabled = torch.is_grad_enabled
_autocast_enabled = autocast.any_enabled
_unwrap_if_dead = state.unwrap_if_dead


class Flat:
    """What is known of a flat call before it runs.

    Args:
        call: the call; `call.flat` holds and it has a VJP or partials of its own.
    """

    def __init__(self, call: Call):
        statement = call.statement
        self.call = call
        self.name = statement.name
        self.count = len(call.parameters.dynamic_names)
        self.two_maps = statement.two_maps
        self.body = _bound(call, statement.body)
        self.fwd = statement.fwd and _bound(call, statement.fwd)
        self.run = self.fwd or self.body
        self.watched = _WATCHED
        self.vjp = statement.vjp
        self.partials = statement.partials
        self.layouts: dict[Any, Any] = {}
        if statement.fwd is None:
            self.default = _default(self)
            kinds = [kind for kind, _ in self.default.keeps]
            self.kept_leaves = [i for kind, i in self.default.keeps if kind == "input"]
            # Arguments come before the output, in the order of the named tuple.
            self.keeps_out = "output" in kinds
        captures = statement.captures
        plain = all(isinstance(v, closures._PLAIN) for v in call.static.values)
        self.sound = captures.unchanged if plain else lambda: False
        # Where nothing is read from outside, nothing can change there.
        self.always_sound = plain and captures.unchanged() and not captures._fixed


class Saved(NamedTuple):
    """How the residuals of a flat call are saved, and rebuilt of what was saved.

    Args:
        flat: the call.
        keeps: where each saved tensor comes from: `("input" | "output" | "kept", position)`.
        rebuild: makes the residuals of the saved tensors.
        layout: gives the layout, which only the general way needs.
    """

    flat: Flat
    keeps: tuple[tuple[str, int], ...]
    rebuild: Callable[[Sequence[Any]], Any]
    layout: Callable[[], Layout]


def _bound(call: Call, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `function` of the leaves alone, its static arguments in place."""
    if call.bare:
        return function
    parameters = call.parameters
    template: list[Any] = [None] * len(parameters.names)
    for i, value in zip(parameters.static_positions, call.static.values, strict=True):
        template[i] = value
    positions = parameters.dynamic_positions

    def bound(*leaves: Any) -> Any:
        args = template.copy()
        for i, leaf in zip(positions, leaves, strict=True):
            args[i] = leaf
        return function(*args)

    return bound


def _default(flat: Flat) -> Saved:
    """Returns how the named tuple of what the derivative reads is saved and rebuilt."""
    call = flat.call
    statement, parameters = call.statement, call.parameters
    reads = statement.reads_any()
    dynamic = {name: i for i, name in enumerate(parameters.dynamic_names)}
    static = dict(zip(parameters.static_names, call.static.values, strict=True))
    keeps: list[tuple[str, int]] = []
    slots: list[int] = []
    template: list[Any] = [None] * (len(parameters.names) + 1)
    for position, name in enumerate([*parameters.names, "out"]):
        if reads is not None and name not in reads:
            continue
        if position == len(parameters.names):
            keeps.append(("output", 0))
        elif name in dynamic:
            keeps.append(("input", dynamic[name]))
        else:
            template[position] = static[name]
            continue
        slots.append(position)
    new, kind = tuple.__new__, statement.residuals

    if slots == [0]:
        rest = tuple(template[1:])
        return Saved(
            flat, tuple(keeps), lambda saved: new(kind, saved + rest), lambda: _default_layout(flat)
        )

    def rebuild(saved: Sequence[Any]) -> Any:
        values = template.copy()
        for slot, tensor in zip(slots, saved, strict=True):
            values[slot] = tensor
        return new(kind, values)

    return Saved(flat, tuple(keeps), rebuild, lambda: _default_layout(flat))


def plan(call: Call, kinds: Sequence[type]) -> Callable[[Sequence[Any]], Any] | None:
    """Returns how to call the rule with leaves of these types, if there is a cheap way."""
    statement = call.statement
    if (
        not call.flat
        or statement.host
        or statement.linear
        or (statement.vjp is None and statement.partials is None)
        or not _PLAIN.issuperset(kinds)
    ):
        return None
    flat = Flat(call)
    body, always_sound, sound = flat.body, flat.always_sound, flat.sound
    if flat.fwd is not None:
        body = lambda *leaves: call.primal(leaves)  # noqa: E731

    def run(leaves: Sequence[Any]) -> Any:
        if _functorch_active() or forward_ad._current_level >= 0:
            return rules.apply(call, leaves)
        if _is_grad_enabled():
            for leaf in leaves:
                if leaf.requires_grad:
                    if (always_sound or sound()) and not _autocast_enabled():
                        result = _apply(flat, *[_unwrap_if_dead(leaf) for leaf in leaves])
                        return _unwrap(result) if type(result) is tuple else result
                    return rules.apply(call, leaves)
            out = body(*leaves)
            if type(out) is not Tensor or out.requires_grad:
                closures.refuse(call, out)
            return out
        return body(*leaves)

    return run


def _unwrap(result: tuple[Any, ...]) -> Any:
    first = result[0]
    if type(first) is Layout:
        return first.output(result[1 : 1 + first.out_count])
    return first


def _watched(flat: Flat, leaves: Sequence[Any]) -> Any:
    """Runs a call, and raises if it changes an argument in place.

    Looking at each call would cost a small rule some hundredths: what a rule's code does at all, it
    mostly does in its first calls.
    """
    flat.watched -= 1
    try:
        before = tuple(map(_version, leaves))
    except RuntimeError:  # inference tensors keep no count
        return flat.run(*leaves)
    given = flat.run(*leaves)
    if tuple(map(_version, leaves)) != before:
        flat.watched = _WATCHED
        raise rules.changed(flat.call, leaves, before)
    return given


class _Flat(Function):
    """A flat call under plain autograd; the name of its node in the graph."""

    @staticmethod
    def forward(ctx: Any, flat: Flat, *leaves: Any) -> Any:
        kept: Sequence[Any] = ()
        given = _watched(flat, leaves) if flat.watched else flat.run(*leaves)
        if flat.fwd is None:
            out = given
            known, res = flat.default, None
            saved = [leaves[i] for i in flat.kept_leaves]
            if flat.keeps_out:
                saved.append(out)
        else:
            if type(given) is not tuple or len(given) != 2:
                flat.call.check_pair(given)
            out, res = given
            found = _lay_out(flat, leaves, out, res)
            if found is None:
                return _general(ctx, flat, leaves, out, res)
            known, saved, kept = found
        if type(out) is not Tensor or out.dtype not in _FLOATS:
            return _general(ctx, flat, leaves, out, res)
        for leaf in leaves:
            if leaf is out:
                return _general(ctx, flat, leaves, out, res)
        ctx.known = known
        ctx.metas = [(leaf.shape, leaf.dtype, leaf.device) for leaf in leaves]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*saved)
        return (out, *kept) if kept else out

    @staticmethod
    def backward(ctx: Any, bar: Any, *more: Any) -> Any:
        if _autocast_enabled():  # around the backward pass only
            with autocast.as_it_was(()):
                return _Flat.backward(ctx, bar, *more)
        known = ctx.known
        saved = ctx.saved_tensors  # once only: non-reentrant checkpoint recomputes there
        if known is None:
            return None, *rules._pull(ctx.record, saved, more, ctx.needs_input_grad[1:])
        flat = known.flat
        if (
            bar is None
            or (more and any([x is not None for x in more]))
            or (flat.two_maps and _is_grad_enabled())
        ):
            return _pull(ctx, bar, saved, more)
        metas = ctx.metas
        if flat.vjp is None:
            found = times_partials(flat.partials(known.rebuild(saved)), bar, metas)
        else:
            found = flat.vjp(known.rebuild(saved), bar)
        if flat.count == 1:
            if type(found) is Tensor:
                ((shape, dtype, _),) = metas
                if found.shape == shape and found.dtype is dtype:
                    return None, found
        elif type(found) is tuple and len(found) == flat.count:
            for part, (shape, dtype, _) in zip(found, metas, strict=True):
                if type(part) is not Tensor or part.shape != shape or part.dtype is not dtype:
                    break
            else:
                return None, *found
        # Lazy, None, or wrong: the general way evaluates, fills or names it.
        if flat.vjp is None:
            return _pull(ctx, bar, saved, more)
        linear_map = _record(ctx, bar).linear_map()
        wanted = ctx.needs_input_grad[1:]
        return None, *linear_map._argument_leaves(found, wanted, f"vjp of {flat.name}")


# Without Function.apply's Python, which serves functorch.
_apply = super(Function, _Flat).apply  # type: ignore[misc]  # Function's base is untyped


def _pull(ctx: Any, bar: Any, saved: Sequence[Any], more: Sequence[Any]) -> tuple[Any, ...]:
    wanted = ctx.needs_input_grad[1:]
    return None, *rules._pull(_record(ctx, bar), saved, (bar, *more), wanted)


def _lay_out(flat: Flat, leaves: Sequence[Any], out: Any, res: Any) -> Any:
    """Returns how residuals are saved, the tensors to save, and those that must be outputs."""
    single = type(res) is Tensor
    if not single and type(res) is not tuple:
        return None
    sources: list[Any] = [single]
    kept: list[Any] = []
    for tensor in (res,) if single else res:
        if type(tensor) not in _PLAIN:
            return None
        for i, leaf in enumerate(leaves):
            if tensor is leaf:
                sources.append(_INPUTS[i] if i < 8 else ("input", i))
                break
        else:
            if tensor is out:
                sources.append(_OUTPUT)
            else:
                for i, other in enumerate(kept):  # noqa: B007 - read after the loop
                    if tensor is other:
                        break
                else:
                    if tensor.dtype not in _FLOATS:
                        return None
                    i = len(kept)
                    kept.append(tensor)
                sources.append(("kept", i))
    key = tuple(sources)
    known = flat.layouts.get(key)
    if known is None:
        known = flat.layouts[key] = _new_layout(flat, single, key[1:], bool(kept), res, out)
    if single and not kept:
        return known, (res,), kept
    return (
        known,
        [
            leaves[i] if kind == "input" else out if kind == "output" else kept[i]
            for kind, i in known.keeps
        ],
        kept,
    )


_INPUTS = tuple([("input", i) for i in range(8)])
_OUTPUT = ("output", 0)


def _new_layout(
    flat: Flat, single: bool, sources: tuple[tuple[str, int], ...], kept: bool, res: Any, out: Any
) -> Any:
    layout = Layout(flatten(out)[1], _NOTHING, 1, flatten(res)[1], _NOTHING, sources)
    keeps = list(dict.fromkeys(sources))
    positions = [keeps.index(source) for source in sources]
    if kept:  # the second order needs the arguments that a kept residual depends on
        keeps += [("input", i) for i in range(flat.count) if ("input", i) not in keeps]
    if single:
        rebuild = _first
    elif positions == list(range(len(keeps))):
        rebuild = _all
    else:
        rebuild = lambda saved: tuple([saved[i] for i in positions])  # noqa: E731
    return Saved(flat, tuple(keeps), rebuild, lambda: layout)


def _first(saved: Sequence[Any]) -> Any:
    return saved[0]


def _all(saved: Sequence[Any]) -> Any:
    return saved


def _general(ctx: Any, flat: Flat, leaves: Sequence[Any], out: Any, res: Any) -> Any:
    """Saves what is unusual as `rules.py` does, and returns the layout before the arrays."""
    call = flat.call
    if not flat.fwd:
        res = call.default_residuals(leaves, out, call.statement.reads_any())
    record = rules.Record(call, call.statement.reads_any())
    record.layout, outputs, kept = call.lay_out(leaves, out, res, rules.is_array)
    ctx.known, ctx.record = None, record
    arrays = state.distinct((*outputs, *kept))
    record.save(ctx, leaves, arrays, forward_mode=False)
    return (record.layout, *arrays)


def _record(ctx: Any, bar: Any) -> rules.Record:
    """Returns the general record of a flat call."""
    known = ctx.known
    record = rules.Record(known.flat.call, known.flat.call.statement.reads_any())
    layout = record.layout = known.layout()
    record.inputs = Side([Meta(*meta) if meta[1] in _FLOATS else None for meta in ctx.metas])
    record.outputs = Side([None if bar is None else Meta(bar.shape, bar.dtype, bar.device)])
    record.slots = {source: i for i, source in enumerate(known.keeps)}
    record.kept_free = list(range(layout.kept_count))
    return record


def _default_layout(flat: Flat) -> Layout:
    """Returns the layout of the default residuals: arrays are inputs or the output."""
    marks = [object() for _ in range(flat.count)]
    out = object()
    call = flat.call
    res = call.default_residuals(marks, out, call.statement.reads_any())
    is_mark = {id(x) for x in (*marks, out)}
    return call.lay_out(marks, out, res, lambda x: id(x) in is_mark)[0]

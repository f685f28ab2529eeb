"""Functions of any pytree as functions of arrays alone, as the frameworks differentiate them.

A framework's own transforms know its own pytrees and want each leaf to have a derivative. Here a
function takes and returns whatever a rule may take and return; what has no derivative (`None`,
integers, text) passes by, and its tangent and cotangent are `None`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.arguments import SCALARS, align, describe, flatten, unflatten
from diptych.errors import StructureError, kind_of, message

if TYPE_CHECKING:
    from diptych.backends import Backend

# `(f, primals, tangents) -> (out, out_dots, aux)` and `(f, primals) -> (out, pullback, aux)` for
# functions `f(*arrays) -> (arrays, aux)`: a framework's own.
RawJvp = Callable[[Callable[..., Any], Sequence[Any], Sequence[Any]], tuple[Any, Any, Any]]
RawVjp = Callable[[Callable[..., Any], Sequence[Any]], tuple[Any, Any, Any]]


def name_of(f: Callable[..., Any]) -> str:
    """Returns what errors call a function."""
    return getattr(f, "__name__", type(f).__name__)


def jvp(
    backend: Backend,
    raw: RawJvp,
    f: Callable[..., Any],
    primals: Sequence[Any],
    tangents: Sequence[Any],
) -> tuple[Any, Any]:
    """Returns the output of `f` and its tangent, by a framework's JVP of functions of arrays."""
    opened = Opened(backend, f, tuple(primals), has_aux=False)
    where = f"jvp of {name_of(f)}"
    dots = fit(backend, opened.leaves, opened.treedef, tuple(tangents), where, "tangent")
    if opened.moving:
        moved = [opened.dot(i, dots[i]) for i in opened.moving]
        values, found, carried = raw(opened, opened.primals, moved)
    else:
        values, carried = opened()
        found = [backend.zeros(backend.meta(x)) for x in values]
    return opened.output(values, carried), opened.tangent(found)


def vjp(
    backend: Backend, raw: RawVjp, f: Callable[..., Any], primals: Sequence[Any], has_aux: bool
) -> tuple[Any, ...]:
    """Returns the output of `f`, its pullback, and `aux` if there is any, by a framework's VJP."""
    opened = Opened(backend, f, tuple(primals), has_aux=has_aux)
    pullback = None
    if opened.moving:
        values, pullback, carried = raw(opened, opened.primals)
    else:
        values, carried = opened()
    out = opened.output(values, carried)
    leaves, treedef = flatten(out)
    free = opened.out_free

    def pull(bar: Any) -> tuple[Any, ...]:
        bars = fit(backend, leaves, treedef, bar, f"pullback of {name_of(f)}", "cotangent")
        if pullback is None:
            return opened.cotangents([])
        given = [
            backend.zeros(backend.meta(leaves[i])) if bars[i] is None else bars[i] for i in free
        ]
        # Where no output has a derivative a zero stands for one.
        given = given or [backend.zeros(backend.meta(x)) for x in values]
        return opened.cotangents(pullback(tuple(given)))

    return (out, pull, opened.aux(carried)) if has_aux else (out, pull)


def vmap(
    backend: Backend, f: Callable[..., Any], in_axes: Any, out_axes: Any, args: Any, kwargs: Any
) -> Any:
    """Returns what `f` gives mapped over an axis of its arguments, by a framework's vmap."""
    where = f"vmap of {name_of(f)}"
    leaves, treedef = flatten(args)
    in_axes = tuple(in_axes) if isinstance(in_axes, list) else in_axes
    if len(leaves) == len(args) and all([x is y for x, y in zip(args, leaves, strict=True)]):
        plain = isinstance(in_axes, tuple) and len(in_axes) == len(args)
        plain = plain and all([axis is None or isinstance(axis, int) for axis in in_axes])
    else:
        plain = False
    spread = list(in_axes) if plain else _spread(in_axes, treedef, f"{where}: in_axes", "arguments")
    named_leaves, named_treedef = flatten(kwargs) if kwargs else ([], None)
    leaves, count = [*leaves, *named_leaves], len(leaves)
    spread += [0] * len(named_leaves)
    mapped = [
        i
        for i, (x, axis) in enumerate(zip(leaves, spread, strict=True))
        if axis is not None and (backend.is_array(x) or isinstance(x, SCALARS))
    ]
    outs: list[Any] = []
    out_spread: list[Any] = []
    out_treedef: Any = None

    def value(*moved: Any) -> Any:
        full = list(leaves)
        for i, value in zip(mapped, moved, strict=True):
            full[i] = value
        args = unflatten(treedef, full[:count])
        named = unflatten(named_treedef, full[count:]) if named_treedef is not None else {}
        return f(*args, **named)

    def of_arrays(*moved: Any) -> tuple[Any, ...]:
        nonlocal outs, out_treedef, out_spread
        outs, out_treedef = flatten(value(*moved))
        out_spread = _spread(out_axes, out_treedef, f"{where}: out_axes", "output")
        return tuple([x for x in outs if backend.is_array(x)])

    raw_axes, moved = tuple([spread[i] for i in mapped]), [leaves[i] for i in mapped]
    if not isinstance(out_axes, int) and _holds_none(out_axes):
        # Which outputs do not depend on the axis, only the framework knows.
        return backend.vmap(value, raw_axes, out_axes)(*moved)
    arrays = iter(backend.vmap(of_arrays, raw_axes, 0)(*moved))
    xp = backend.namespace()
    for i, (x, axis) in enumerate(zip(outs, out_spread, strict=True)):
        if backend.is_array(x):
            outs[i] = xp.moveaxis(next(arrays), 0, axis) if axis else next(arrays)
    return unflatten(out_treedef, outs)


def _holds_none(axes: Any) -> bool:
    parts = axes.values() if isinstance(axes, dict) else axes
    return axes is None or (isinstance(parts, Iterable) and any([_holds_none(x) for x in parts]))


def _spread(axes: Any, treedef: Any, where: str, what: str) -> list[Any]:
    """Returns one axis for each leaf of a structure, of axes that may stand for whole parts."""
    if axes is None or isinstance(axes, int):
        return [axes] * treedef.num_leaves
    children = treedef.children()
    one_level = treedef.one_level()
    try:
        parts = one_level.flatten_up_to(axes)
    except (AttributeError, ValueError, TypeError):
        raise StructureError(
            message(
                where,
                expected=f"an integer, None, or a tuple or pytree of them for {describe(treedef)}",
                got=f"{axes!r}",
                mend=f"give one axis for all of the {what}, or one for each",
            )
        ) from None
    found = []
    for child, part in zip(children, parts, strict=True):
        found.extend(_spread(part, child, where, what))
    return found


class Opened:
    """A function of arrays with a derivative that returns `(arrays with a derivative, others)`.

    Args:
        backend: the framework.
        f: the function of pytrees.
        primals: its arguments.
        has_aux: whether it returns `(output, aux)`.
    """

    def __init__(
        self, backend: Backend, f: Callable[..., Any], primals: tuple[Any, ...], *, has_aux: bool
    ):
        self.backend = backend
        self.f = f
        self.has_aux = has_aux
        self.leaves, self.treedef = flatten(primals)
        self.moving = [i for i, x in enumerate(self.leaves) if backend.moves(x)]
        self.primals = tuple([self.leaves[i] for i in self.moving])
        self.out_leaves: list[Any] = []
        self.out_treedef: Any = None
        self.out_free: list[int] = []
        self.out_carried: list[int] = []
        self.aux_leaves: list[Any] = []
        self.aux_treedef: Any = None
        self.aux_carried: list[int] = []

    def __call__(self, *moved: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Returns the arrays of the output that have a derivative, and all others of it and aux."""
        backend = self.backend
        full = list(self.leaves)
        for i, value in zip(self.moving, moved, strict=True):
            full[i] = value
        out = self.f(*unflatten(self.treedef, full))
        if self.has_aux:
            out, aux = self._pair(out)
            self.aux_leaves, self.aux_treedef = flatten(aux)
            self.aux_carried = [i for i, x in enumerate(self.aux_leaves) if backend.is_array(x)]
        leaves, self.out_treedef = flatten(out)
        self.out_leaves = leaves
        arrays = [i for i, x in enumerate(leaves) if backend.is_array(x)]
        self.out_free = [i for i in arrays if backend.is_differentiable(leaves[i])]
        self.out_carried = [i for i in arrays if i not in self.out_free]
        found = [leaves[i] for i in self.out_free]
        if not found and moved:
            found = [backend.zeros(backend.meta(moved[0]))]
        others = [leaves[i] for i in self.out_carried]
        others += [self.aux_leaves[i] for i in self.aux_carried]
        return tuple(found), tuple(others)

    def _pair(self, result: Any) -> tuple[Any, Any]:
        if isinstance(result, (tuple, list)) and len(result) == 2:
            return result[0], result[1]
        raise StructureError(
            message(
                f"{name_of(self.f)} with has_aux=True",
                expected="a pair (output, auxiliary)",
                got=kind_of(result),
                mend="return `out, aux`, or leave has_aux out",
            )
        )

    def dot(self, i: int, dot: Any) -> Any:
        """Returns the tangent of a leaf that moves, zeros for `None`."""
        backend = self.backend
        return backend.zeros(backend.meta(self.leaves[i])) if dot is None else dot

    def output(self, values: Sequence[Any], carried: Sequence[Any]) -> Any:
        """Returns the output of its arrays."""
        leaves = list(self.out_leaves)
        for i, value in zip(self.out_free, values, strict=False):  # none free: one stands in
            leaves[i] = value
        for i, value in zip(self.out_carried, carried, strict=False):
            leaves[i] = value
        return unflatten(self.out_treedef, leaves)

    def aux(self, carried: Sequence[Any]) -> Any:
        """Returns `aux` of its arrays."""
        leaves = list(self.aux_leaves)
        for i, value in zip(self.aux_carried, carried[len(self.out_carried) :], strict=True):
            leaves[i] = value
        return unflatten(self.aux_treedef, leaves)

    def tangent(self, dots: Sequence[Any]) -> Any:
        """Returns the tangent of the output; `None` for what has none."""
        leaves: list[Any] = [None] * len(self.out_leaves)
        for i, dot in zip(self.out_free, dots, strict=False):
            leaves[i] = dot
        return unflatten(self.out_treedef, leaves)

    def cotangents(self, found: Sequence[Any]) -> tuple[Any, ...]:
        """Returns the cotangents in the structure of the arguments; `None` for what has none."""
        full: list[Any] = [None] * len(self.leaves)
        for i, value in zip(self.moving, found, strict=True):
            full[i] = value
        return unflatten(self.treedef, full)


def fit(
    backend: Backend, leaves: Sequence[Any], treedef: Any, vectors: Any, where: str, what: str
) -> list[Any]:
    """Returns one tangent or cotangent for each leaf, `None` for zero and for what has none.

    Args:
        backend: the framework.
        leaves: the primals.
        treedef: their structure.
        vectors: a pytree of their structure, in which `None` stands for zeros.
        where: the transform, for messages.
        what: "tangent" or "cotangent".

    Raises:
        StructureError: if a structure, a shape or a dtype is another.
    """
    count = len(flatten(vectors)[0])
    kind = "number" if count != len(leaves) else "structure"
    mend = f"pass one {what} for each primal, of the same structure; None for zero"
    parts = align(treedef, vectors, f"{where}: wrong {kind} of {what}s", "the primals", mend)
    found: list[Any] = [None] * len(leaves)
    for i, (leaf, part) in enumerate(zip(leaves, parts, strict=True)):
        if part is None or not backend.moves(leaf):
            continue
        meta = backend.meta(leaf)
        expected, shape = tuple(meta.shape), getattr(part, "shape", ())
        if isinstance(part, (*SCALARS, np.ndarray)) and tuple(shape) == expected:
            part = backend.from_number(part, meta)
        dtype = getattr(part, "dtype", type(part).__name__)
        if tuple(shape) == expected and dtype == meta.dtype:
            found[i] = part
            continue
        raise StructureError(
            message(
                f"{where}: {what} {i} does not fit its primal",
                expected=f"shape {expected}, {meta.dtype}",
                got=f"shape {tuple(shape)}, {dtype}",
                mend=f"pass a {what} of shape {expected}, {meta.dtype}, or None for zero",
            )
        )
    return found

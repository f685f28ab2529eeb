"""Variations of an example: a third of the defects of real rules show only there.

A neighbour is the same call with other values, sizes, parameters or indices. Those at which
defects are commonest come first, since a budget ends the list. One that the function itself
rejects, by raising or by NaN, is no neighbour.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from diptych.proof.subject import Example, Subject, Values


class Neighbour(NamedTuple):
    """One variation.

    Args:
        how: in words, so that it can be made again.
        example: the varied example.
    """

    how: str
    example: Example


def neighbours(subject: Subject) -> Iterator[Neighbour]:
    """Yields variations of the subject's example, the kinds taking turns."""
    kinds = (
        _values(subject),
        _sizes(subject),
        _parameters(subject),
        _indices(subject),
        _broadcast(subject),
    )
    for round_of in itertools.zip_longest(*kinds):
        for neighbour in round_of:
            if neighbour is not None:
                yield neighbour


def special_points(subject: Subject) -> Iterator[Neighbour]:
    """Yields the variations at which derivatives are most often not finite."""
    for how in ("all zero", "one entry zero", "all entries equal", "times 1e6", "times 1e-6"):
        yield from _with(subject, how, _VALUES[how])


# Values.


def _rng() -> np.random.Generator:
    return np.random.default_rng(29)


def _one_zero(x: np.ndarray) -> np.ndarray:
    y = x.copy()
    y.reshape(-1)[y.size // 2] = 0
    return y


def _ties(x: np.ndarray) -> np.ndarray:
    y = x.copy()
    flat = y.reshape(-1)
    flat[1::2] = flat[: 2 * (flat.size // 2) : 2]
    return y


def _equal_rows(x: np.ndarray) -> np.ndarray:
    if x.ndim < 2 or x.shape[0] < 2:
        raise _DoesNotApply
    return np.broadcast_to(x[:1], x.shape).copy()


def _sorted(x: np.ndarray) -> np.ndarray:
    return np.sort(x, axis=-1) if x.ndim else x


def _symmetric(x: np.ndarray) -> np.ndarray:
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise _DoesNotApply
    turned = np.conj(np.swapaxes(x, -1, -2))
    return (x + turned) / 2


def _general(x: np.ndarray) -> np.ndarray:
    """A symmetric matrix made general."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2] or x.shape[-1] < 2:
        raise _DoesNotApply
    if not np.allclose(x, np.conj(np.swapaxes(x, -1, -2))):
        raise _DoesNotApply
    return x + 0.1 * np.triu(np.ones(x.shape[-2:]), 1) * np.abs(x).mean()


def _singular(x: np.ndarray) -> np.ndarray:
    if x.ndim < 2 or x.shape[-2] < 2:
        raise _DoesNotApply
    y = x.copy()
    y[..., -1, :] = y[..., 0, :]
    return y


def _turned(angle: complex) -> Callable[[np.ndarray], np.ndarray]:
    def turned(x: np.ndarray) -> np.ndarray:
        if x.dtype.kind != "c":
            raise _DoesNotApply
        return x * angle

    return turned


class _DoesNotApply(Exception):  # noqa: N818 - says that a variation is none for this array
    pass


_VALUES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "signs flipped": lambda x: -x,
    "one entry zero": _one_zero,
    "times 1e-3": lambda x: x * 1e-3,
    "times 30": lambda x: x * 30,
    "tied entries": _ties,
    "all zero": np.zeros_like,
    "alternating signs": lambda x: np.where(np.arange(x.size).reshape(x.shape) % 2, -x, x),
    "sorted": _sorted,
    "all entries equal": lambda x: np.full_like(x, x.reshape(-1)[0]),
    "rounded to integers": lambda x: np.round(3 * x),
    "equal rows": _equal_rows,
    "times 1e-6": lambda x: x * 1e-6,
    "times 1e3": lambda x: x * 1e3,
    "shifted by 3": lambda x: x + 3,
    "shifted by -3": lambda x: x - 3,
    "sorted downwards": lambda x: _sorted(x)[..., ::-1].copy() if x.ndim else x,
    "made symmetric": _symmetric,
    "made general": _general,
    "made singular": _singular,
    "times i": _turned(1j),
    "times -1 + i": _turned(-1 + 1j),
    "times 1e6": lambda x: x * 1e6,
    "random, in [-1, 1]": lambda x: _rng().uniform(-1, 1, x.shape),
    "random, in [0, 1]": lambda x: _rng().uniform(0, 1, x.shape),
    "conjugated": lambda x: np.conj(x) if x.dtype.kind == "c" else -x,
}


def _values(subject: Subject) -> Iterator[Neighbour]:
    moving = [i for i, m in enumerate(subject.moving) if m]
    alike = _equal_arguments(subject, moving)
    for how, change in _VALUES.items():
        yield from _with(subject, how, change)
        if how == "times 1e-3":
            yield from alike


def _with(
    subject: Subject, how: str, change: Callable[[np.ndarray], np.ndarray]
) -> Iterator[Neighbour]:
    """Yields the example with the change made to each array by itself, and to all of them."""
    moving = [i for i, m in enumerate(subject.moving) if m and subject.values[i].size]
    changed: dict[int, np.ndarray] = {}
    for i in moving:
        x = subject.values[i]
        try:
            y = np.asarray(change(x), x.dtype)
        except _DoesNotApply:
            continue
        if not np.array_equal(x, y):
            changed[i] = y
    for i, y in changed.items():
        values = list(subject.values)
        values[i] = y
        yield Neighbour(f"'{subject.names[i]}': {how}", subject.example._replace(values=values))
    if len(changed) > 1:
        values = [changed.get(i, x) for i, x in enumerate(subject.values)]
        yield Neighbour(f"all arguments: {how}", subject.example._replace(values=values))


def _equal_arguments(subject: Subject, moving: Sequence[int]) -> Iterator[Neighbour]:
    for i, j in itertools.combinations(moving, 2):
        if subject.values[i].shape == subject.values[j].shape:
            values = list(subject.values)
            values[j] = values[i].astype(values[j].dtype)
            how = f"'{subject.names[j]}' equal to '{subject.names[i]}'"
            yield Neighbour(how, subject.example._replace(values=values))


# Sizes.

_LARGEST = 200_000


def _sizes(subject: Subject) -> Iterator[Neighbour]:
    """Yields other lengths; axes of one length, in all arguments, change together."""
    lengths = sorted({n for x in subject.values for n in x.shape if n > 0})
    plans: list[list[tuple[int, int]]] = []
    for n in lengths:
        wanted = dict.fromkeys([1, n + 1, 65, 0, 129, 2, n - 1, 5, 257, 7, 300])
        plans.append([(n, m) for m in wanted if m >= 0 and m != n])
    first = True
    for step in itertools.zip_longest(*plans):
        for plan in step:
            if plan is None:
                continue
            n, m = plan
            values = [_resized(x, n, m) for x in subject.values]
            if sum(x.size for x in values) <= _LARGEST:
                how = f"axes of length {n} made {m} long"
                yield Neighbour(how, subject.example._replace(values=values))
        if first:
            yield from _batched(subject)
            first = False


def _broadcast(subject: Subject) -> Iterator[Neighbour]:
    """Yields calls in which one argument is broadcast: an axis of length 1, and the same outputs.

    The function itself says whether it takes that: its outputs must keep their shapes.
    """
    shapes = [o.shape for o in subject.outputs]
    for i, x in enumerate(subject.values):
        if not subject.moving[i] or sum(subject.moving) < 2:
            continue
        for axis, length in enumerate(x.shape):
            if length < 2:
                continue
            values = list(subject.values)
            values[i] = np.take(x, [0], axis=axis)
            try:
                same = [o.shape for o in subject.value(values=values)] == shapes
            except Exception:
                continue
            if same:
                how = f"'{subject.names[i]}' broadcast along axis {axis}"
                yield Neighbour(how, subject.example._replace(values=values))


def _resized(x: np.ndarray, n: int, m: int) -> np.ndarray:
    """Returns `x` with its axes of length `n` made `m` long: repeated, each time a little else."""
    for axis, length in enumerate(x.shape):
        if length == n:
            x = np.take(x, np.arange(m) % n, axis=axis)
    if x.dtype.kind in "fc" and x.size:
        grown = 1 + 0.05 * _rng().uniform(-1, 1, x.shape)
        x = np.asarray(x * grown, x.dtype)
    return x


def _batched(subject: Subject) -> Iterator[Neighbour]:
    values = []
    for x in subject.values:
        stacked = np.stack([x, x])
        if x.dtype.kind in "fc":
            grown = 1 + 0.05 * _rng().uniform(-1, 1, stacked.shape)
            stacked = np.asarray(stacked * grown, x.dtype)
        values.append(stacked)
    yield Neighbour("a leading batch axis added", subject.example._replace(values=values))


# Numbers that are no arrays, and index arrays.


def _parameters(subject: Subject) -> Iterator[Neighbour]:
    """Yields other values of Python numbers, also of those left at their defaults."""
    example = subject.example
    for i, leaf in enumerate(example.leaves):
        if isinstance(leaf, float) and not isinstance(leaf, bool):
            for value in (2 * leaf + 0.1, 0.5 * leaf, -leaf):
                leaves = list(example.leaves)
                leaves[i] = value
                yield Neighbour(f"{leaf!r} made {value!r}", example._replace(leaves=leaves))
        elif isinstance(leaf, int) and not isinstance(leaf, bool):
            for value in (leaf + 1, leaf - 1):
                leaves = list(example.leaves)
                leaves[i] = value
                yield Neighbour(f"{leaf!r} made {value!r}", example._replace(leaves=leaves))
    yield from _defaults(subject)


def _defaults(subject: Subject) -> Iterator[Neighbour]:
    """Yields calls with one parameter moved off its default."""
    import inspect

    from diptych.arguments import flatten

    try:
        parameters = list(inspect.signature(_signed(subject)).parameters.values())
    except (TypeError, ValueError):
        return
    given = len(_marked(subject))
    for k, parameter in enumerate(parameters):
        if k < given or parameter.kind not in (
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.POSITIONAL_ONLY,
        ):
            continue
        default = parameter.default
        before = [p.default for p in parameters[given:k]]
        if inspect.Parameter.empty in before or default is inspect.Parameter.empty:
            return
        for value in _other_values(default):
            args = (*_marked(subject), *before, value)
            leaves, treedef = flatten(args)
            positions = [i for i, x in enumerate(leaves) if isinstance(x, _Mark)]
            rest = [None if isinstance(x, _Mark) else x for x in leaves]
            example = subject.example._replace(treedef=treedef, leaves=rest, positions=positions)
            yield Neighbour(f"{parameter.name}={value!r}", example)


def _other_values(default: Any) -> list[Any]:
    if isinstance(default, bool):
        return [not default]
    if isinstance(default, float):
        return [2 * default + 0.1, 0.5 * default] if default else [0.1]
    if isinstance(default, int):
        return [default + 1]
    return []


class _Mark:
    """Stands for an array while arguments are put together anew."""


def _marked(subject: Subject) -> tuple[Any, ...]:
    """Returns the example's arguments with a mark in place of each array."""
    return subject.example.arguments([_Mark() for _ in subject.values])


def _signed(subject: Subject) -> Any:
    thing = subject.target.thing
    forward = getattr(thing, "forward", None)
    return forward if isinstance(thing, type) and forward is not None else subject.target.call


def _indices(subject: Subject) -> Iterator[Neighbour]:
    """Yields index arrays that repeat, run backwards, or leave rows out."""
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "all equal": lambda x: np.full_like(x, x.reshape(-1)[0]),
        "reversed": lambda x: x[..., ::-1].copy(),
        "repeated in pairs": _ties,
        "all zero": np.zeros_like,
    }
    for i, x in enumerate(subject.values):
        if x.dtype.kind not in "iu" or not x.ndim or not x.size:
            continue
        for how, change in changes.items():
            y = np.asarray(change(x), x.dtype)
            if not np.array_equal(x, y):
                values: Values = list(subject.values)
                values[i] = y
                example = subject.example._replace(values=values)
                yield Neighbour(f"'{subject.names[i]}': {how}", example)

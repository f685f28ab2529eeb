"""Variations of what is no number to differentiate in: parameters, options, indices and masks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from diptych.arguments import flatten
from diptych.proof.subject import Example, Neighbour, Subject, Values

# Options that functions commonly take as a string.
_WORDS = (("mean", "sum", "none"), ("zeros", "border", "reflection"), ("nearest", "bilinear"))


def tied(x: np.ndarray) -> np.ndarray:
    """Returns every second entry equal to the one before it."""
    y = x.copy()
    flat = y.reshape(-1)
    flat[1::2] = flat[: 2 * (flat.size // 2) : 2]
    return y


def parameters(subject: Subject) -> Iterator[Neighbour]:
    """Yields other values of Python numbers and words, also of those left at their defaults."""
    example = subject.example
    for i, leaf in enumerate(example.leaves):
        for value in _others(leaf):
            leaves = list(example.leaves)
            leaves[i] = value
            yield Neighbour(f"{leaf!r} made {value!r}", example._replace(leaves=leaves))
    yield from _defaults(subject)


def _defaults(subject: Subject) -> Iterator[Neighbour]:
    """Yields calls with one parameter moved off its default."""
    try:
        stated = list(inspect.signature(_signed(subject)).parameters.values())
    except (TypeError, ValueError):
        return
    given = len(_marked(subject))
    for k, parameter in enumerate(stated):
        if k < given or parameter.kind not in (
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.POSITIONAL_ONLY,
        ):
            continue
        default = parameter.default
        before = [p.default for p in stated[given:k]]
        if inspect.Parameter.empty in before or default is inspect.Parameter.empty:
            return
        for value in _others(default):
            example = _called(subject, (*_marked(subject), *before, value))
            yield Neighbour(f"{parameter.name}={value!r}", example)
        if default is None:
            yield from _filled(subject, (*_marked(subject), *before), parameter.name)


def _filled(subject: Subject, before: tuple[Any, ...], name: str) -> Iterator[Neighbour]:
    """Yields the call with an array for an argument that may be `None`, as a bias or weights.

    The function itself says of which shape: its outputs must keep theirs, and not their values.
    """
    outputs = [o for o in subject.outputs if o.dtype.kind in "fc"]
    lengths = dict.fromkeys(n for x in (*outputs, *subject.values) for n in x.shape[::-1])
    shapes = [(n,) for n in lengths] + [x.shape for x in (*outputs, *subject.values)]
    for shape in dict.fromkeys(shapes):
        value = np.random.default_rng(31).uniform(0.5, 1.5, shape)
        example = _called(subject, (*before, _Mark()), extra=(name, value))
        there = Subject(subject.target, subject.prober, example, subject.seed)
        try:
            found = there.outputs
        except Exception:
            continue
        if [o.shape for o in found] != [o.shape for o in subject.outputs]:
            continue
        if any(not np.array_equal(a, b) for a, b in zip(found, subject.outputs, strict=True)):
            yield Neighbour(f"{name} an array of shape {shape}", example)
            return


def _called(
    subject: Subject, args: tuple[Any, ...], extra: tuple[str, np.ndarray] | None = None
) -> Example:
    """Returns the example of a call whose arrays are marked, with one more array perhaps."""
    leaves, treedef = flatten(args)
    positions = [i for i, x in enumerate(leaves) if isinstance(x, _Mark)]
    rest = [None if isinstance(x, _Mark) else x for x in leaves]
    example = subject.example._replace(treedef=treedef, leaves=rest, positions=positions)
    if extra is None:
        return example
    name, value = extra
    return example._replace(
        names=[*example.names, name],
        values=[*example.values, value],
        fixed=[*example.fixed, False],
    )


def _others(value: Any) -> list[Any]:
    """Returns other values that a parameter of this kind may have."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, float):
        return [2 * value + 0.1, 0.5 * value, -value] if value else [0.1]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, str):
        return [word for words in _WORDS if value in words for word in words if word != value]
    return []


class _Mark:
    """Stands for an array while arguments are put together anew."""


def _marked(subject: Subject) -> tuple[Any, ...]:
    """Returns the example's arguments with a mark in place of each array."""
    return subject.example.arguments([_Mark() for _ in subject.values])


def _signed(subject: Subject) -> Any:
    target = subject.target
    return target.body if isinstance(target.thing, type) and target.body else target.call


def indices(subject: Subject) -> Iterator[Neighbour]:
    """Yields index arrays that repeat, run backwards, or leave rows out; and other masks."""
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "all equal": lambda x: np.full_like(x, x.reshape(-1)[0]),
        "reversed": lambda x: x[..., ::-1].copy(),
        "repeated in pairs": tied,
        "all zero": np.zeros_like,
        "counted from the end": lambda x: x if x.dtype.kind == "u" else -1 - x,
        "one of them -1": _one_less_than_none,
    }
    masks: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "all False": np.zeros_like,
        "all True": np.ones_like,
        "negated": np.logical_not,
        "the first along the last axis alone": _first_alone,
    }
    if subject.framework == "torch" and not subject.target.custom:
        # Some of PyTorch's kernels do not look, and read where there is nothing.
        del changes["counted from the end"], changes["one of them -1"]
    for i, x in enumerate(subject.values):
        if x.dtype.kind not in "iub" or not x.ndim or not x.size:
            continue
        for how, change in (masks if x.dtype.kind == "b" else changes).items():
            with np.errstate(all="ignore"):
                y = np.asarray(change(x), x.dtype)
            if not np.array_equal(x, y):
                values: Values = list(subject.values)
                values[i] = y
                example = subject.example._replace(values=values)
                yield Neighbour(f"'{subject.names[i]}': {how}", example)


def _one_less_than_none(x: np.ndarray) -> np.ndarray:
    """An entry of -1: what is ignored, or the last one."""
    if x.dtype.kind == "u":
        return x
    y = x.copy()
    y.reshape(-1)[x.size // 2] = -1
    return y


def _first_alone(x: np.ndarray) -> np.ndarray:
    y = np.zeros_like(x)
    y[..., 0] = True
    return y

"""How far rounding alone moves what is computed from a function.

Where all terms cancel what is left is rounding, and tells of no fault: how large it is, the same
computation shows for arguments and vectors that differ in the last place only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diptych.proof.compare import Gap
from diptych.proof.differences import nudged
from diptych.proof.subject import Subject

Vectors = Sequence[Any]
_NUDGES = 8
_TURNS = 4
_PLACES = 2
_AWAY = 2.0**12
_SAFETY = 20.0
_FINE = 2.0**-40
_SINGLE = 2.0**-22


def noise(
    subject: Subject,
    rng: np.random.Generator,
    of: Callable[..., Sequence[Any]],
    *vectors: Vectors,
) -> list[float]:
    """Returns how much of each array may be rounding, with a margin.

    It is one number for all entries of an array: one that rounding did not move this time, it may
    move the next.

    Args:
        subject: the point.
        rng: draws the changes.
        of: what is computed, of a subject and lists of vectors.
        vectors: tangents or cotangents, which are changed in the last place as the point is.
    """
    here = of(subject, *vectors)
    found = np.zeros(len(here))
    for _ in range(_NUDGES):
        near = subject.at(nudged(rng, subject))
        with contextlib.suppress(Exception):  # the function may end here
            there = of(near, *[_along(v, _random(rng, v), 4 * subject.epsilon) for v in vectors])
            found = np.maximum(found, _apart(here, there))
    found = np.maximum(found, _stairs(subject, rng, here, of, vectors))
    return [float(_SAFETY * x) for x in found]


def allowing(
    subject: Subject,
    rng: np.random.Generator,
    judge: Callable[[Any, float], Gap],
    found: Any,
    of: Callable[..., Any],
    *vectors: Vectors,
) -> Gap:
    """Returns how an array differs from what it should be, with what rounding explains allowed for.

    How far it moves is measured around points so far away that no rounding leads back: what is
    wrong just at this one, as at zero or where entries are equal, is no rounding.

    Args:
        subject: the point.
        rng: draws the changes.
        judge: compares such an array, given how far it may be off by rounding.
        found: the array.
        of: what it is computed by, of a subject and lists of vectors.
        vectors: the tangents or cotangents.
    """
    g = judge(found, 0.0)
    if g.ok:
        return g
    for _ in range(_PLACES):
        with contextlib.suppress(Exception):  # the function may end here
            near = subject.at(_along(subject.values, subject.dots(rng), _AWAY * subject.epsilon))
            (moved,) = noise(near, rng, lambda *given: [of(*given)], *vectors)
            allowed = judge(found, moved)
            if allowed.ok:
                return allowed
    return g


def _apart(here: Sequence[Any], there: Sequence[Any]) -> np.ndarray:
    """Returns how far each array is from the other, at its farthest entry that is finite."""
    found = np.zeros(len(here))
    for i, (a, b) in enumerate(zip(here, there, strict=True)):
        if a is not None and b is not None and np.shape(a) == np.shape(b):
            with np.errstate(all="ignore"):
                off = np.abs(np.asarray(a) - np.asarray(b))
            found[i] = np.max(off, where=np.isfinite(off), initial=0.0)
    return found


def _stairs(
    subject: Subject,
    rng: np.random.Generator,
    here: Sequence[Any],
    of: Callable[..., Sequence[Any]],
    vectors: Sequence[Vectors],
) -> np.ndarray:
    """Returns the rounding of a function that computes in single precision inside; else zeros.

    Changes far finer than such a one sees move nothing, not its value either. Those that it sees
    move it from stair to stair, and a straight line through both sides does not meet the middle.
    """
    found = np.zeros(len(here))
    if subject.epsilon > _FINE:
        return found
    for _ in range(_TURNS):
        dots, turns = subject.dots(rng), [_random(rng, v) for v in vectors]
        try:
            close = subject.at(_along(subject.values, dots, _FINE))
            still = [*_apart(subject.outputs, close.outputs), *_apart(here, of(close, *vectors))]
            if any(still):
                break
            up, down = [
                of(
                    subject.at(_along(subject.values, dots, h)),
                    *[_along(v, turn, h) for v, turn in zip(vectors, turns, strict=True)],
                )
                for h in (_SINGLE, -_SINGLE)
            ]
        except Exception:  # the function may end here
            break
        ends = zip(up, down, strict=True)
        line = [None if a is None or b is None else (a + b) / 2 for a, b in ends]
        found = np.maximum(found, 2 * _apart(here, line))
    return found


def _random(rng: np.random.Generator, vectors: Vectors) -> list[Any]:
    return [None if v is None else v * rng.uniform(-1, 1, np.shape(v)) for v in vectors]


def _along(arrays: Vectors, steps: Vectors, h: float) -> list[Any]:
    return [x if d is None else x + h * d for x, d in zip(arrays, steps, strict=True)]

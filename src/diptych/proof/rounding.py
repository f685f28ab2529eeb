"""How much a function rounds inside, as its values at steps that shrink show it.

It may be by far more than the size of its values tells: `1 - tanh(x)**2` is tiny, and rounds as 1
does. Two signs are looked for, entry by entry, neither of which costs an evaluation: how coarse the
stairs are on which values stand, and by how much slopes scatter from one step to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# What changes a value by at most the first share of it is rounding, or by the third of the size of
# others. Stairs above the second are its own: it quantises. Of what is between nobody can tell.
_STAIRS = 3e-8
_QUANTISED = 1e-3
_CERTAIN = 1e-12
_SINGLE = 2.0**-23
_LATE = 5


class Inside(NamedTuple):
    """How much each value is rounded.

    Args:
        size: by how much.
        unsure: where that may be the function's own doing instead.
        unknown: where nobody can tell at all.
        own: where values stand on stairs too coarse for rounding: the function quantises.
        still: where no step changed anything.
    """

    size: np.ndarray
    unsure: np.ndarray
    unknown: np.ndarray
    own: np.ndarray
    still: np.ndarray


def rounding_inside(
    moves: np.ndarray,
    values: Sequence[np.ndarray],
    steps: Sequence[float],
    reach: np.ndarray,
    scale: np.ndarray,
    epsilon: float,
    *,
    settled: bool,
    single: bool = False,
    elsewhere: Any = 0.0,
) -> Inside:
    """Returns how much each value of a function is rounded.

    Args:
        moves: for each step how far it takes the values from the middle one.
        values: for each step the slope that it and the larger ones give.
        steps: the steps.
        reach: the size of each entry.
        scale: the same, where it is not far below that of others.
        epsilon: the precision of the arithmetic.
        settled: whether finer steps were not needed.
        single: whether all values are such as float32 has.
        elsewhere: the size of the values elsewhere, where it is known to be more.
    """
    height = _stairs(moves)
    most = np.maximum(scale, elsewhere)
    own = height > _QUANTISED * most
    rounded = np.maximum((2 * _SINGLE if single else _STAIRS) * reach, _CERTAIN * most)
    unknown = ~own & (height > rounded)
    stairs = np.where(own, 0.0, height)
    still = ~np.any(moves != 0, axis=0)
    # What stands still may stand on a stair of the size that single precision makes.
    certain = np.where(still, 4 * max(epsilon, _SINGLE if single else 0.0) * scale, stairs)
    if not settled:
        certain = np.maximum(certain, _scatter(values, steps, rounded))
    valley = _valley(values, steps, rounded)
    unsure = valley > np.maximum(_CERTAIN * scale, 4 * certain)
    return Inside(np.maximum(certain, valley), unsure, unknown, own, still)


def _stairs(moves: np.ndarray) -> np.ndarray:
    """Returns how coarse values are where fine steps change them by nothing; else zero.

    Such steps show no slope of zero, only one too small to reach the next stair.

    Args:
        moves: for each step how far it takes the values from the middle one.
    """
    least = np.min(np.where(moves > 0, moves, np.inf), axis=0)
    return np.where(np.any(moves == 0, axis=0) & np.isfinite(least), least, 0.0)


def _scatter(values: Sequence[np.ndarray], steps: Sequence[float], most: np.ndarray) -> np.ndarray:
    """Returns the rounding of the values that the finest steps show, where it may be rounding."""
    change = np.abs(np.diff(np.array(values[-_LATE - 1 :]), axis=0))
    moved = change * np.array(steps[-len(change) :])[:, None]
    middle = np.median(moved, axis=0)
    return np.where(middle <= most, middle, 0.0)


def _valley(values: Sequence[np.ndarray], steps: Sequence[float], most: np.ndarray) -> np.ndarray:
    """Returns the rounding that ends the convergence of values, if it is that.

    Values converge as steps shrink, until rounding sets them apart again. If they then settle
    once more, on another value, it is on one stair of many: `(1 - sigmoid(x)) * tanh(x)` moves
    smoothly between the stairs of its first factor.
    """
    found = np.array(values)
    change = np.abs(np.diff(found, axis=0))
    h = np.array(steps)[1:, None]
    largest = np.flip(np.maximum.accumulate(np.flip(change * h, 0), axis=0), 0)
    size = np.abs(found[1:])
    valley = (change <= 0.03 * size) & (largest <= 0.1 * h * size) & (largest <= most)
    valley[:-1] &= change[1:] > 2 * change[:-1]
    valley[-1] = False
    return np.max(np.where(valley, largest, 0.0), axis=0)

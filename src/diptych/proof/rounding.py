"""How much a function rounds inside, as its values at steps that shrink show it.

It may be by far more than the size of its values tells: `1 - tanh(x)**2` is tiny, and rounds as 1
does. Two signs are looked for, entry by entry, neither of which costs an evaluation: how coarse the
stairs are on which values stand, and by how much slopes scatter from one step to the next.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# What changes a value by at most the first share of it is rounding, or by the third of the size of
# others. Stairs above the second are its own: it quantises. Of what is between nobody can tell.
_STAIRS = 3e-8
_QUANTISED = 1e-3
_CERTAIN = 1e-12
# Where no step leads over more stairs than the first, of a size that single precision makes, a
# function may go up and down between the steps, or stand still: the sine of a large number.
_FEW = 8.0
_COARSE = 1e-9
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
    values: np.ndarray,
    change: np.ndarray,
    steps: np.ndarray,
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
        change: by how much each step but the first changes that.
        steps: the steps, as a column.
        reach: the size of each entry.
        scale: the same, where it is not far below that of others.
        epsilon: the precision of the arithmetic.
        settled: whether finer steps were not needed.
        single: whether all values are such as float32 has.
        elsewhere: the size of the values elsewhere, where it is known to be more.
    """
    most = np.maximum(scale, elsewhere)
    rounded = np.maximum((2 * _SINGLE if single else _STAIRS) * reach, _CERTAIN * most)
    if moves.all():  # as nearly always: no stairs
        own = unknown = still = np.zeros(reach.shape, bool)
        certain = np.zeros(reach.shape)
    else:
        height = _stairs(moves)
        own = height > _QUANTISED * most
        few = (moves.max(axis=0) <= _FEW * height) & (height > _COARSE * reach)
        unknown = ~own & (few | (height > rounded))
        still = ~np.any(moves != 0, axis=0)
        # What stands still may stand on a stair of the size that single precision makes.
        step = 4 * max(epsilon, _SINGLE if single else 0.0) * scale
        certain = np.where(still, step, np.where(own, 0.0, height))
    if not settled:
        certain = np.maximum(certain, _scatter(change, steps, rounded))
    valley = _valley(values, change, steps, rounded)
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


def _scatter(change: np.ndarray, steps: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Returns the rounding of the values that the finest steps show, where it may be rounding."""
    middle = np.median(change[-_LATE:] * steps[1:][-_LATE:], axis=0)
    return np.where(middle <= most, middle, 0.0)


def _valley(
    values: np.ndarray, change: np.ndarray, steps: np.ndarray, most: np.ndarray
) -> np.ndarray:
    """Returns the rounding that ends the convergence of values, if it is that.

    Values converge as steps shrink, until rounding sets them apart again. If they then settle
    once more, on another value, it is on one stair of many: `(1 - sigmoid(x)) * tanh(x)` moves
    smoothly between the stairs of its first factor.
    """
    h, size = steps[1:], np.abs(values[1:])
    valley = change <= 0.03 * size
    valley[:-1] &= change[1:] > 2 * change[:-1]
    valley[-1] = False
    if not valley.any():
        return np.zeros(most.shape)
    largest = np.maximum.accumulate((change * h)[::-1], axis=0)[::-1]
    valley &= (largest <= 0.1 * h * size) & (largest <= most)
    return np.where(valley, largest, 0.0).max(axis=0)

"""How far a derivative is from what it should be, measured against its own size.

A difference counts where it exceeds what rounding, the conditioning of the function and the error
of the reference explain, entry by entry. Thresholds are relative: nothing is small in itself, and
nothing grows with the number of entries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

_DIGITS = (6, 9, 12, 17)


class Gap(NamedTuple):
    """How two arrays differ.

    Args:
        error: the largest difference, as a share of the expected array's own size.
        threshold: what was allowed at that entry, as the same share.
        wrong: which entries differ by more than is allowed.
        index: the worst entry; `None` where there are no entries.
        found, expected: the values there.
    """

    error: float
    threshold: float
    wrong: np.ndarray
    index: tuple[int, ...] | None
    found: Any
    expected: Any

    @property
    def ok(self) -> bool:
        """Whether every entry is right."""
        return not self.wrong.any()

    @property
    def shown(self) -> str:
        """The value found, with as many digits as tell it from the one expected."""
        return f"{self.found:.{self._digits}g}"

    @property
    def due(self) -> str:
        """The value expected, likewise."""
        return f"{self.expected:.{self._digits}g}"

    @property
    def _digits(self) -> int:
        differ = (n for n in _DIGITS if f"{self.found:.{n}g}" != f"{self.expected:.{n}g}")
        return next(differ, _DIGITS[0])


def gap(
    found: np.ndarray | None,
    expected: np.ndarray,
    *,
    epsilon: float,
    error: Any = 0.0,
    floor: float = 0.0,
    relative: float | None = None,
) -> Gap:
    """Returns how `found` differs from `expected`.

    Args:
        found: the array under test; `None` is zero.
        expected: what it should be.
        epsilon: the precision of the arithmetic.
        error: how far `expected` itself may be off, an array or a number.
        floor: what is rounding in quantities of this kind, whatever the expected size.
        relative: the share of each entry that is allowed; by default nearly half the digits.
    """
    expected = np.asarray(expected)
    found = np.zeros_like(expected) if found is None else np.asarray(found)
    if expected.dtype.kind in "bui":  # which NumPy does not subtract, or wraps round
        found, expected = found.astype(np.float64), expected.astype(np.float64)
    if not expected.size:
        return Gap(0.0, 0.0, np.zeros(expected.shape, bool), None, None, None)
    share = epsilon**0.45 if relative is None else relative
    if found.shape == expected.shape and (found == expected).all():
        wrong = np.zeros(expected.shape, bool)
        first = (0,) * expected.ndim
        return Gap(0.0, share + epsilon**0.7, wrong, first, found[first], expected[first])
    with np.errstate(all="ignore"):
        size = np.abs(expected)
        difference = np.abs(found - expected)
        scale = float(size.max())
        allowed = share * size + (epsilon**0.7 * scale + floor)
        if np.ndim(error) or error:
            allowed = allowed + np.abs(error)
        # One sum is finite only if all its terms are: the usual case, settled at once.
        if math.isfinite(difference.sum() + allowed.sum()):
            wrong = difference > allowed
            excess = difference / np.maximum(allowed, 1e-300)
        else:
            scale = float(np.max(np.where(np.isfinite(size), size, 0.0)))
            allowed = share * size + (epsilon**0.7 * scale + floor) + np.abs(error)
            same = (found == expected) | (np.isnan(found) & np.isnan(expected))
            known = np.isfinite(expected) & np.isfinite(allowed)
            wrong = known & ~same & ~(difference <= allowed)
            excess = np.where(wrong | known, difference / np.maximum(allowed, 1e-300), 0.0)
            excess = np.where(same | ~known, 0.0, np.where(np.isnan(excess), np.inf, excess))
    index = tuple([int(i) for i in np.unravel_index(excess.argmax(), excess.shape)])
    # What is rounding in all is shown as a share of the size that it is rounding of.
    unit = scale if scale > 10 * floor else floor / epsilon**0.8
    if not unit:
        unit = float(np.max(np.where(np.isfinite(difference), difference, 0.0))) or 1.0
    off = float(difference[index])
    return Gap(
        off / unit if math.isfinite(off) else np.inf,
        float(np.asarray(allowed)[index]) / unit if scale else 0.0,
        np.asarray(wrong),
        index,
        found[index],
        expected[index],
    )


def natural(outputs: Sequence[Any], bars: Sequence[Any], x: np.ndarray) -> float:
    """Returns the size that a cotangent of `x` has if nothing cancels: `|bar| |out| / |x|`."""
    total = sum(
        float(np.sum(np.abs(b) * np.abs(o))) for o, b in zip(outputs, bars, strict=True)
        if b is not None and o is not None and np.all(np.isfinite(o))
    )  # fmt: skip
    largest = float(np.max(np.abs(x), initial=0.0)) or 1.0
    return total / largest


def worst(gaps: Sequence[Gap]) -> tuple[float, float]:
    """Returns the largest error among gaps, and its threshold."""
    if not gaps:
        return 0.0, 0.0
    worst = max(gaps, key=lambda g: (not g.ok, g.error / (g.threshold or 1e-300)))
    return worst.error, worst.threshold

"""Derivatives along a line by extrapolated differences, with an estimate of their own error.

Central differences at halved steps, extrapolated to step zero in Neville's scheme; for each entry
the member of the table whose two neighbours it agrees with best (Ridders 1982, "Accurate
computation of F'(x) and F'(x)F''(x)", Advances in Engineering Software 4(2); Numerical Recipes,
5.7). The number of evaluations is fixed, whatever the size of the arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

LEVELS = 10
FIRST = 2.0**-5
EVALUATIONS = 2 * LEVELS + 1


class Slope(NamedTuple):
    """A derivative along a line.

    Args:
        value: one for each entry of the function.
        error: how far it may be off; half the jump where there is a kink, infinite where it could
            not be measured.
        kink: where the slopes to the two sides differ.
        steps, differences: the steps, and the plain central difference at each: what a plot shows.
    """

    value: np.ndarray
    error: np.ndarray
    kink: np.ndarray
    steps: np.ndarray
    differences: np.ndarray


def slope(f: Callable[[float], np.ndarray], epsilon: float = 2.0**-52) -> Slope:
    """Returns `df/dh` at zero.

    Args:
        f: a function of the step that returns a flat array; the step is relative, so that 1 is a
            change by everything.
        epsilon: the precision of its arithmetic.
    """
    levels = LEVELS if epsilon < 1e-12 else 6
    ratio = 2.0 if epsilon < 1e-12 else 1.6
    middle = f(0.0)
    steps = FIRST * ratio ** -np.arange(levels) * (1.0 if epsilon < 1e-12 else 4.0)
    with np.errstate(all="ignore"):
        pairs = [(f(h), f(-h)) for h in steps]
        table = [(up - down) / (2 * h) for h, (up, down) in zip(steps, pairs, strict=True)]
        differences = np.array(table)
        bend = [
            np.abs(up - 2 * middle + down) / h
            for h, (up, down) in zip(steps, pairs, strict=True)
        ]  # fmt: skip
        size = np.maximum(np.abs(middle), np.max([np.abs(u) for u, _ in pairs], axis=0))
        best, error = table[0], np.full(middle.shape, np.inf)
        rows = [table[0]]
        for k in range(1, levels):
            new = [table[k]]
            rounding = 4 * epsilon * size / steps[k]
            for j in range(1, k + 1):
                factor = ratio ** (2 * j)
                new.append((factor * new[j - 1] - rows[j - 1]) / (factor - 1))
                guess = np.maximum(np.abs(new[j] - new[j - 1]), np.abs(new[j] - rows[j - 1]))
                guess = guess + rounding
                better = guess < error
                best, error = np.where(better, new[j], best), np.where(better, guess, error)
            rows = new
        # A bend that stays as the step shrinks is a kink; a smooth one shrinks with it.
        jump, wide = bend[-1], bend[0]
        noise = 100 * epsilon * size / steps[-1]
        kink = (jump > noise) & (jump > 0.3 * wide) & (jump > 1e-4 * np.abs(best))
    error = np.where(kink, np.maximum(0.55 * jump, error), 2 * error)
    error = np.where(np.isfinite(best), error, np.inf)
    return Slope(best, error, kink, steps, differences)

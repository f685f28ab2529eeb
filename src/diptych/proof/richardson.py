"""Derivatives along a line by extrapolated differences, with an estimate of their own error.

Central differences at steps that shrink by four, extrapolated to step zero in Neville's scheme
(Richardson 1911; Ridders 1982, "Accurate computation of F'(x) and F'(x)F''(x)", Advances in
Engineering Software 4(2)). A value counts as found only if no finer step contradicts it by more
than rounding explains: before the steps are small enough differences mean nothing, and may agree
by chance. The number of evaluations is bounded, whatever the size of the arguments.

What rounding explains is measured in the table itself as well: see `diptych.proof.rounding`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from diptych.proof.rounding import rounding_inside

_FIRST = 2.0**-5
_RATIO = 4.0
_LEVELS = 14
_WINDOW = 4
_SENSITIVE = 1e7
EVALUATIONS = 2 * _LEVELS + 1


class Slope(NamedTuple):
    """A derivative along a line.

    Args:
        value: one for each entry of the function.
        error: how far it may be off; half the jump where there is a kink, infinite where it could
            not be measured.
        kink: where the slopes to the two sides differ.
        steps, differences: the steps, and the plain central difference at each: what a plot shows.
        rounding: how much each entry is seen to be rounded inside, beside what its size tells.
        still: which entries no step changed at all.
        quantised: which entries stand on stairs that may be their own.
    """

    value: np.ndarray
    error: np.ndarray
    kink: np.ndarray
    steps: np.ndarray
    differences: np.ndarray
    rounding: np.ndarray
    still: np.ndarray
    quantised: np.ndarray


def slope(
    f: Callable[[float], np.ndarray],
    epsilon: float = 2.0**-52,
    noise: Any = 0.0,
    *,
    elsewhere: Any = 0.0,
    every: bool = False,
) -> Slope:
    """Returns `df/dh` at zero.

    Args:
        f: a function of the step that returns a flat array; the step is relative, so that 1 is a
            change by everything.
        epsilon: the precision of its arithmetic.
        noise: how much rounding changes its values, where that is known to be more.
        elsewhere: the size of its values elsewhere, where it is known to be more.
        every: whether to take every step, also after the value seems to be known, and to doubt it
            where two fine steps running agree about another: they may stand between stairs.
    """
    middle = f(0.0)
    steps: list[float] = []
    table: list[np.ndarray] = []
    ups: list[np.ndarray] = []
    downs: list[np.ndarray] = []
    values: list[np.ndarray] = []
    settled = False
    with np.errstate(all="ignore"):
        blur = np.maximum(4 * epsilon * np.abs(middle), 4 * np.asarray(noise))
        row: list[np.ndarray] = []

        def rounding_of(up: np.ndarray, down: np.ndarray, h: Any) -> np.ndarray:
            return np.maximum(blur, 4 * epsilon * np.maximum(np.abs(up), np.abs(down))) / h

        for k in range(_LEVELS):
            h = _FIRST * _RATIO**-k
            up, down = f(h), f(-h)
            steps.append(h)
            ups.append(up)
            downs.append(down)
            table.append((up - down) / (2 * h))
            row = _next_row(row, table[-1])
            values.append(row[-1])
            settled = settled or (
                k >= 3
                and _settled(values, rounding_of(up, down, h))
                and _meets(middle, ups, downs, 4 * h * rounding_of(up, down, h))
            )
            if settled and not every:
                break
            if h < 40 * epsilon:
                break
        above, below = np.array(ups) - middle, np.array(downs) - middle
        lengths = np.array(steps)[:, None]
        reach = np.maximum(np.abs(ups[0]), np.abs(downs[0]))
        # Sizes in which entries are told apart; one far below others holds their rounding.
        largest = np.where(np.isfinite(reach), reach, 0.0).max(initial=0.0)
        scale = np.maximum(reach, 1e-3 * largest)
        found = np.array(values)
        change = np.abs(found[1:] - found[:-1])
        single = _of_float32(middle) and _of_float32(np.array([*ups, *downs]))
        inside = rounding_inside(
            np.maximum(np.abs(above), np.abs(below)), found, change, lengths, reach, scale, epsilon,
            settled=settled, single=single, elsewhere=elsewhere,
        )  # fmt: skip
        roundings = rounding_of(np.array(ups), np.array(downs), lengths)
        roundings = np.maximum(roundings, 2 * inside.size / lengths)
        value, error, level = _best(found, change, roundings, lengths)
        if inside.unsure.any():
            error = np.where(inside.unsure, error + 2 * np.abs(value - values[-1]), error)
        error = np.maximum(error, np.where(inside.own, 0.0, _disputed(found, change, level, value)))
        if every:
            error = np.maximum(error, _between_stairs(np.array(table), level, value))
        entries = np.arange(len(level))
        bends = np.abs(above + below) / lengths
        jump, rounding = bends[level, entries], roundings[level, entries]
        before = bends[np.maximum(level - 2, 0), entries]
        kink = _kinks(jump, before, rounding, value) & (error < 0.1 * jump)
        if kink.any():
            error = np.where(kink, np.maximum(0.55 * jump, error), error)
        # What steps of every length disagree about by so much was not measured at all.
        # But an entry that stays zero, but for the rounding of larger ones, was.
        lost = ~kink & (error > 0.2 * np.abs(value)) & (error > 1e-6 * reach)
        lost &= error > 20 * rounding
        # Nor is anything to be said where a rounding changes the value by far more than itself:
        # that is a jump, or a function too ill-conditioned for differences.
        lost |= np.asarray(noise) > min(_SENSITIVE * epsilon, 0.01) * scale
        lost |= inside.unknown
        error = np.where(np.isfinite(value) & ~np.isnan(error) & ~lost, error, np.inf)
    hidden = np.where(inside.unsure, 0.0, inside.size)
    return Slope(
        value,
        error,
        kink,
        np.array(steps),
        np.array(table),
        hidden,
        inside.still,
        inside.own | inside.unknown,
    )


def _of_float32(x: np.ndarray) -> bool:
    """Returns whether these values lose nothing in float32 (or complex64)."""
    return np.array_equal(x, x.astype(np.complex64 if x.dtype.kind == "c" else np.float32))


def _next_row(row: list[np.ndarray], difference: np.ndarray) -> list[np.ndarray]:
    """Returns Neville's next row: errors of order 2, 4, ... in the step removed in turn."""
    new = [difference]
    for j, above in enumerate(row[: _WINDOW - 1], 1):
        factor = _RATIO ** (2 * j)
        new.append((factor * new[j - 1] - above) / (factor - 1))
    return new


def _settled(values: list[np.ndarray], rounding: np.ndarray) -> bool:
    """Returns whether two steps running changed nothing but what rounding explains."""
    a, b, c = values[-3:]
    allowed = 1e-10 * np.abs(c) + rounding
    return bool((np.abs(c - b) <= allowed).all() and (np.abs(b - a) <= 100 * allowed).all())


def _meets(
    middle: np.ndarray, ups: list[np.ndarray], downs: list[np.ndarray], rounding: np.ndarray
) -> bool:
    """Returns whether the two sides close in on the middle value, as steps shrink.

    Where both are flat, and the middle is not between them, the steps leap over what is there: a
    softmax of large numbers.
    """
    before, last = (np.abs(ups[k] + downs[k] - 2 * middle) for k in (-2, -1))
    return bool(np.all(last <= 0.5 * before + rounding))


def _disputed(
    found: np.ndarray, change: np.ndarray, level: np.ndarray, value: np.ndarray
) -> np.ndarray:
    """Returns how far values that agreed at three coarser steps running are from the one found.

    Either those agreed by chance, or this one is on a single stair of a function of few digits.
    """
    off = np.abs(found[2:] - value)
    apart = off > 0.3 * np.abs(found[2:])
    if not apart.any():  # as nearly always
        return np.zeros(value.shape)
    agree = change <= 0.3 * np.abs(found[1:])
    agreed = agree[1:] & agree[:-1] & (np.arange(2, len(found))[:, None] < level)
    return 1.2 * np.max(np.where(agreed & apart, off, 0.0), axis=0)


def _between_stairs(table: np.ndarray, level: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Returns how far two fine steps running are from a slope that coarser ones tell.

    Stairs of a function's own (`floor(x)` beside a large square) look like rounding: what is not
    rounded has the same slope between them whatever the step, and rounding has not.
    """
    off = np.abs(table[1:] - value)
    agree = (np.abs(table[1:] - table[:-1]) <= 0.01 * off) & (table[1:] != 0)
    agree &= np.arange(1, len(table))[:, None] > level
    return 1.2 * np.max(np.where(agree, off, 0.0), axis=0)


def _best(
    found: np.ndarray, change: np.ndarray, roundings: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns for each entry the value that finer steps contradict least, its error and level."""
    change = np.where(np.isnan(change), np.inf, change)
    rounding = roundings[1:]
    unexplained = np.maximum(change - 2 * rounding, 0.0)
    later = np.maximum.accumulate(unexplained[::-1], axis=0)[::-1]
    # Two steps may agree by chance: what rounding did one step before, and does in later ones, it
    # may do here.
    h = lengths[1:]
    moves = change * h
    moved = np.maximum.accumulate(moves[::-1], axis=0)[::-1]
    np.maximum(moved[1:], moves[:-1], out=moved[1:])
    errors = change + later + np.maximum(rounding, moved / h)
    level = np.argmin(errors, axis=0)
    entries = np.arange(len(level))
    return found[level + 1, entries], 2 * errors[level, entries], level + 1


def _kinks(
    here: np.ndarray, before: np.ndarray, rounding: np.ndarray, value: np.ndarray
) -> np.ndarray:
    """Returns where the slopes to the two sides differ.

    A bend that stays as the step shrinks is a kink; a smooth one shrinks with the step.

    Args:
        here: by how much the slopes differ at the step of the value found.
        before: the same two steps before.
        rounding: of these.
        value: the slope.
    """
    return (here > 8 * rounding) & (here > 0.4 * before) & (here > 1e-4 * np.abs(value))

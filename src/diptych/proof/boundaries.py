"""Where a derivative changes branch, found by bisection along a line through the example."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diptych.proof.subject import Neighbour, Subject, Values
from diptych.proof.vectors import inner, random_like

_GRID = np.linspace(-2.0, 2.0, 33)
_HALVINGS = 45
_JUMP = 20.0


def boundaries(subject: Subject) -> Iterator[Neighbour]:
    """Yields the points just before, at and just after a jump of the derivative.

    The example is scaled by `s` from -2 to 2, an argument at a time; where the derivative changes
    between two samples far more than elsewhere, and still does when they are brought together, it
    changes branch there.
    """
    rng = np.random.default_rng(31)
    for i, moves in enumerate(subject.moving):
        if not moves or not subject.values[i].size:
            continue
        found = _along(subject, i, rng)
        if found is None:
            continue
        low, high = found
        name = subject.names[i]
        for s in (low, 0.5 * (low + high), high):
            how = f"'{name}' times {float(s)!r}, where its derivative changes branch"
            yield Neighbour(how, subject.example._replace(values=_scaled(subject, i, s)))


def _along(subject: Subject, i: int, rng: np.random.Generator) -> tuple[float, float] | None:
    """Returns the ends of a tiny interval in which the derivative jumps, if there is one."""
    weights = random_like(rng, subject.values[i])
    bars = subject.bars(rng)

    def slope(s: float) -> float:
        found = subject.at(_scaled(subject, i, s)).vjp().pull(bars)[i]
        return inner([found], [weights])

    try:
        samples = np.array([slope(s) for s in _GRID])
    except Exception:  # the function has no value somewhere on the line
        return None
    steps = np.abs(np.diff(samples))
    if not np.all(np.isfinite(steps)):
        return None
    k = int(np.argmax(steps))
    jump = steps[k]
    if jump <= _JUMP * float(np.median(steps)) or jump <= 1e-9 * float(np.max(np.abs(samples))):
        return None
    low, high = float(_GRID[k]), float(_GRID[k + 1])
    at_low = samples[k]
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        value = slope(middle)
        if abs(value - at_low) < 0.5 * jump:
            low, at_low = middle, value
        else:
            high = middle
    return (low, high) if abs(slope(high) - slope(low)) > 0.3 * jump else None


def _scaled(subject: Subject, i: int, s: float) -> Values:
    values = list(subject.values)
    values[i] = np.asarray(values[i] * s, values[i].dtype)
    return values

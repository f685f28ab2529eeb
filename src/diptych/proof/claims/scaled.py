"""Derivatives at multiples of the example, from tiny to large ones: along each argument by itself.

A function that is not elementwise branches on a norm, or a largest entry. At each multiple one
random direction is looked at, of the JVP and of the VJP, which takes a tenth of what the claims do;
where it is wrong, they say what is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np

from diptych.proof.claims.trial import Trial
from diptych.proof.compare import gap
from diptych.proof.differences import ByDifferences
from diptych.proof.subject import Neighbour, Subject, zeros_for
from diptych.proof.vectors import inner, inner_size

# Just below what people write as a boundary.
_MANTISSAS = 0.97 * np.array([1.0, 5.0, 2.0, 3.0, 7.0, 1.5])
_UNCONFIRMED = 3
_DECADES = (-2, -1, 0, -3, 1, -4, 2, -5)


def scaled(
    trial: Trial, done: Collection[int], claims: Callable[[Neighbour], Any]
) -> Iterator[Any]:
    """Yields what the claims find at those multiples at which a derivative is wrong.

    Args:
        trial: at the example.
        done: arguments that need it no more.
        claims: gives what the claims find at a neighbour.
    """
    subject = trial.subject
    lines = [
        i for i, x in enumerate(subject.values) if subject.moving[i] and i not in done and np.any(x)
    ]
    unconfirmed: dict[int, int] = {}
    for mantissa in _MANTISSAS:
        for decade in _DECADES:
            for i in list(lines):
                if time.perf_counter() > trial.deadline:
                    return
                norm = float(np.linalg.norm(np.ravel(subject.values[i])))
                s = float(mantissa * 10.0**decade / norm)
                values = list(subject.values)
                values[i] = np.asarray(values[i] * s, values[i].dtype)
                there = subject.at(values)
                if _seems_right(trial, there, i):
                    continue
                how = f"'{subject.names[i]}' times {s!r}, where its norm is {norm * s:.3g}"
                found = claims(Neighbour(how, there.example))
                yield from found
                unconfirmed[i] = unconfirmed.get(i, 0) + 1
                if found or unconfirmed[i] > _UNCONFIRMED:
                    lines.remove(i)


def _seems_right(trial: Trial, there: Subject, i: int) -> bool:
    """Returns whether JVP and VJP agree with differences along one direction of an argument."""
    rng = trial.rng(59)
    meant = trial.wanted if callable(trial.wanted) else None
    dots: list[Any] = [None] * len(there.values)
    dots[i] = there.dots(rng)[i]
    epsilon = trial.subject.epsilon
    try:
        bars = there.bars(rng)
        measured = ByDifferences(there, meant).push(dots)
        pulled = zeros_for(there.vjp().pull(bars), there)
        pushed = there.jvp(dots)[1]
    except Exception:  # the function ends here, or the claims say what is wrong
        return not all(np.all(np.isfinite(o)) for o in _outputs(there))
    size = inner_size(pulled, dots) + inner_size(bars, measured.values)
    error = inner_size(bars, measured.errors)
    along = gap(
        np.asarray(inner(pulled, dots)),
        np.asarray(inner(bars, measured.values)),
        epsilon=epsilon,
        relative=trial.relative,
        error=3 * error if np.isfinite(error) else np.inf,
        floor=epsilon**0.7 * size,
    )
    if not along.ok:
        return False
    for out, found, value, off in zip(
        there.outputs, pushed, measured.values, measured.errors, strict=True
    ):
        if value is None:
            continue
        floor = epsilon**0.8 * float(np.max(np.abs(out), initial=0.0))
        g = gap(found, value, epsilon=epsilon, relative=trial.relative, error=3 * off, floor=floor)
        if not g.ok:
            return False
    return True


def _outputs(there: Subject) -> list[np.ndarray]:
    try:
        return [o for o in there.outputs if o.dtype.kind in "fc"]
    except Exception:
        return [np.array(np.nan)]

"""The JVP and VJP of elementwise functions at thousands of points: no branch is left out.

Each entry is judged by itself, by what was measured of it: by how far differences tell its slope,
and by how much rounding of the arguments changes the derivative there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from diptych.proof.claims.trial import Trial
from diptych.proof.compare import Gap
from diptych.proof.differences import ByDifferences, nudged
from diptych.proof.elementwise import filled, runs, sheets, windows
from diptych.proof.outcome import Finding
from diptych.proof.subject import Subject

_NUDGES = 2
_SUSPECTS = 4
# So near and so far around a suspect it is looked once more, and so many must be wrong there: a
# branch is no single point.
_NEAREST = 1e-5
_AROUND = 1e-2
_MANY = 0.2
_GROSS = 0.01  # a share by which no approximation is off
# The share by which one of the two longest steps may differ from the slope that all of them tell.
_COARSE = 0.5
_EVEN = 1e-7  # the same, by which it may come no nearer with a shorter one
_LEAPS = 1e4  # and so many times as near it does not come at once
# A derivative as rounded as the value is, times this, is not inaccurate.
_ROUNDED = 4
_SHOWN = 2.0**-5
# The power of the precision that is allowed as a share: less than half of the digits are asked for.
_SHARE = 0.42


class Judged(NamedTuple):
    """A derivative at many points, and what it should be.

    Args:
        found, expected: the derivative, flat.
        allowed: how far each entry may be off.
        wrong: which entries are.
    """

    found: np.ndarray
    expected: np.ndarray
    allowed: np.ndarray
    wrong: np.ndarray


def scanned(trial: Trial) -> tuple[list[Finding], set[int]]:
    """Returns what is found, and for which arguments the function is elementwise."""
    subject = trial.subject
    findings: list[Finding] = []
    done: set[int] = set()
    for i, moves in enumerate(subject.moving):
        if not moves or time.perf_counter() > trial.deadline:
            continue
        for there in sheets(subject, i, trial.rng(41)):
            done.add(i)
            findings += _of_argument(trial, there, i)
    return findings, done


def _of_argument(trial: Trial, there: Subject, i: int) -> Iterator[Finding]:
    x = np.ravel(there.values[i])
    derivatives = _derivatives(there, i)
    for claim, judged in _judge(trial, there, i, derivatives).items():
        if not judged.wrong.any():
            continue
        suspects = np.argsort(-np.where(judged.wrong, _excess(judged), 0.0))[:_SUSPECTS]
        suspects = suspects[judged.wrong[suspects]]
        which = np.arange(x.size) % len(suspects)
        steps = np.geomspace(_NEAREST, _AROUND, x.size)
        values = [
            np.ravel(v)[suspects[which]].reshape(v.shape) if v.shape == there.values[i].shape else v
            for v in there.values
        ]
        signs = np.where(np.arange(x.size) // len(suspects) % 2, -1, 1)
        values[i] = values[i] * (1 + signs * steps).reshape(values[i].shape)
        closer = there.at(values)
        once_more = _judge(trial, closer, i, derivatives).get(claim)
        if once_more is None:
            continue
        for s, entry in enumerate(suspects):
            if np.mean(once_more.wrong[which == s]) >= _MANY:
                yield _finding(trial, there, i, claim, judged, int(entry))
                break


Derivatives = Callable[[Subject, np.ndarray, Sequence[Any]], dict[str, list[Any]]]


def _derivatives(there: Subject, i: int) -> Derivatives:
    """Returns a function that gives the cotangent of an argument, and the tangents along it.

    Each is one program, since several sets of points go through it. One that raises is left out:
    there may be no forward mode, and where it should be the claims say so.
    """
    prober, n = there.prober, len(there.values)
    function = there.function()
    wanted = [k == i for k in range(n)]

    def pulled(*arrays: Any) -> list[Any]:
        return [prober.vjp(function, arrays[:n], wanted)[1](arrays[n + 1 :])[i]]

    def pushed(*arrays: Any) -> list[Any]:
        dots = [arrays[n] if k == i else None for k in range(n)]
        return prober.jvp(function, arrays[:n], dots)[1]

    programs = {"vjp": prober.at_once(pulled), "jvp": prober.at_once(pushed)}

    def at(subject: Subject, unit: np.ndarray, bars: Sequence[Any]) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for claim, program in programs.items():
            with contextlib.suppress(Exception), subject.session():
                arrays = subject.arrays([*subject.values, unit, *bars])
                found[claim] = subject.numpy(program(*arrays))
        return found

    return at


def _judge(trial: Trial, there: Subject, i: int, derivatives: Derivatives) -> dict[str, Judged]:
    """Returns the cotangent and the tangents at each entry, and what they should be."""
    x = there.values[i]
    unit = np.ones_like(x)
    if x.dtype.kind == "c":
        unit = np.exp(2j * np.pi * trial.rng(43).uniform(size=x.shape))
    bars = there.bars(trial.rng(47))
    live = [k for k, b in enumerate(bars) if b is not None]
    if not live:
        return {}
    rng = trial.rng(53)
    near = [there, *(there.at(nudged(rng, there)) for _ in range(_NUDGES))]
    at = [derivatives(point, unit, bars) for point in near]
    slopes, errors = _slopes(trial, there, i, unit)

    def flat(bar: Any) -> np.ndarray:
        return np.zeros(x.size) if bar is None else np.ravel(bar)

    with np.errstate(all="ignore"):
        weights = np.stack([np.ravel(bars[k]) for k in live])
        expected = np.sum(np.real(np.conj(weights) * slopes), axis=0)
        error = np.sum(np.abs(weights) * errors, axis=0)
        size = np.sum(np.abs(weights * slopes), axis=0)
        order = np.ravel(np.real(x))
        rounded = _ROUNDED * there.epsilon / np.abs(np.ravel(x))
        rounding = [rounded * np.abs(np.ravel(there.outputs[k])) for k in live]
        all_rounding = np.sum(np.abs(weights) * rounding, axis=0)
        found: dict[str, Judged] = {}
        if all("vjp" in point for point in at):
            pulls = [np.real(np.conj(flat(point["vjp"][0])) * np.ravel(unit)) for point in at]
            found["vjp"] = _compared(there, order, pulls, expected, error + all_rounding, size)
        for n, k in enumerate(live):
            if not all("jvp" in point for point in at):
                break
            pushed = [flat(point["jvp"][k]) for point in at]
            off = errors[n] + rounding[n]
            judged = _compared(there, order, pushed, slopes[n], off, np.abs(slopes[n]))
            if "jvp" not in found or judged.wrong.any():
                found["jvp"] = judged
        return found


def _compared(
    there: Subject,
    x: np.ndarray,
    found: list[np.ndarray],
    expected: np.ndarray,
    error: np.ndarray,
    size: np.ndarray,
) -> Judged:
    here, *near = found
    moved = np.max([np.abs(other - here) for other in near], axis=0)
    noise = windows(x, np.where(np.isfinite(moved), moved, 0.0))
    allowed = there.epsilon**_SHARE * size + 3 * error + 8 * noise
    known = np.isfinite(expected) & np.isfinite(allowed)
    wrong = known & ~(np.abs(here - expected) <= allowed)
    # Zero, or NaN, where the slope itself is hardly told from zero: nothing is shown by that.
    wrong &= np.isfinite(here) | (error <= 0.01 * np.abs(expected))
    return Judged(here, expected, allowed, wrong)


def _slopes(
    trial: Trial, there: Subject, i: int, unit: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the slopes of all outputs at each entry, and how far they may be off.

    Steps in proportion to the entry itself see a branch near zero; those in proportion to the
    example are less rounded where the function is smooth there. Each entry takes the surer one.
    """
    meant = trial.wanted if callable(trial.wanted) else None
    differences = ByDifferences(there, meant)
    x = there.values[i]
    example = trial.subject.values[i]
    largest = float(np.max(np.abs(example), initial=0.0)) or 1.0
    found = []
    for size in (np.abs(x), np.maximum(np.abs(x), largest)):
        dots: list[Any] = [None] * len(there.values)
        dots[i] = unit * size
        slope = differences.along(dots)
        flat = np.resize(np.ravel(size), slope.value.shape)
        with np.errstate(all="ignore"):
            coarse = np.min(np.abs(slope.differences[:2] - slope.value), axis=0)
            # Fine steps may stand on one of the stairs of what rounds inside: coarse ones do not,
            # and those of a smooth function come sixteen times nearer to each other with each.
            change = np.abs(np.diff(slope.differences[:4], axis=0))
            least = _EVEN * np.abs(slope.value)
            uneven = np.any(change[1:] > change[:-1] + least, axis=0)
            uneven |= np.any(change[:-1] > _LEAPS * change[1:] + least, axis=0)
            alone = ~(coarse <= _COARSE * np.abs(slope.value)) | slope.quantised | uneven
        found.append((slope.value / flat, np.where(alone, np.inf, slope.error / flat)))
    (near, near_error), (far, far_error) = found
    with np.errstate(all="ignore"):
        better = np.isfinite(far) & (far_error < near_error)
        # Where the two say other things, no more is known than that.
        apart = np.abs(far - near)
        doubt = np.where(apart > 3 * (near_error + far_error), apart, 0.0)
        doubt = np.where(np.isnan(doubt), 0.0, doubt)
        value = np.where(better, far, near)
        # A derivative may be as rounded as values are over the entry: what the near one could tell.
        error = np.where(better, far_error + _SHOWN * near_error, near_error) + doubt
    return value.reshape(-1, x.size), error.reshape(-1, x.size)


def _excess(judged: Judged) -> np.ndarray:
    with np.errstate(all="ignore"):
        off = np.abs(judged.found - judged.expected) / np.maximum(judged.allowed, 1e-300)
    return np.where(np.isfinite(off), off, np.finfo(float).max)


def _finding(
    trial: Trial, there: Subject, i: int, claim: str, judged: Judged, entry: int
) -> Finding:
    subject = trial.subject
    neighbour = filled(subject, there, i, entry)
    found, expected = judged.found[entry], judged.expected[entry]
    name = subject.names[i] if claim == "vjp" else "the output"
    what = "cotangent" if claim == "vjp" else "tangent"
    index = (0,) * subject.values[i].ndim
    g = Gap(0.0, 0.0, np.ones(1, bool), index, found, expected)
    other = replace(trial, neighbour=neighbour.how)
    if not np.isfinite(found):
        text = f"The {what} of '{name}' is {found} there, where differences give {expected:.6g}."
        return other.finding(claim, "not finite", text, name, g)
    share = float(np.abs(found - expected) / max(np.abs(expected), 1e-300))
    x = np.real(np.ravel(there.values[i]))
    low, high = next(r for r in runs(x, judged.wrong) if r[0] <= x[entry] <= r[1])
    text = (
        f"The {what} of '{name}' is off by {share:.1e} of its size, {found:.10g} where differences "
        f"give {expected:.10g}, and so it is between {low:.3g} and {high:.3g}. "
    )
    if share < _GROSS:
        text += (
            "A branch of the derivative (a series, an asymptotic form) is less accurate there than "
            "the other: mend its coefficients, or move its boundary."
        )
    else:
        text += "Another branch than that at the example holds there, or should: look at that one."
    return other.finding(claim, "where", text, name, g)

"""A wrong cotangent found by differences alone: along random directions, then located."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diptych.proof.claims.trial import Trial
from diptych.proof.compare import Gap, gap
from diptych.proof.curves import record_along
from diptych.proof.diagnosis import Case, diagnose
from diptych.proof.differences import DIRECTIONS, Measured
from diptych.proof.noise import allowing
from diptych.proof.outcome import Finding
from diptych.proof.subject import Subject, zeros_for
from diptych.proof.vectors import inner, inner_size


def vjp_along(
    trial: Trial, bars: Sequence[Any], found: Sequence[Any]
) -> tuple[list[Gap], list[Finding]]:
    """Compares `<vjp(bar), t>` with `<bar, J t>` for random directions `t` of each argument."""
    subject = trial.subject
    gaps, findings = [], []
    for i, x in enumerate(subject.values):
        if not subject.moving[i]:
            continue
        cotangent = np.zeros_like(x) if found[i] is None else found[i]
        if cotangent.shape != x.shape:
            findings.append(shape_finding(trial, "vjp", subject.names[i], cotangent, x))
            continue
        before = len(gaps)
        for salt in range(DIRECTIONS):
            dots: list[Any] = [None] * len(subject.values)
            dots[i] = trial.dots(100 + salt)[i]
            measured = trial.once("along", (i, salt), lambda d=dots: trial.reference.push(d))
            judge = _judge(trial, bars, cotangent, dots[i], measured)

            def of(point: Subject, bars: Any, dots: Any, i: int = i) -> np.ndarray:
                bar = zeros_for(point.vjp().pull(bars), point)[i]
                return np.asarray(inner([bar], [dots[i]]))

            along = np.asarray(inner([cotangent], [dots[i]]))
            g = allowing(subject, trial.rng(8), judge, along, of, bars, dots)
            gaps.append(g)
            if not g.ok:
                findings.append(_located(trial, bars, cotangent, dots, i, g))
                break
        record_along(trial, subject.names[i], gaps[before:])
    return gaps, findings


def along_ties(
    trial: Trial, bars: Sequence[Any], found: Sequence[Any]
) -> tuple[list[Gap], list[Finding]]:
    """Compares at a kink along a direction in which equal entries stay equal, and zeros zero.

    The function has no kink along it, and whichever side's derivative a rule takes at a tie, this
    sum of its entries is the same. A rule that gives every tied entry the whole is found out.
    """
    subject = trial.subject
    rng = trial.rng(19)
    moving = [x for x, m in zip(subject.values, subject.moving, strict=True) if m]
    sizes = np.unique(np.concatenate([np.abs(np.ravel(x)) for x in moving]))
    rates = rng.uniform(0.5, 1.5, sizes.shape)
    dots = [
        x * rates[np.searchsorted(sizes, np.abs(x))] if m else None
        for x, m in zip(subject.values, subject.moving, strict=True)
    ]
    measured = trial.differences.push(dots)
    expected = inner(bars, measured.values)
    error = sum(
        float(np.sum(np.abs(b) * e))
        for b, e in zip(bars, measured.errors, strict=True)
        if b is not None and e is not None
    )
    size = inner_size(found, dots) + inner_size(bars, measured.values)
    epsilon = subject.epsilon
    g = gap(
        np.asarray(inner(found, dots)),
        np.asarray(expected),
        epsilon=epsilon,
        relative=trial.relative,
        error=3 * error,
        floor=epsilon**0.7 * size,
    )
    if g.ok:
        return [g], []
    message = (
        f"Along a direction in which equal entries stay equal the VJP of {subject.target.name} "
        f"gives {g.shown}, where differences give {g.due}. At ties the cotangent must "
        "be shared, or go to one of the tied entries: it must not be counted for each."
    )
    return [g], [trial.finding("vjp", "where", message, None, g)]


def _along(
    trial: Trial, bars: Sequence[Any], cotangent: np.ndarray, dots: Sequence[Any], i: int
) -> Gap:
    judge = _judge(trial, bars, cotangent, dots[i], trial.reference.push(dots))
    return judge(np.asarray(inner([cotangent], [dots[i]])), 0.0)


def _judge(
    trial: Trial, bars: Sequence[Any], cotangent: np.ndarray, dot: np.ndarray, measured: Measured
) -> Callable[[Any, float], Gap]:
    """Returns what compares a cotangent, times a tangent, with what was measured along that."""
    expected = inner(bars, measured.values)
    error = inner_size(bars, measured.errors)
    error = error if np.isfinite(error) else np.inf
    size = inner_size([cotangent], [dot]) + inner_size(bars, measured.values)
    epsilon = trial.subject.epsilon
    return lambda along, rounding: gap(
        along,
        np.asarray(expected),
        epsilon=epsilon,
        relative=trial.relative,
        error=3 * error,
        floor=epsilon**0.7 * size + rounding,
    )


def _located(
    trial: Trial, bars: Sequence[Any], cotangent: np.ndarray, dots: list[Any], i: int, g: Gap
) -> Finding:
    """Returns the finding for a wrong cotangent, located by halving the direction."""
    subject = trial.subject
    name = subject.names[i]
    flat = np.arange(cotangent.size)
    while len(flat) > 1:
        half = flat[: len(flat) // 2]
        mask = np.zeros(cotangent.size)
        mask[half] = 1
        part = list(dots)
        part[i] = dots[i] * mask.reshape(cotangent.shape)
        flat = half if not _along(trial, bars, cotangent, part, i).ok else flat[len(half) :]
    index = tuple(int(k) for k in np.unravel_index(int(flat[0]), cotangent.shape))
    cause, why = _from_samples(trial, bars, cotangent, i)
    message = (
        f"The cotangent of '{name}' is wrong: along a random direction it gives {g.shown} "
        f"where {trial.reference.name} give {g.due}, first at index {index}. {why}"
    )
    found = trial.finding("vjp", cause, message, name, g)
    return Finding(**{**found.__dict__, "index": index})


def _from_samples(
    trial: Trial, bars: Sequence[Any], cotangent: np.ndarray, i: int
) -> tuple[str, str]:
    """Returns the cause as a few single entries tell it, each measured by itself."""
    subject = trial.subject
    rng = trial.rng(17)
    count = min(cotangent.size, 24)
    chosen = np.sort(rng.choice(cotangent.size, count, replace=False))
    expected = np.zeros(count, cotangent.dtype)
    errors = np.zeros(count)
    for k, entry in enumerate(chosen):
        dots: list[Any] = [None] * len(subject.values)
        dots[i] = np.zeros_like(subject.values[i])
        at = np.unravel_index(entry, cotangent.shape)
        size = float(np.abs(subject.values[i][at])) or 1.0
        dots[i][at] = size
        measured = trial.reference.push(dots)
        expected[k] = inner(bars, measured.values) / size
        errors[k] = sum(
            float(np.sum(np.abs(b) * e)) / size
            for b, e in zip(bars, measured.errors, strict=True)
            if b is not None and e is not None
        )
    found = np.real(np.ravel(cotangent)[chosen])
    g = gap(found, np.real(expected), epsilon=subject.epsilon, error=3 * errors)
    if g.ok:
        return "where", "It is right at most entries."
    case = Case(
        "vjp", subject.names[i], 0, found, np.real(expected), g, [found], [np.real(expected)],
        [np.ravel(subject.values[i])[chosen]], [], [subject.names[i]], [], lambda v: ([], []),
    )  # fmt: skip
    return diagnose(case)


def shape_finding(
    trial: Trial, claim: str, name: str, found: np.ndarray, primal: np.ndarray
) -> Finding:
    """Returns the finding for a (co)tangent of another shape than its primal's."""
    what = "cotangent" if claim == "vjp" else "tangent"
    message = (
        f"The {what} of '{name}' has shape {found.shape}, its primal {primal.shape}. "
        "Return one of the primal's shape: sum over broadcast axes."
    )
    return trial.finding(claim, "shape", message, name)

"""What the plots of a report are made of, gathered while the claims are tested.

`pairs`: entries of a derivative beside the reference's. `curve`: how far plain differences are
from the rule and from the reference at many step sizes. Where the rule is right that is a V:
truncation falls with the step, then rounding grows. Where it is wrong the rule's own curve stays
at the size of the error, however small the step.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from diptych.proof.compare import Gap
from diptych.proof.outcome import Outcome
from diptych.proof.subject import Subject
from diptych.proof.vectors import inner, inner_size

if TYPE_CHECKING:
    from diptych.proof.claims.trial import Trial

POINTS = 160
STEPS = 2.0 ** -np.arange(2.0, 45.0, 3.0)
_SECONDS = 2.0


def record_pairs(
    trial: Trial, claim: str, name: str, found: np.ndarray, expected: np.ndarray, gap: Gap
) -> None:
    """Keeps entries of a derivative beside the reference's: the wrong ones first, then a sample.

    Args:
        trial: what is tested.
        claim: "jvp" or "vjp".
        name: the argument or output.
        found: the derivative.
        expected: the reference's.
        gap: how the two differ.
    """
    if trial.neighbour is not None or not found.size:
        return
    wrong = np.ravel(np.broadcast_to(gap.wrong, found.shape))
    bad = np.flatnonzero(wrong)[: POINTS // 2]
    rest = np.flatnonzero(~wrong)
    rest = rest[:: max(1, -(-len(rest) // (POINTS - len(bad))))]
    chosen = np.sort(np.concatenate([bad, rest]))
    measured, reference = np.ravel(found)[chosen], np.ravel(expected)[chosen]
    marks = wrong[chosen]
    if "c" in (measured.dtype.kind, reference.dtype.kind):
        measured = np.concatenate([np.real(measured), np.imag(measured)])
        reference = np.concatenate([np.real(reference), np.imag(reference)])
        marks = np.concatenate([marks, marks])
    kept = trial.notes.setdefault(f"pairs of {claim}", {})
    if name in kept and any(kept[name]["wrong"]):
        return
    kept[name] = {
        "name": name,
        "entries": int(found.size),
        "measured": measured.tolist(),
        "expected": reference.tolist(),
        "wrong": marks.tolist(),
    }


def record_along(trial: Trial, name: str, gaps: Sequence[Gap]) -> None:
    """Keeps the derivatives along random directions beside the reference's."""
    if trial.neighbour is not None or not gaps:
        return
    trial.notes.setdefault("pairs of vjp", {})[name] = {
        "name": f"{name}, along random directions",
        "entries": len(gaps),
        "measured": [float(np.real(g.found)) for g in gaps],
        "expected": [float(np.real(g.expected)) for g in gaps],
        "wrong": [not g.ok for g in gaps],
    }


class Line(NamedTuple):
    """What a curve is drawn from: no graphs, only arrays and the function.

    Args:
        subject: the point.
        dots: the direction.
        bars: the cotangents, for a VJP; `None` for a JVP.
        found: the tangents of the outputs for a JVP, `<vjp(bars), dots>` for a VJP.
        expected: the same of the reference, or what gives the reference's tangents.
        reference: what the reference is called.
    """

    subject: Subject
    dots: Sequence[Any]
    bars: Sequence[Any] | None
    found: Any
    expected: Any
    reference: str


def record_line(
    trial: Trial, dots: Sequence[Any], bars: Sequence[Any] | None, found: Any, expected: Any
) -> None:
    """Keeps what the curve of a JVP (no `bars`) or a VJP is drawn from; the first counts.

    Args:
        trial: what is tested.
        dots: the direction.
        bars: the cotangents of a VJP.
        found: the tangents, or the cotangents of the inputs.
        expected: the same of the reference, or `None` where it is to be asked for tangents.
    """
    if trial.neighbour is not None:
        return
    if bars is not None:
        pairs = zip(found, dots, strict=True)
        if any(x is not None and d is not None and x.shape != d.shape for x, d in pairs):
            return  # the claim says so
        found = inner(found, dots)
        expected = trial.reference.push if expected is None else inner(expected, dots)
    subject = Subject(trial.subject.target, trial.subject.prober, trial.subject.example, trial.seed)
    line = Line(subject, dots, bars, found, expected, trial.reference.name)
    trial.notes.setdefault("line of jvp" if bars is None else "line of vjp", line)


def with_plots(trial: Trial, outcome: Outcome) -> Outcome:
    """Returns the outcome of `jvp` or `vjp` with what its plots are made of."""
    pairs = trial.notes.pop(f"pairs of {outcome.claim}", {})
    if pairs:
        outcome.data["pairs"] = list(pairs.values())
    line = trial.notes.pop(f"line of {outcome.claim}", None)
    if line is not None:
        # Some thirty evaluations of the function: only if somebody looks.
        outcome.later = functools.partial(_curve, line)
    return outcome


def _curve(line: Line) -> dict[str, Any]:
    """Returns the errors of differences by step, as shares of the derivative's size."""
    subject, dots, bars = line.subject, line.dots, line.bars
    outputs = subject.outputs
    kept = [k for k, free in enumerate(subject.free) if free]
    expected = _expected(line)
    rows: list[tuple[float, float, float]] = []
    until = time.perf_counter() + _SECONDS
    scale = 0.0
    for k in _spread_out(len(STEPS)):
        h = float(STEPS[k])
        up, down = (subject.value(None, _moved(subject.values, dots, step)) for step in (h, -h))
        with np.errstate(all="ignore"):
            slopes = [(a - b) / (2 * h) for a, b in zip(up, down, strict=True)]
            if bars is None:
                found, meant = (
                    _largest(slopes, _filled(tangents, outputs), kept)
                    for tangents in (line.found, expected)
                )
                size = _largest(_filled(expected, outputs), [0.0] * len(outputs), kept)
            else:
                along = inner(bars, slopes)
                found, meant = abs(along - line.found), abs(along - expected)
                size = inner_size(bars, slopes)
        scale = max(scale, size if np.isfinite(size) else 0.0)
        rows.append((h, found, meant))
        if time.perf_counter() > until:
            break
    rows.sort()
    return {
        "curve": {
            "steps": [h for h, _, _ in rows],
            "rule": [found / (scale or 1.0) for _, found, _ in rows],
            "reference": [meant / (scale or 1.0) for _, _, meant in rows],
            "reference_name": line.reference,
        }
    }


def _expected(line: Line) -> Any:
    """Returns the reference's tangents for a JVP, its `<vjp(bars), dots>` for a VJP."""
    if line.bars is None or isinstance(line.expected, float):
        return line.expected
    tangents = line.expected(line.dots).values
    return inner(line.bars, _filled(tangents, line.subject.outputs))


def _spread_out(count: int) -> list[int]:
    """Returns the numbers below `count` coarsely first, so that few of them span the range."""
    order: list[int] = []
    for stride in (4, 2, 1):
        order += [k for k in range(0, count, stride) if k not in order]
    return order


def _moved(values: Sequence[Any], dots: Sequence[Any], h: float) -> list[Any]:
    return [x if d is None else x + h * d for x, d in zip(values, dots, strict=True)]


def _filled(tangents: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
    return [np.zeros_like(o) if t is None else t for t, o in zip(tangents, outputs, strict=True)]


def _largest(slopes: Sequence[Any], tangents: Sequence[Any], kept: Sequence[int]) -> float:
    return max(float(np.max(np.abs(slopes[k] - tangents[k]), initial=0.0)) for k in kept)

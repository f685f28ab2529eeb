"""What the plots of a report are made of, gathered while the claims are tested.

`pairs`: entries of a derivative beside the reference's. `curve`: how far plain differences are
from the rule and from the reference at many step sizes. Where the rule is right that is a V:
truncation falls with the step, then rounding grows. Where it is wrong the rule's own curve stays
at the size of the error, however small the step.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.proof.compare import Gap
from diptych.proof.outcome import Outcome
from diptych.proof.subject import inner, inner_size

if TYPE_CHECKING:
    from diptych.proof.claims.trial import Trial

POINTS = 160
STEPS = 2.0 ** -np.arange(2.0, 45.0, 3.0)
_SECONDS = 0.15


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


def with_plots(trial: Trial, outcome: Outcome) -> Outcome:
    """Returns the outcome of `jvp` or `vjp` with what its plots are made of."""
    if trial.neighbour is not None:
        return outcome
    pairs = trial.notes.get(f"pairs of {outcome.claim}", {})
    if pairs:
        outcome.data["pairs"] = list(pairs.values())
    if "curve" not in trial.notes:
        try:
            trial.notes["curve"] = _curve(trial)
        except Exception:  # a plot is no reason to fail: the claims say what is wrong
            trial.notes["curve"] = None
    curve = trial.notes["curve"]
    if curve is not None and curve[outcome.claim] is not None:
        outcome.data["curve"] = {
            "steps": curve["steps"],
            "rule": curve[outcome.claim],
            "reference": curve["reference"],
            "reference_name": trial.reference.name,
        }
    return outcome


def _curve(trial: Trial) -> dict[str, Any] | None:
    """Returns the errors of differences by step, as shares of the derivative's size."""
    subject = trial.subject
    dots, bars = subject.dots(trial.rng(10)), subject.bars(trial.rng(0))
    kept = [k for k, free in enumerate(subject.free) if free]
    if not kept or not any(d is not None for d in dots):
        return None
    try:
        pushed = _filled(subject.jvp(dots)[1], subject.outputs)
    except Exception:
        pushed = None
    try:
        pulled = inner(subject.vjp().pull(bars), dots)
    except Exception:
        pulled = None
    if pushed is None and pulled is None:
        return None
    said = _filled(trial.reference.push(dots).values, subject.outputs)
    scale = max(float(np.max(np.abs(said[k]), initial=0.0)) for k in kept)
    size = inner_size(bars, said)
    if not (np.isfinite(scale + size) and scale and size):
        return None
    rows: list[tuple[float, Any, Any, float]] = []
    until = time.perf_counter() + _SECONDS
    for k in _spread_out(len(STEPS)):
        h = float(STEPS[k])
        up, down = (subject.value(None, _moved(subject.values, dots, step)) for step in (h, -h))
        with np.errstate(all="ignore"):
            slopes = [(a - b) / (2 * h) for a, b in zip(up, down, strict=True)]
            jvp = None if pushed is None else _largest(slopes, pushed, kept) / scale
            vjp = None if pulled is None else abs(inner(bars, slopes) - pulled) / size
            rows.append((h, jvp, vjp, _largest(slopes, said, kept) / scale))
        if time.perf_counter() > until:
            break
    rows.sort()
    steps, jvps, vjps, references = (list(column) for column in zip(*rows, strict=True))
    return {
        "steps": steps,
        "jvp": None if pushed is None else jvps,
        "vjp": None if pulled is None else vjps,
        "reference": references,
    }


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

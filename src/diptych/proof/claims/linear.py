"""Linearity of both directions in their vectors, over twelve magnitudes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diptych.proof.claims.trial import Skip, Trial
from diptych.proof.compare import Gap, gap
from diptych.proof.noise import noise
from diptych.proof.outcome import Finding, Outcome
from diptych.proof.subject import Subject, zeros_for

# Sums of vectors, each times a number.
Terms = list[tuple[float, Sequence[Any]]]
_SCALES = (-1.0, 1e-6, 1e-3, 0.3, 7.0, 1e3, 1e6)


def linear(trial: Trial) -> Outcome:
    """The VJP is linear in its cotangent and the JVP in its tangent, over twelve magnitudes."""
    subject = trial.subject
    pullback = subject.vjp()
    gaps: list[Gap] = []
    findings: list[Finding] = []
    first, second = trial.bars(40), trial.bars(41)
    more = _linearity(
        trial,
        "vjp",
        lambda v: zeros_for(pullback.pull(v), subject),
        first,
        second,
        lambda s, v: zeros_for(s.vjp().pull(v), s),
    )
    gaps += more[0]
    findings += more[1]
    try:
        one, two = trial.dots(42), trial.dots(43)
        more = _linearity(
            trial,
            "jvp",
            lambda v: _known(subject.jvp(v)[1]),
            one,
            two,
            lambda s, v: _known(s.jvp(v)[1]),
        )
        gaps += more[0]
        findings += more[1]
    except Exception as error:  # no forward mode: the claim `jvp` says so
        if subject.prober.refusal(error) is None and not findings:
            raise
    return trial.outcome("linear", gaps, findings)


def _known(found: Sequence[Any]) -> list[Any]:
    return [np.zeros(()) if x is None else x for x in found]


def _linearity(
    trial: Trial,
    direction: str,
    of: Callable[[Sequence[Any]], list[Any]],
    first: Sequence[Any],
    second: Sequence[Any],
    at: Callable[[Subject, Sequence[Any]], list[Any]],
) -> tuple[list[Gap], list[Finding]]:
    subject = trial.subject
    vector = "cotangent" if direction == "vjp" else "tangent"
    names = (
        subject.names
        if direction == "vjp"
        else [f"output {k}" for k in range(len(subject.outputs))]
    )
    base, other = of(first), of(second)
    if not all(_same(a, b) for a, b in zip(base, of(first), strict=True)):
        raise Skip(f"the same {vector} gives different results")

    def rounding(vectors: Sequence[Any], terms: Terms, k: int) -> float:
        """Returns how much of a result, and of what it should be, is rounding."""
        parts = [(1.0, vectors), *terms]
        return sum(abs(s) * noise(subject, trial.rng(44), at, v)[k] for s, v in parts)

    tests: list[tuple[str, Sequence[Any], Terms]] = [
        (f"{vector} times {s:g}", [_times(v, s) for v in first], [(s, first)]) for s in _SCALES
    ]
    together = [None if a is None else a + b for a, b in zip(first, second, strict=True)]
    tests.append((f"sum of two {vector}s", together, [(1.0, first), (1.0, second)]))
    tests.append((f"zero {vector}", [_times(v, 0.0) for v in first], [(0.0, first)]))
    finite = [bool(np.isfinite(b).all()) for b in base]
    gaps: list[Gap] = []
    findings: list[Finding] = []
    for said, vectors, terms in tests:
        found = of(vectors)
        for k, f in enumerate(found):
            if not finite[k]:
                continue
            each = [s * known[k] for (s, _), known in zip(terms, (base, other), strict=False)]
            e = np.sum(each, axis=0)
            size = max([float(np.abs(x).max(initial=0.0)) for x in (e, *each)])
            floor = subject.epsilon**0.7 * size
            g = gap(f, e, epsilon=subject.epsilon, floor=floor, relative=subject.epsilon**0.5)
            if not g.ok:  # which rounding may be, where all terms cancel
                g = gap(
                    f, e, epsilon=subject.epsilon, relative=subject.epsilon**0.5,
                    floor=floor + rounding(vectors, terms, k),
                )  # fmt: skip
            gaps.append(g)
            if not g.ok:
                message = (
                    f"The {direction.upper()} of {subject.target.name} is not linear: for a {said} "
                    f"it gives {g.shown} for '{names[k]}' at index {g.index}, where linearity "
                    f"asks for {g.due}. It must not clip, round, square or take the "
                    f"absolute value of its {vector}."
                )
                findings.append(trial.finding("linear", "not linear", message, names[k], g))
                return gaps, findings
    return gaps, findings


def _same(a: Any, b: Any) -> bool:
    if np.array_equal(a, b):
        return True
    return bool(np.all(np.isclose(a, b, rtol=1e-6, atol=0.0, equal_nan=True)))


def _times(v: Any, scale: float) -> Any:
    return None if v is None else v * scale

"""PyTorch and JAX give the same value, JVP and VJP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diptych.proof.compare import Gap, gap, worst
from diptych.proof.outcome import Finding, Outcome
from diptych.proof.subject import Subject


def agreement(subjects: Sequence[Subject]) -> Outcome:
    """Returns whether two frameworks agree on a rule at the same point."""
    one, other = subjects[:2]
    names = f"{one.framework} and {other.framework}"
    rng = np.random.default_rng([one.seed, 80])
    gaps: list[Gap] = []
    findings: list[Finding] = []
    try:
        bars, dots = one.bars(rng), one.dots(rng)
        pairs: list[tuple[str, Any, Any]] = [("value", one.outputs, other.outputs)]
        pairs.append(("VJP", one.vjp().pull(bars), other.vjp().pull(bars)))
        pairs.append(("JVP", one.jvp(dots)[1], other.jvp(dots)[1]))
    except Exception as error:
        said = one.prober.refusal(error) or other.prober.refusal(error) or type(error).__name__
        return Outcome("frameworks", names, "skipped", f"not on both: {said}")
    for what, mine, theirs in pairs:
        for k, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            if a is None and b is None:
                continue
            a = np.zeros_like(b) if a is None else a
            b = np.zeros_like(a) if b is None else b
            g = gap(a, b, epsilon=one.epsilon, relative=one.epsilon**0.5)
            gaps.append(g)
            if not g.ok:
                message = (
                    f"The {what} of {one.target.name} is {g.shown} in {one.framework} and "
                    f"{g.due} in {other.framework} at index {g.index}. Look for an "
                    "operation that the two define differently (ddof, rounding, default dtypes)."
                )
                findings.append(
                    Finding("frameworks", names, None, "frameworks differ", message,
                            g.found, g.expected, g.index)
                )  # fmt: skip
                break
            del k
    error, threshold = worst(gaps)
    status = "broken" if findings else "pass"
    return Outcome("frameworks", names, status, "", error, threshold, 0.0, findings)

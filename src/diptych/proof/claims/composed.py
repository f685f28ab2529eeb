"""The second derivative of a function of the function's value: what rules lose there is found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diptych.proof.claims.second import slopes
from diptych.proof.claims.trial import Trial
from diptych.proof.compare import Gap, gap
from diptych.proof.outcome import Finding
from diptych.proof.references import pushed_by_pulls
from diptych.proof.subject import Subject
from diptych.proof.vectors import inner, inner_size


def of_its_square(trial: Trial) -> tuple[list[Gap], list[Finding]]:
    """Compares the second derivative of the function's square with what its own derivatives give.

    `D2 <w, f * f>(t, u) = 2 <w, Jt * Ju> + 2 D2 <w * f, f>(t, u)`, by the product rule. A rule that
    writes its body out inside of itself is right by itself, and lost where its value is used:
    JAX then differentiates the body. Nothing is compared where a derivative does not exist or is
    known to be wrong, over complex numbers, or of what is no derivative: a straight-through
    estimator is meant once.
    """
    subject = trial.subject
    real = all(x.dtype.kind != "c" for x in (*subject.values, *subject.outputs))
    wrong = {claim for claim, _ in trial.notes.get("known", ())} & {"jvp", "vjp", "linear"}
    if not subject.target.custom or trial.intentional or not real or wrong:
        return [], []
    weights, t, u = trial.bars(50), trial.dots(51), trial.dots(52)
    function = subject.function()

    def square(*arrays: Any) -> list[Any]:
        outs = function(*arrays)
        return [o * o if free else o for o, free in zip(outs, subject.free, strict=True)]

    values = zip(weights, subject.outputs, strict=True)
    carried = [None if w is None else w * o for w, o in values]
    try:
        first, second = _pushed(subject, t), _pushed(subject, u)
        (bent,) = slopes(subject, "reverse", "reverse", carried, t, t, [u])
        (found,) = slopes(subject, "reverse", "reverse", weights, t, t, [u], square)
    except Exception:
        return [], []  # the claims `jvp` and `order` say so
    pairs = zip(first, second, strict=True)
    crossed = [None if a is None or b is None else a * b for a, b in pairs]
    due = 2 * inner(weights, crossed) + 2 * bent
    size = inner_size(weights, crossed) + abs(bent)
    g = gap(
        np.asarray(found),
        np.asarray(due),
        epsilon=subject.epsilon,
        floor=subject.epsilon**0.6 * size,
        relative=subject.epsilon**0.4,
    )
    if g.ok or not np.isfinite(g.expected or 0.0):
        return [g], []
    name = subject.target.name
    message = (
        f"The second derivative of the square of {name} along random directions is {g.shown}, "
        f"where the derivatives that {name} states give {g.due}. Inside of its own rule "
        f"{name} computes its value anew, and there the rule is lost: let its JVP, or its `fwd`, "
        f"call {name} itself."
    )
    return [g], [trial.finding("order", "bypassed", message, None, g)]


def _pushed(subject: Subject, dots: Sequence[Any]) -> list[Any]:
    """Returns the tangents, by two pullbacks where there is no forward mode."""
    try:
        return subject.jvp(dots)[1]
    except Exception:
        return pushed_by_pulls(subject, dots)

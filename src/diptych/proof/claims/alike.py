"""What a transformed function is compared with: the plain one, and how much rounding moves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diptych.proof.claims.trial import Trial
from diptych.proof.compare import Gap, gap
from diptych.proof.noise import noise
from diptych.proof.outcome import Finding
from diptych.proof.subject import Subject, zeros_for


class Plain:
    """The function's own value and derivatives at the point, nothing transformed.

    Args:
        trial: the trial.

    Attributes:
        forward, reverse: whether these modes can be had at all.
    """

    def __init__(self, trial: Trial):
        subject = self.subject = trial.subject
        self.bars = trial.bars(200)
        self.dots = trial.dots(201)
        self.outputs = subject.outputs
        self.forward = any(subject.free) and any(subject.moving)
        self.reverse = self.forward
        rng = trial.rng(202)
        self.value_noise = noise(subject, rng, lambda s: _inexact(s.outputs))
        self.pulled = zeros_for([None] * len(subject.values), subject)
        self.pull_noise = [0.0] * len(subject.values)
        try:
            self.pulled = zeros_for(_pull(subject, self.bars), subject)
            self.pull_noise = noise(subject, rng, _pull, self.bars)
        except Exception:  # the claim `vjp` says why
            self.reverse = False
        try:
            self.pushed = subject.jvp(self.dots)[1]
            self.push_noise = noise(subject, rng, lambda s, dots: s.jvp(dots)[1], self.dots)
        except Exception:  # the claim `jvp` says why
            self.forward = False
            self.pushed = [None] * len(self.outputs)
            self.push_noise = [0.0] * len(self.outputs)


def plain(trial: Trial) -> Plain:
    """Returns what the transformed function is compared with, computed once for all claims."""
    found = trial.notes.get("plain")
    if found is None:
        found = trial.notes["plain"] = Plain(trial)
    return found


def _pull(subject: Subject, bars: Sequence[Any]) -> list[Any]:
    return subject.vjp().pull(bars)


def _inexact(arrays: Sequence[Any]) -> list[Any]:
    """Returns the arrays that rounding moves, and `None` for others."""
    return [x if x.dtype.kind in "fc" else None for x in arrays]


def is_random(trial: Trial) -> bool:
    """Returns whether the value depends on the framework's random state."""

    def differ() -> bool:
        subject = trial.subject
        other = Subject(subject.target, subject.prober, subject.example, subject.seed + 1)
        return not all(
            np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
            for a, b in zip(subject.outputs, other.outputs, strict=True)
        )

    return trial.once("is", "random", differ)


def differs(
    trial: Trial, found: Sequence[Any], expected: Sequence[Any], noise: Sequence[float]
) -> tuple[list[Gap], int | None, str]:
    """Compares lists of arrays.

    Returns:
        The gaps, the position of the first array that differs (`None`: none does), and how.
    """
    gaps: list[Gap] = []
    for k, (mine, theirs, floor) in enumerate(zip(found, expected, noise, strict=True)):
        if theirs is None:
            continue
        mine = np.zeros_like(theirs) if mine is None else np.asarray(mine)
        if mine.shape != theirs.shape:
            return gaps, k, f"has shape {mine.shape}, where {theirs.shape} is due"
        exact = theirs.dtype.kind not in "fc"
        if exact:
            mine, theirs = mine.astype(float), theirs.astype(float)
        g = gap(mine, theirs, epsilon=trial.subject.epsilon, floor=floor)
        gaps.append(g)
        if not g.ok:
            return gaps, k, f"is {g.found:.6g} at index {g.index}, where {g.expected:.6g} is due"
    return gaps, None, ""


def first_line(error: BaseException) -> str:
    """Returns what an error says, in one line."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {(lines or [''])[0][:200]}"


def body_fails(trial: Trial, stage: Callable[[Subject], Any]) -> bool:
    """Returns whether the plain body fails as well: then the derivative is not to blame.

    Args:
        trial: the trial.
        stage: what was tried, as a function of the subject.
    """
    body = trial.subject.target.body
    if body is None:
        return False
    try:
        stage(trial.subject.of(body))
    except Exception:
        return True
    return False


def raised(trial: Trial, claim: str, where: str, error: BaseException) -> Finding:
    """Returns the finding for an error that the plain function does not raise."""
    message = (
        f"{where} {trial.subject.target.name} raises {first_line(error)}. "
        "The plain call works at the same point."
    )
    return trial.finding(claim, "raises", message)

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

# Measures how far rounding may move each of some arrays, which only what differs has to know.
Rounding = Callable[[], Sequence[float]]


class Plain:
    """The function's own value and derivatives at the point, nothing transformed.

    Args:
        trial: the trial.

    Attributes:
        forward, reverse: whether these modes can be had at all.
    """

    def __init__(self, trial: Trial):
        self.trial = trial
        subject = self.subject = trial.subject
        self.bars = trial.bars(200)
        self.dots = trial.dots(201)
        self.outputs = subject.outputs
        self.forward = any(subject.free) and any(subject.moving)
        self.reverse = self.forward
        self.pulled = zeros_for([None] * len(subject.values), subject)
        try:
            self.pulled = zeros_for(_pull(subject, self.bars), subject)
        except Exception:  # the claim `vjp` says why
            self.reverse = False
        try:
            self.pushed = _push(subject, self.dots)
        except Exception:  # the claim `jvp` says why
            self.forward = False
            self.pushed = [None] * len(self.outputs)

    def value_noise(self) -> list[float]:
        """Returns how far rounding moves each output."""
        return self._noise("value", lambda s: _inexact(s.outputs))

    def pull_noise(self) -> list[float]:
        """Returns how far rounding moves each cotangent."""
        return self._noise("pull", _pull, self.bars)

    def push_noise(self) -> list[float]:
        """Returns how far rounding moves each tangent."""
        return self._noise("push", _push, self.dots)

    def _noise(self, what: str, of: Callable[..., list[Any]], *vectors: Sequence[Any]) -> Any:
        measure = lambda: noise(self.subject, self.trial.rng(202), of, *vectors)  # noqa: E731
        return self.trial.once("noise", what, measure)


def plain(trial: Trial) -> Plain:
    """Returns what the transformed function is compared with, computed once for all claims."""
    found = trial.notes.get("plain")
    if found is None:
        found = trial.notes["plain"] = Plain(trial)
    return found


def _pull(subject: Subject, bars: Sequence[Any]) -> list[Any]:
    return subject.vjp().pull(bars)


def _push(subject: Subject, dots: Sequence[Any]) -> list[Any]:
    return subject.jvp(dots)[1]


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
    trial: Trial,
    found: Sequence[Any],
    expected: Sequence[Any],
    rounding: Rounding | None = None,
) -> tuple[list[Gap], int | None, str]:
    """Compares lists of arrays.

    Args:
        trial: the trial.
        found: the arrays under test.
        expected: what they should be; `None` is not compared.
        rounding: how far rounding may move each; no further than any arithmetic does, if it is
            not given.

    Returns:
        The gaps, the position of the first array that differs (`None`: none does), and how.
    """
    gaps: list[Gap] = []
    for k, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        if theirs is None:
            continue
        mine = np.zeros_like(theirs) if mine is None else np.asarray(mine)
        if mine.shape != theirs.shape:
            return gaps, k, f"has shape {mine.shape}, where {theirs.shape} is due"
        exact = theirs.dtype.kind not in "fc"
        if exact:
            mine, theirs = mine.astype(float), theirs.astype(float)
        g = gap(mine, theirs, epsilon=trial.subject.epsilon)
        if not g.ok and rounding is not None:
            g = gap(mine, theirs, epsilon=trial.subject.epsilon, floor=rounding()[k])
        gaps.append(g)
        if not g.ok:
            return gaps, k, f"is {g.shown} at index {g.index}, where {g.due} is due"
    return gaps, None, ""


def first_line(error: BaseException) -> str:
    """Returns what an error says, in one line."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    told = lines or [""]
    # TorchScript says what was wrong last.
    said = told[-1] if told[0].endswith("failed in the TorchScript interpreter.") else told[0]
    return f"{type(error).__name__}: {said[:200]}"


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

"""What a claim is given, and how it answers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diptych.proof.compare import Gap, worst
from diptych.proof.differences import ByDifferences
from diptych.proof.outcome import Finding, Outcome, Status
from diptych.proof.references import Reference
from diptych.proof.subject import Subject


class Skip(Exception):  # noqa: N818 - nothing is wrong: it says why a claim has no verdict
    """Raised by a claim that cannot be tested; its text is the reason."""


@dataclass
class Trial:
    """A subject with all that a claim needs to judge it.

    Args:
        subject: the function at the point, in float64.
        reference: what its derivative should be.
        differences: extrapolated differences, whatever the reference.
        order: up to which order derivatives are tested.
        explicit_order: whether the user asked for that order.
        intentional: whether the rule is meant to differ from the true derivative.
        compile: whether to compile.
        seed: of random directions.
        neighbour: how the example was varied.
        given: the subject in the dtypes in which the example was given.
        deadline: when to stop trying more, as `time.perf_counter` tells it.
        args: the arguments as they were given.
        wanted: the reference that was asked for.
        relative: the share of each entry by which a derivative may be off; nearly half the digits
            if it is not given.
        notes: what one claim leaves for a later one.
    """

    subject: Subject
    reference: Reference
    differences: ByDifferences
    order: int = 2
    explicit_order: bool = False
    intentional: bool = False
    compile: bool = True
    seed: int = 0
    neighbour: str | None = None
    given: Subject | None = None
    deadline: float = float("inf")
    args: Sequence[Any] = ()
    wanted: Any = "auto"
    relative: float | None = None
    notes: dict[Any, Any] = field(default_factory=dict)

    @property
    def framework(self) -> str:
        """The framework's name."""
        return self.subject.framework

    def refuse_intentional(self) -> None:
        """Raises `Skip` where the derivative is meant to be another than the reference's."""
        if self.intentional and not callable(self.wanted):
            raise Skip("the derivative is meant to differ; reference=f compares it with that of f")

    def once(self, what: str, key: Any, compute: Callable[[], Any]) -> Any:
        """Returns what is computed, the first time that it is asked for at this point."""
        if (what, key) not in self.notes:
            self.notes[what, key] = compute()
        return self.notes[what, key]

    def rng(self, salt: int = 0) -> np.random.Generator:
        """Returns the generator of random directions; the same for the same salt."""
        return np.random.default_rng(_seeds(self.seed, salt))

    def bars(self, salt: int) -> list[Any]:
        """Returns random cotangents, drawn once for each salt."""
        draw = lambda: self.subject.bars(self.rng(salt))  # noqa: E731
        return list(self.once("bars", salt, draw))

    def dots(self, salt: int) -> list[Any]:
        """Returns random tangents, drawn once for each salt."""
        draw = lambda: self.subject.dots(self.rng(salt))  # noqa: E731
        return list(self.once("dots", salt, draw))

    def outcome(
        self,
        claim: str,
        gaps: Sequence[Gap] = (),
        findings: Sequence[Finding] = (),
        note: str = "",
        status: Status | None = None,
    ) -> Outcome:
        """Returns the verdict of these gaps and findings."""
        error, threshold = worst(gaps) if gaps else (None, None)
        verdict = status or ("broken" if findings else "pass")
        return Outcome(claim, self.framework, verdict, note, error, threshold, 0.0, list(findings))

    def finding(
        self,
        claim: str,
        cause: str,
        message: str,
        argument: str | None = None,
        at: Gap | None = None,
    ) -> Finding:
        """Returns a finding, with the values at the worst entry of a gap."""
        if self.neighbour is not None:
            message = f"With the example varied ({self.neighbour}): {message}"
        measured, expected, index = (at.found, at.expected, at.index) if at else (None, None, None)
        return Finding(
            claim, self.framework, argument, cause, message,
            measured, expected, index, self.neighbour,
        )  # fmt: skip


@functools.lru_cache(maxsize=256)
def _seeds(seed: int, salt: int) -> np.random.SeedSequence:
    """Returns what a generator starts from; to make it takes as long as a generator."""
    return np.random.SeedSequence([seed, salt])


Claim = Callable[[Trial], Outcome]

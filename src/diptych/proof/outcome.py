"""What a claim found: passed, broken, skipped or merely reported, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["pass", "broken", "skipped", "reported"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        claim: the claim that failed.
        framework: on which framework.
        argument: the argument, or the output, that it shows at; `None` where it is no single one.
        cause: one of `diptych.proof.causes.CAUSES`.
        message: what, where, and the likely cause, in two sentences.
        measured: the value at the worst entry.
        expected: what it should be.
        index: that entry.
        neighbour: how the example was varied, and `None` for the example itself.
    """

    claim: str
    framework: str
    argument: str | None
    cause: str
    message: str
    measured: Any = None
    expected: Any = None
    index: tuple[int, ...] | None = None
    neighbour: str | None = None


@dataclass
class Outcome:
    """What one claim gave on one framework.

    Args:
        claim: its name.
        framework: the framework's name.
        status: "pass", "broken", "skipped" (could not be tested) or "reported" (no verdict).
        note: why it was skipped, or what is reported.
        error: the worst error, as a share of the derivative's own size.
        threshold: how large that may be.
        seconds: how long it took.
        findings: what is wrong.
        data: what plots are made of. Of `jvp` and `vjp`: `pairs`, entries beside the reference's,
            and `curve`, the errors of differences by step. Of `cost`: `seconds` and `flops` of
            one call, by what was measured. Of `memory`: `residual_bytes`, `input_output_bytes`.
        later: gives more of `data` when somebody looks, so that a check need not wait for it.
    """

    claim: str
    framework: str
    status: Status
    note: str = ""
    error: float | None = None
    threshold: float | None = None
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    later: Callable[[], dict[str, Any]] | None = field(default=None, repr=False, compare=False)

    def complete(self) -> None:
        """Adds what was left for later to `data`."""
        later, self.later = self.later, None
        if later is not None:
            try:
                self.data.update(later())
            except Exception as error:  # a plot is no reason to fail: the claims say what is wrong
                self.data["not plotted"] = f"{type(error).__name__}: {error}"

    def __getstate__(self) -> dict[str, Any]:
        # What is left for later holds the user's function, which may not be picklable.
        return {**self.__dict__, "later": None}

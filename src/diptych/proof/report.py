"""What a check found, as people and programs read it."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diptych.errors import DiptychError
from diptych.proof.outcome import Finding, Outcome

_MARKS = {"pass": "[green]pass", "broken": "[bold red]BROKEN", "skipped": "[dim]skipped",
          "reported": "[cyan]reported"}  # fmt: skip


class BrokenDerivativeError(DiptychError, AssertionError):
    """A derivative that a check found to be broken."""


class Report:
    """The outcome of every claim, and the findings among them.

    Args:
        name: what was checked.
        outcomes: one for each claim and framework.
        seconds: how long it took.
        seed: of the random directions.
        intentional: whether, or why, the derivative is meant to differ from the true one.
    """

    def __init__(
        self,
        name: str,
        outcomes: Sequence[Outcome],
        seconds: float,
        seed: int,
        intentional: bool | str = False,
    ):
        self.name = name
        self.outcomes = list(outcomes)
        self.seconds = seconds
        self.seed = seed
        self.intentional = intentional

    @property
    def findings(self) -> list[Finding]:
        """What is wrong."""
        return [finding for outcome in self.outcomes for finding in outcome.findings]

    @property
    def ok(self) -> bool:
        """Whether something was tested and nothing is wrong."""
        return not self.findings and any(o.status == "pass" for o in self.outcomes)

    def raise_if_broken(self) -> None:
        """Raises if anything is wrong, or if nothing could be tested.

        Raises:
            BrokenDerivativeError: with the findings as its text.
        """
        if not self.ok:
            raise BrokenDerivativeError(f"\n{self}")

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        state = "ok" if self.ok else f"{len(self.findings)} findings"
        return f"<diptych report on {self.name}: {state}>"

    def __str__(self) -> str:
        return self.render()

    def render(self, *, width: int = 100, color: bool = False) -> str:
        """Returns the table and the findings as text."""
        from rich.console import Console

        target = io.StringIO()
        console = Console(file=target, width=width, force_terminal=color, no_color=not color)
        for part in self._parts():
            console.print(part)
        return "\n".join(line.rstrip() for line in target.getvalue().splitlines())

    def _parts(self) -> list[Any]:
        from rich.table import Table
        from rich.text import Text

        title = f"diptych.check of {self.name}"
        if self.intentional:
            why = self.intentional if isinstance(self.intentional, str) else "intentional"
            title += f" ({why})"
        table = Table(title=title, title_justify="left", title_style="bold")
        for column in ("claim", "framework", "verdict"):
            table.add_column(column)
        for column in ("error", "allowed", "ms"):
            table.add_column(column, justify="right")
        table.add_column("note", overflow="fold")
        for outcome in self.outcomes:
            table.add_row(
                outcome.claim,
                outcome.framework,
                _MARKS[outcome.status],
                _number(outcome.error),
                _number(outcome.threshold),
                f"{1000 * outcome.seconds:.0f}",
                Text(outcome.note),
            )
        parts: list[Any] = [table]
        for k, finding in enumerate(self.findings, 1):
            where = f", '{finding.argument}'" if finding.argument else ""
            head = f"{k}. {finding.claim} on {finding.framework}{where}: {finding.cause}"
            parts += [Text(head, style="bold red"), Text(f"   {finding.message}")]
        count = len(self.findings)
        verdict = "nothing is wrong" if self.ok else f"{count} finding{'s' * (count != 1)}"
        if not self.ok and not count:
            verdict = "nothing could be tested"
        parts.append(Text(f"{verdict}; {self.seconds:.1f} s, seed {self.seed}"))
        return parts

    def to_json(self) -> str:
        """Returns outcomes and findings as JSON."""
        outcomes = [
            {
                "claim": o.claim,
                "framework": o.framework,
                "status": o.status,
                "note": o.note,
                "error": o.error,
                "threshold": o.threshold,
                "seconds": round(o.seconds, 4),
            }
            for o in self.outcomes
        ]
        findings = [
            {**vars(f), "measured": _plain(f.measured), "expected": _plain(f.expected)}
            for f in self.findings
        ]
        record = {
            "name": self.name,
            "ok": self.ok,
            "seconds": round(self.seconds, 3),
            "seed": self.seed,
            "intentional": self.intentional,
            "outcomes": outcomes,
            "findings": findings,
        }
        return json.dumps(record, indent=1)

    def to_html(self, path: str | Path) -> Path:
        """Writes one self-contained page and returns its path."""
        from diptych.proof.html import page

        target = Path(path)
        target.write_text(page(self), encoding="utf-8")
        return target


def _number(x: float | None) -> str:
    return "" if x is None else f"{x:.0e}" if x else "0"


def _plain(x: Any) -> Any:
    if x is None:
        return None
    if getattr(getattr(x, "dtype", None), "kind", "") == "c" or isinstance(x, complex):
        return {"real": float(x.real), "imag": float(x.imag)}
    return float(x)

"""What a check found, as people and programs read it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diptych.errors import DiptychError
from diptych.proof.outcome import Finding, Outcome
from diptych.proof.plain import plain

SCHEMA = 1


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
        columns = shutil.get_terminal_size((100, 24)).columns
        return self.render(width=min(max(columns, 80), 120))

    def render(self, *, width: int = 100, color: bool = False) -> str:
        """Returns the table and the findings as text.

        Args:
            width: how many columns it may take.
            color: whether to colour it as a terminal does.
        """
        from diptych.proof.table import render

        return render(self, width=width, color=color)

    def record(self) -> dict[str, Any]:
        """Returns all of the report as JSON has it: dictionaries, lists, strings and numbers.

        Keys: `schema` (1; raised when a key changes its meaning), `diptych` (the version), `name`,
        `ok`, `verdict` ("ok", "broken" or "untested"), `seconds`, `seed`, `intentional`,
        `outcomes` and `findings`. Each outcome has `claim`, `framework`, `status` ("pass",
        "broken", "skipped" or "reported"), `note`, `error`, `threshold`, `seconds`, `findings` (how
        many) and `data` (what plots are made of). Each finding has `claim`, `framework`,
        `argument`, `cause`, `message`, `measured`, `expected`, `index` and `neighbour`. NaN and the
        infinities are the strings "NaN", "Infinity" and "-Infinity", a complex number is
        `{"real": ..., "imag": ...}`.
        """
        from diptych import __version__

        for outcome in self.outcomes:
            outcome.complete()
        outcomes = [
            {key: value for key, value in vars(o).items() if key != "later"}
            | {"findings": len(o.findings)}
            for o in self.outcomes
        ]
        return plain(
            {
                "schema": SCHEMA,
                "diptych": __version__,
                "name": self.name,
                "ok": self.ok,
                "verdict": "ok" if self.ok else "broken" if self.findings else "untested",
                "seconds": self.seconds,
                "seed": self.seed,
                "intentional": self.intentional,
                "outcomes": outcomes,
                "findings": [vars(f) for f in self.findings],
            }
        )

    def to_json(self, *, indent: int | None = 1) -> str:
        """Returns outcomes and findings as JSON, with the keys of `record`.

        Examples:
            >>> import json, diptych, numpy as np
            >>> @diptych.rule
            ... def double(x):
            ...     return 2 * x
            >>> @double.vjp
            ... def double_vjp(res, out_bar):
            ...     return -2 * out_bar
            >>> report = diptych.check(double, np.array([1.0, 2.0]), claims="vjp")
            >>> record = json.loads(report.to_json())
            >>> record["ok"], record["findings"][0]["cause"]
            (False, 'sign')
        """
        return json.dumps(self.record(), indent=indent, allow_nan=False)

    def to_html(self, path: str | Path) -> Path:
        """Writes one self-contained page: the table, the findings and plots.

        Args:
            path: the file; folders that are not there are made.

        Returns:
            The path.
        """
        from diptych.proof.html import page

        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(page(self), encoding="utf-8")
        return target

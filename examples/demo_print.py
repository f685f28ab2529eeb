"""How the demo looks: tables for the terminal, and the same ones in Markdown for README."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable
from rich.text import Text

from demo import FORMS, Table
from demo_newton import Fit
from demo_table import CASES

STYLES = {
    "right": "green",
    "WRONG": "bold white on red",
    "raises": "yellow",
    "none": "dim",
    "-": "dim",
}
AGREEMENT = 1e-6

Measured = dict[str, dict[str, Table]]  # framework -> form -> row -> case -> cell

console = Console(width=120, highlight=False)


class Waiting:
    """A progress bar over futures."""

    def __init__(self, progress: Progress):
        self.progress = progress
        self.task = progress.add_task("measuring", total=0)
        self.total = 0

    def follow(self, future: Future) -> Future:
        self.total += 1
        self.progress.update(self.task, total=self.total)
        future.add_done_callback(lambda _: self.progress.advance(self.task))
        return future


@contextmanager
def waiting() -> Iterator[Waiting]:
    """Shows how far the measurements are, on standard error."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    start = time.perf_counter()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Waiting(progress)
    Console(stderr=True).print(f"measured in {time.perf_counter() - start:.0f} s")


def mark(verdict: str) -> Text:
    return Text(verdict, style=STYLES[verdict])


def tables(measured: Measured) -> None:
    """Prints diptych's table and the hand-written one for each framework."""
    console.print()
    for case in CASES:
        console.print(f"[bold]{case.name:>9}[/]  {case.says}")
    console.print(
        "\nright: the closed form's numbers, in every call of the row.  [bold]WRONG[/]: "
        "other numbers in one, and no error.\nraises: an error in one.  none: the framework has no "
        "such call for this function, rule or no rule.  -: not measured."
    )
    for framework, forms in measured.items():
        ours, *by_hand = forms
        _print_one(f"{framework}, the rules written once with diptych", forms, [ours])
        listed = "; ".join(FORMS[framework][form] for form in by_hand)
        _print_one(f"{framework}, written by hand: {listed}", forms, by_hand)


def _print_one(title: str, forms: dict[str, Table], shown: Sequence[str]) -> None:
    table = RichTable(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    lead = "\n" if len(shown) > 1 else ""
    table.add_column(f"{lead}transform", no_wrap=True)
    columns: list[tuple[str, str]] = []
    for form in shown:
        for i, case in enumerate(CASES):
            above = f"{form if i == 1 else ''}\n" if len(shown) > 1 else ""
            table.add_column(f"{above}{case.name}", no_wrap=True)
            columns.append((case.name, form))
    for row in forms[shown[0]]:
        table.add_row(row, *(mark(forms[form][row][case].verdict) for case, form in columns))
    console.print()
    console.print(table)


def reasons(measured: Measured) -> None:
    """Prints what each call gave that was wrong, raised or does not exist."""
    for framework, form, row, case, cell in _cells(measured):
        for kind in ("wrong", "raised", "impossible"):
            for line in getattr(cell, kind):
                console.print(f"{framework}, {form}, {row}, {case}: {kind}: {line}", soft_wrap=True)


def _cells(measured: Measured) -> Iterator[tuple[str, str, str, str, Any]]:
    for framework, forms in measured.items():
        for form, rows in forms.items():
            for row, cases in rows.items():
                for case, cell in cases.items():
                    yield framework, form, row, case, cell


def regression(fits: Sequence[Fit]) -> bool:
    """Prints the solutions beside scikit-learn's; returns whether they agree."""
    *ours, reference = fits
    table = RichTable(
        title="Logistic regression on scikit-learn's breast-cancer data, by Newton's method "
        "through the rule log1pexp",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("")
    for one in fits:
        table.add_column(one.name, justify="right")
    for label, i in (("weight 1", 0), ("weight 2", 1), ("weight 30", 29), ("intercept", 30)):
        table.add_row(label, *(f"{one.weights[i]:.12f}" for one in fits))
    table.add_row("objective", *(f"{one.objective:.12f}" for one in fits))
    table.add_row("iterations", *(str(one.steps) for one in fits))
    gaps = [float(np.abs(one.weights - reference.weights).max()) for one in ours]
    table.add_row("largest difference", *(f"{gap:.1e}" for gap in gaps), "")
    console.print()
    console.print(table)
    agree = all(gap < AGREEMENT for gap in gaps)
    if not agree:
        console.print(f"The solutions differ by more than {AGREEMENT:.0e}.", style="bold red")
    return agree


def summary(measured: Measured) -> bool:
    """Prints the count of each verdict; returns whether diptych is right everywhere."""
    faultless = True
    for framework, forms in measured.items():
        for form, rows in forms.items():
            counts = Counter(cell.verdict for cases in rows.values() for cell in cases.values())
            found = ", ".join(
                f"{counts[verdict]} {verdict}" for verdict in list(STYLES)[:4] if counts[verdict]
            )
            console.print(f"{framework + ', ' + form:>22}: {found}")
            if form == "diptych":
                faultless &= not counts["WRONG"] and not counts["raises"]
    return faultless


def markdown(measured: Measured) -> str:
    """Returns the tables in Markdown: one row a transform, one column a way to write the rule."""
    lines = []
    for framework, forms in measured.items():
        lines += [
            f"| {framework} | " + " | ".join(forms) + " |",
            "| --- |" + " --- |" * len(forms),
        ]
        for row in next(iter(forms.values())):
            cells = [_in_one_cell(forms[form][row]) for form in forms]
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines).rstrip()


def _in_one_cell(cells: dict[str, Any]) -> str:
    by_verdict: dict[str, list[str]] = {}
    measured = {case: cell for case, cell in cells.items() if cell.measured}
    for case, cell in measured.items():
        by_verdict.setdefault(cell.verdict, []).append(case)
    parts = []
    for verdict in ("WRONG", "raises", "right", "none"):
        if names := by_verdict.get(verdict):
            word = f"**{verdict}**" if verdict == "WRONG" else verdict
            parts.append(word if len(names) == len(measured) else f"{word}: {', '.join(names)}")
    return "; ".join(parts)

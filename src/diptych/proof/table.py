"""A report as text: the table claim by framework, the notes, and the findings under it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from diptych.proof.outcome import Finding, Outcome

if TYPE_CHECKING:
    from diptych.proof.report import Report

_STYLES = {"pass": "green", "broken": "bold red", "skipped": "dim", "reported": "cyan"}
_WORDS = {"broken": "BROKEN"}
_CELL = 26
LEGEND = "worst error/allowed error, as shares of the derivative's own size; time"


class Row(NamedTuple):
    """One line of the table.

    Args:
        claim: its name.
        cells: one outcome for each framework, `None` where the claim was not tested there.
        joint: whether the one outcome is about all frameworks together.
    """

    claim: str
    cells: list[Outcome | None]
    joint: bool


class Shown(NamedTuple):
    """A finding, and the frameworks on which it was made."""

    finding: Finding
    frameworks: list[str]


def frameworks_of(outcomes: Iterable[Outcome]) -> list[str]:
    """Returns the frameworks of which these outcomes speak, each once."""
    return list(dict.fromkeys(o.framework for o in outcomes if " and " not in o.framework))


def rows_of(outcomes: Sequence[Outcome]) -> list[Row]:
    """Returns the lines of the table: claims in order, frameworks side by side."""
    frameworks = frameworks_of(outcomes)
    rows: list[Row] = []
    for claim in dict.fromkeys(o.claim for o in outcomes):
        mine = [o for o in outcomes if o.claim == claim]
        rows += [Row(claim, [o], True) for o in mine if o.framework not in frameworks]
        columns = [[o for o in mine if o.framework == name] for name in frameworks]
        for k in range(max(map(len, columns), default=0)):
            rows.append(Row(claim, [c[k] if k < len(c) else None for c in columns], False))
    return rows


def merged(findings: Iterable[Finding]) -> list[Shown]:
    """Returns findings with those that say the same of several frameworks as one."""
    found: dict[Any, Shown] = {}
    for finding in findings:
        key = finding.claim, finding.argument, finding.cause, finding.neighbour
        same = found.get(key)
        if same is None or finding.framework in same.frameworks:
            found[key if same is None else (key, len(found))] = Shown(finding, [finding.framework])
        else:
            same.frameworks.append(finding.framework)
    return list(found.values())


def notes_of(outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """Returns what is noted of claims that have a verdict: of which, and the text."""
    frameworks = frameworks_of(outcomes)
    said: dict[str, dict[str, list[str]]] = {}
    for o in outcomes:
        if o.note and o.status in ("pass", "broken"):
            said.setdefault(o.note, {}).setdefault(o.claim, []).append(o.framework)
    notes = []
    for text, claims in said.items():
        parts = []
        for claim, where in claims.items():
            everywhere = len(frameworks) < 2 or set(where) >= set(frameworks)
            parts.append(claim if everywhere else f"{claim} on {' and '.join(where)}")
        notes.append((", ".join(parts), text))
    return notes


def number(x: float | None) -> str:
    """Returns a size to one digit; nothing for `None`."""
    return "" if x is None else f"{x:.1g}"


def duration(seconds: float) -> str:
    """Returns a time as milliseconds or seconds, whichever reads better."""
    return f"{1000 * seconds:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


def title_of(report: Report) -> str:
    """Returns what was checked, and whether its derivative is meant to differ."""
    if not report.intentional:
        return f"diptych.check of {report.name}"
    why = report.intentional if isinstance(report.intentional, str) else "it is intentional"
    return f"diptych.check of {report.name}, not compared with the true derivative: {why}"


def verdict_of(report: Report) -> str:
    """Returns the outcome of all in one line."""
    tested = [o for o in report.outcomes if o.status in ("pass", "broken")]
    skipped = sum(o.status == "skipped" for o in report.outcomes)
    broken = sum(o.status == "broken" for o in tested)
    if report.ok:
        said = f"ok: {_count(len(tested), 'claim')} tested, nothing is wrong"
    elif report.findings:
        count = _count(len(merged(report.findings)), "finding")
        said = f"broken: {broken} of {_count(len(tested), 'claim')} tested, {count}"
    else:
        said = "not ok: nothing could be tested"
    more = f", {skipped} skipped" if skipped else ""
    return f"{said}{more}; {duration(report.seconds)}, seed {report.seed}"


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'s' * (n != 1)}"


def parts_of(report: Report) -> list[Any]:
    """Returns what rich prints of a report: the table, the notes, the findings, the verdict."""
    from rich.padding import Padding
    from rich.text import Text

    parts: list[Any] = [Text(title_of(report), style="bold")]
    if report.outcomes:
        parts += [_table(report.outcomes), Padding(Text(LEGEND, style="dim"), (0, 0, 0, 1))]
    for claims, text in notes_of(report.outcomes):
        parts.append(Padding(Text(f"{claims}: {text}", style="dim"), (0, 0, 0, 1)))
    shown = merged(report.findings)
    for k, (finding, frameworks) in enumerate(shown, 1):
        head = Text(f"{k}. {finding.claim} on {' and '.join(frameworks)}", style="bold red")
        if finding.argument:
            head.append(f", '{finding.argument}'")
        head.append(f": {finding.cause}")
        parts += ["", head, Padding(Text(finding.message), (0, 0, 0, 3))]
    parts += [""] if shown else []
    parts.append(Text(verdict_of(report), style="bold green" if report.ok else "bold red"))
    return parts


def _table(outcomes: Sequence[Outcome]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("claim", no_wrap=True)
    for name in frameworks_of(outcomes) or ["result"]:
        table.add_column(name, min_width=_CELL)
    for row in rows_of(outcomes):
        cells = [_cell(o) for o in row.cells]
        if row.joint and len(table.columns) > 2:
            cells += [Text("(both)", style="dim")] * (len(table.columns) - 2)
        table.add_row(Text(row.claim), *cells)
    return table


def _cell(outcome: Outcome | None) -> Any:
    from rich.text import Text

    if outcome is None:
        return Text("")
    word = _WORDS.get(outcome.status, outcome.status)
    text = Text()
    text.append(f"{word:<8}", style=_STYLES.get(outcome.status, ""))
    if outcome.status == "skipped":
        return Text(f"skipped: {outcome.note}" if outcome.note else "skipped", style="dim")
    if outcome.status == "reported" and outcome.error is None:
        return Text(f"{outcome.note or 'reported'}", style=_STYLES["reported"])
    sizes = ""
    if outcome.error is not None:
        allowed = number(outcome.threshold)
        sizes = number(outcome.error) + (f"/{allowed}" if allowed else "")
    text.append(f"{sizes:>11} {duration(outcome.seconds):>6}")
    return text


def render(report: Report, *, width: int, color: bool = False) -> str:
    """Returns a report as text, colours included where they are wanted."""
    from rich.console import Console

    target = io.StringIO()
    console = Console(
        file=target,
        width=width,
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
        legacy_windows=False,
    )
    for part in parts_of(report):
        console.print(part)
    return "\n".join(line.rstrip() for line in target.getvalue().splitlines())

"""Many reports as one: what `diptych check` prints, writes and exits with."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from diptych.errors import DiptychError
from diptych.proof.check import _frameworks, check
from diptych.proof.discover import Found, runs_on, said
from diptych.proof.report import SCHEMA, Report
from diptych.proof.table import duration, frameworks_of, merged, parts_of
from diptych.rule import Rule

OK, BROKEN, UNCHECKED = 0, 1, 2


class Failure(NamedTuple):
    """Something that could not be checked.

    Args:
        target: what.
        text: why.
    """

    target: str
    text: str


@dataclass
class Summary:
    """All that one command checked.

    Args:
        target: what was asked for.
        reports: those that there are, each with the name of what it is about.
        failures: what could not be checked.
        without: the rules that carry no example.
    """

    target: str
    reports: list[tuple[str, Report]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    without: list[str] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The exit status: 1 if a derivative is broken, else 2 if something is unchecked."""
        if any(report.findings for _, report in self.reports):
            return BROKEN
        untested = any(not report.ok for _, report in self.reports)
        return UNCHECKED if untested or self.failures or not self.reports else OK

    def record(self) -> dict[str, Any]:
        """Returns all of it as JSON has it.

        Keys: `schema`, `target`, `ok`, `status` (the exit status), `reports` (each as
        `Report.record` gives it, with `target` beside), `errors` (each with `target` and
        `message`) and `without_examples`.
        """
        return {
            "schema": SCHEMA,
            "target": self.target,
            "ok": self.status == OK,
            "status": self.status,
            "reports": [{"target": name, **report.record()} for name, report in self.reports],
            "errors": [{"target": f.target, "message": f.text} for f in self.failures],
            "without_examples": self.without,
        }

    def to_html(self, path: Path) -> None:
        """Writes all reports as one self-contained page."""
        from diptych.proof.html import document

        path.parent.mkdir(parents=True, exist_ok=True)
        title = f"diptych check {self.target}"
        path.write_text(document([r for _, r in self.reports], title), encoding="utf-8")

    def parts(self) -> list[Any]:
        """Returns what rich prints: the one report, or a table of them and what is wrong."""
        from rich.padding import Padding
        from rich.text import Text

        if len(self.reports) == 1 and not self.without:
            return parts_of(self.reports[0][1])
        if not self.reports:
            return []
        parts: list[Any] = [_table(self.reports)]
        for name, report in self.reports:
            for finding, frameworks in merged(report.findings):
                where = f", '{finding.argument}'" if finding.argument else ""
                on = " and ".join(frameworks)
                head = f"{name}: {finding.claim} on {on}{where}: {finding.cause}"
                parts += ["", Text(head, style="bold red")]
                parts.append(Padding(Text(finding.message), (0, 0, 0, 3)))
        broken = sum(bool(report.findings) for _, report in self.reports)
        count = len(self.without)
        carry = "rule carries" if count == 1 else "rules carry"
        bare = f", {count} {carry} no example" if count else ""
        failed = f", {len(self.failures)} could not be checked" if self.failures else ""
        seconds = duration(sum(report.seconds for _, report in self.reports))
        text = f"{len(self.reports)} checked, {broken} broken{failed}{bare}; {seconds}"
        style = {OK: "bold green", BROKEN: "bold red", UNCHECKED: "bold yellow"}[self.status]
        return [*parts, *([""] if broken else []), Text(text, style=style)]


def _table(reports: Sequence[tuple[str, Report]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    names = list(dict.fromkeys(n for _, r in reports for n in frameworks_of(r.outcomes)))
    table = Table()
    table.add_column("rule", overflow="fold", ratio=1)
    for name in names:
        table.add_column(name, no_wrap=True)
    table.add_column("claims", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for name, report in reports:
        tested = sum(o.status in ("pass", "broken") for o in report.outcomes)
        cells = [_verdict(report, framework) for framework in names]
        table.add_row(Text(name), *cells, str(tested), duration(report.seconds))
    return table


def _verdict(report: Report, framework: str) -> Any:
    from rich.text import Text

    mine = [o for o in report.outcomes if framework in o.framework.split(" and ")]
    if any(o.status == "broken" for o in mine):
        return Text("BROKEN", style="bold red")
    if any(o.status == "pass" for o in mine):
        return Text("pass", style="green")
    return Text("skipped" if mine else "", style="dim")


def check_all(
    work: Sequence[Found],
    options: dict[str, Any],
    summary: Summary,
    *,
    debug: bool = False,
    quiet: bool = False,
) -> None:
    """Checks functions at their examples, one after the other, and adds what came of it.

    Args:
        work: the functions.
        options: those of `diptych.check`.
        summary: what reports and failures are added to.
        debug: whether to print tracebacks.
        quiet: whether to show no progress.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    calls = [
        (found.name + (f" [{k}]" if len(found.examples) > 1 else ""), found.function, example)
        for found in work
        for k, example in enumerate(found.examples)
    ]
    hidden = quiet or len(calls) < 2 or not console.is_terminal
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=hidden
    ) as progress:
        task = progress.add_task("", total=len(calls))
        for name, function, args in calls:
            progress.update(task, description=name, refresh=True)
            try:
                summary.reports.append((name, _checked(function, args, options)))
            except DiptychError as error:
                summary.failures.append(Failure(name, str(error)))
            except Exception as error:
                if debug:
                    traceback.print_exc(file=sys.stderr)
                summary.failures.append(Failure(name, said(error)))
            progress.advance(task)


def _checked(f: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Report:
    """Returns the report; a function that runs on one framework only is checked on that one."""
    wanted = options["frameworks"]
    if wanted is None and not isinstance(f, Rule):
        names = _frameworks(f, args, None)
        wanted = runs_on(f, args, names) if len(names) > 1 else None
    return check(f, *args, **{**options, "frameworks": wanted})

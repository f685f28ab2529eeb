"""How far a build is: a bar on a terminal, a line for each finished page elsewhere."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from diptych.learn.build import Outcome


class Progress:
    """Shows the events of a build."""

    def __init__(self, console: Console):
        self.console = console
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("fences"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("starting", total=None)
        self.page = ""

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def watch(self, outcome: Outcome, event: dict[str, Any]) -> None:
        """Takes note of an event."""
        kind, page = event["event"], event.get("page", self.page)
        if kind in ("begin", "done") and self.page and (page != self.page or kind == "done"):
            number, seconds = outcome.fences[self.page], outcome.seconds[self.page]
            self.console.print(f"{self.page:40} {number:3} fences {seconds:7.1f} s")
        if kind == "begin":
            self.page = page
            self.bar.update(self.task, total=outcome.total, description=page)
        elif kind == "fence":
            self.bar.update(self.task, completed=outcome.ran)
        elif kind == "done":
            self.bar.update(self.task, description="done", completed=outcome.total)

"""Builds the tutorial: `python -m diptych.learn.build [mkdocs.yml]`.

Strict: it fails if a fence raises or is not run, if a Python fence does not declare `exec`, if a
page of the navigation is missing, on any warning, and if the site loads anything from another host.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diptych.learn import notebooks
from diptych.learn import site as checks
from diptych.learn.pages import Site, fences

# One thread and one device: measured pages are alike on all machines, and so are the numbers.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "agg",
    "JAX_PLATFORMS": "cpu",
    "PYTHONHASHSEED": "0",
}

COLUMNS = "84"  # what a page has room for: reports are that wide
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Outcome:
    """What a build did: fences run by page, their seconds, and what is wrong."""

    expected: dict[str, int]
    fences: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    done: bool = False

    @property
    def total(self) -> int:
        """How many fences the sources have."""
        return sum(self.expected.values())

    @property
    def ran(self) -> int:
        """How many were executed."""
        return sum(self.fences.values())

    def take(self, event: dict[str, Any]) -> None:
        """Takes in an event of the runner."""
        page, kind = event.get("page", ""), event["event"]
        if kind == "fence":
            self.fences[page] = self.fences.get(page, 0) + 1
            self.seconds[page] = self.seconds.get(page, 0.0) + event["seconds"]
            stem = Path(page).stem
            if event["session"] != stem:
                self.problems.append(f'{page}, fence {event["number"]}: session="{stem}" is due')
            if event["error"] is not None and not event["follows"]:  # the first on a page says it
                self.problems.append(f"{page}, fence {event['number']} raised\n{event['error']}")
        elif kind == "warning":
            self.problems.append(f"{event['where'] or 'the build'} warns: {event['text']}")
        elif kind == "done":
            self.done = True
            if event["error"] is not None:
                self.problems.append(f"the build ended with {event['error']}")

    def close(self, site: Site) -> None:
        """Looks at what was built."""
        if not self.done:
            self.problems.append("the build ended before its end; did a fence end the process?")
        for page, expected in self.expected.items():
            if (ran := self.fences.get(page, 0)) != expected:
                self.problems.append(f"{page} has {expected} fences to run, and {ran} ran")
        self.problems += checks.problems(site)


def build(site: Site, watch: Callable[[Outcome, dict[str, Any]], None] | None = None) -> Outcome:
    """Builds a site and returns what happened; `watch` is told each event as it happens."""
    expected = {page: sum(f.runs for f in fences(site.text(page))) for page in site.pages}
    outcome = Outcome({page: number for page, number in expected.items() if number})
    outcome.problems += checks.undeclared(site)
    shutil.rmtree(site.built, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="diptych-learn-") as folder:
        events, log = Path(folder, "events.jsonl"), Path(folder, "log.txt")
        events.touch()
        with log.open("w", encoding="utf-8") as out:
            child = subprocess.Popen(
                [sys.executable, "-m", "diptych.learn.runner", str(site.config), str(events)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=site.config.parent,
                env={**ENVIRONMENT, **os.environ, "NO_COLOR": "1", "COLUMNS": COLUMNS},
            )
        try:
            for event in _follow(events, child):
                outcome.take(event)
                if watch is not None:
                    watch(outcome, event)
        finally:
            child.kill()
            child.wait()
        notebooks.write(site)
        outcome.close(site)
        said = ANSI.sub("", log.read_text("utf-8", errors="replace")).strip()
        if outcome.problems and said:
            outcome.problems.append(f"the builder said\n{said}")
    return outcome


def _follow(events: Path, child: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """Yields what the runner writes down, until it ends."""
    with events.open(encoding="utf-8") as stream:
        rest = ""
        while True:
            ended = child.poll() is not None
            rest += stream.read()
            *lines, rest = rest.split("\n")
            yield from map(json.loads, lines)
            if ended:
                return
            time.sleep(0.05)


def main() -> int:
    """Builds the site, says what happened, and returns the exit status."""
    from rich.console import Console

    from diptych.learn.progress import Progress

    parser = argparse.ArgumentParser(prog="python -m diptych.learn.build", description=__doc__)
    parser.add_argument("config", nargs="?", default="mkdocs.yml", type=Path)
    args = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    begun = time.perf_counter()
    site = Site.read(args.config)
    with Progress(console) as progress:
        outcome = build(site, progress.watch)
    for problem in outcome.problems:
        console.print(f"problem: {problem}", markup=False)
    console.print(
        f"{outcome.ran} fences ran, of {outcome.total} in the sources, on {len(outcome.fences)}"
        f" pages; {len(site.nav)} pages in the navigation; {time.perf_counter() - begun:.0f} s"
    )
    if outcome.problems:
        console.print(f"FAILED: {len(outcome.problems)} problems")
        return 1
    console.print(f"built {site.built}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Builds the site in this process, runs its fences, and writes down what happened.

`python -m diptych.learn.runner mkdocs.yml events.jsonl`, started by `diptych.learn.build`.

Zensical ends with 0 where a fence raises. So markdown-exec is given a formatter that notes what
became of each fence. The fences run in the main thread, one at a time, as they do in a notebook:
measured times are not disturbed by another page, and code may use signals and deep recursion.
"""

from __future__ import annotations

import json
import linecache
import logging
import queue
import sys
import threading
import time
import traceback
import types
import warnings
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import markdown_exec
import zensical
from zensical.extensions.context import ContextPreprocessor

# Whose complaints are about the pages. What a framework logs is its own affair.
TOOLS = ("griffe", "markdown", "mkdocs", "zensical")


class Job(NamedTuple):
    """A fence to run, and where its output is awaited."""

    page: str
    session: str
    code: str
    output: queue.SimpleQueue[str | None]


class Runner:
    """Runs fences and keeps a record, one JSON object a line."""

    def __init__(self, events: Path):
        self.events = events.open("a", encoding="utf-8")
        self.jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.modules: dict[str, types.ModuleType] = {}
        self.counts: dict[str, int] = {}
        self.place = ""
        self.failed: set[str] = set()

    def note(self, event: str, **what: Any) -> None:
        """Appends to the record."""
        print(json.dumps({"event": event, **what}), file=self.events, flush=True)

    def format(self, *, code: str, md: Any, session: str = "", **options: Any) -> str:
        """Stands in for markdown-exec's formatter of Python fences."""
        page = ContextPreprocessor.from_markdown(md)
        path = page.page.path if page is not None else ""

        output: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.jobs.put(Job(path, session, code, output))
        text = output.get()

        def run(*_: Any, **__: Any) -> str:
            if text is None:
                raise markdown_exec.ExecutionError("This block failed.")
            return text

        if options.get("source") and text is not None and not text.strip():
            options |= {"source": "above", "result": ""}  # no empty box under it
        return markdown_exec.base_format(
            language="python", run=run, code=code, md=md, session=session, **options
        )

    def run(self, job: Job) -> str | None:
        """Returns what a fence printed, or None where it raised."""
        number = self.counts[job.page] = self.counts.get(job.page, 0) + 1
        self.place = f"{job.page}, fence {number}"
        key = job.session or self.place
        if key not in self.modules:
            # Found where it says it is: dataclasses, pickle and torch.compile look there.
            name = "page_" + "".join(c if c.isalnum() else "_" for c in key)
            self.modules[key] = sys.modules[name] = types.ModuleType(name)
        names = vars(self.modules[key])
        buffer = StringIO()
        names["print"] = partial(_print, buffer)
        filename = f"<{self.place}>"
        linecache.cache[filename] = (
            len(job.code),
            None,
            job.code.splitlines(keepends=True),
            filename,
        )
        begun, error = time.perf_counter(), None
        self.note("begin", page=job.page, number=number)
        try:
            exec(compile(job.code, filename, "exec"), names)
        except BaseException as raised:  # SystemExit would end the build, and say all is well
            kept = raised.with_traceback(raised.__traceback__ and raised.__traceback__.tb_next)
            error = "".join(traceback.format_exception(kept))
        self.note(
            "fence",
            page=job.page,
            number=number,
            session=job.session,
            seconds=time.perf_counter() - begun,
            error=error,
            follows=key in self.failed,
        )
        if error is not None:
            self.failed.add(key)
            return None
        return buffer.getvalue()

    def warn(self, message: Any, category: type, filename: str, lineno: int, *_: Any) -> None:
        """Stands in for `warnings.showwarning`."""
        where = f"{filename}:{lineno}"
        self.note("warning", where=self.place, text=f"{category.__name__}: {message} ({where})")


class _Handler(logging.Handler):
    def __init__(self, runner: Runner):
        super().__init__(logging.WARNING)
        self.runner = runner

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.name}: {record.getMessage()}"
        if "markdown_exec" in record.name:
            return  # a fence failed, of which more is known here
        name = record.name.removeprefix("mkdocs.plugins.")
        if name.replace("-", "_").startswith(TOOLS):
            self.runner.note("warning", where="", text=text)
        else:
            print(text, file=sys.stderr)


def _print(buffer: StringIO, *values: Any, file: Any = None, **options: Any) -> None:
    print(*values, file=buffer if file is None else file, **options)


def main(config: str, events: str) -> None:
    """Builds the site of a configuration."""
    runner = Runner(Path(events))
    logging.getLogger().addHandler(_Handler(runner))
    warnings.showwarning = runner.warn
    markdown_exec.formatters["python"] = runner.format  # type: ignore[assignment]
    errors: list[str] = []

    def build() -> None:
        try:
            # All fences run at each build: nothing is taken from a cache.
            zensical.build(config, {"clean": True, "strict": True})
        except BaseException as raised:
            errors.append(f"{type(raised).__name__}: {raised}")
        finally:
            runner.jobs.put(None)

    threading.Thread(target=build, daemon=True).start()
    while (job := runner.jobs.get()) is not None:
        job.output.put(runner.run(job))
    runner.note("done", error=errors[0] if errors else None)


if __name__ == "__main__":
    main(*sys.argv[1:])

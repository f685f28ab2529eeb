"""The pytest plugin: the fixture `check_derivatives`, and pages with `--diptych-html`.

Reports that xdist's workers make are gathered by the process that started them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from diptych.proof.report import Report

_SENT = "diptych_pages"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--diptych-html`."""
    group = parser.getgroup("diptych", "proof of derivatives")
    group.addoption(
        "--diptych-html",
        metavar="PATH",
        help="write what check_derivatives found: one page if PATH ends in .html, else a folder "
        "with a page for each check and an index",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Starts gathering pages if they are wanted."""
    path = config.getoption("--diptych-html", default=None)
    if path:
        config.pluginmanager.register(_Pages(config, Path(path)), "diptych-pages")


@pytest.fixture
def check_derivatives(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """Returns `diptych.check`, failing the test where it finds something.

    The arguments are those of `diptych.check`; the report is returned. What is wrong is the
    failure's text, without a traceback.

    Examples:
        ```python
        def test_my_rule(check_derivatives):
            check_derivatives(my_rule, np.array([1.0, 2.0]), order=2)
        ```
    """
    pages = request.config.pluginmanager.get_plugin("diptych-pages")

    def check_derivatives(f: Any, *args: Any, **options: Any) -> Report:
        __tracebackhide__ = True  # where the check itself raises, the test's own line is shown
        from diptych.proof.check import check

        report = check(f, *args, **options)
        if pages is not None:
            pages.add(report, request.node.nodeid)
        if not report.ok:
            pytest.fail(str(report), pytrace=False)
        return report

    return check_derivatives


class _Pages:
    """Gathers reports, and writes their pages when all tests have run.

    Args:
        config: pytest's.
        path: the page, or the folder.
    """

    def __init__(self, config: pytest.Config, path: Path):
        self.config = config
        self.path = path
        # Of each report: which test, what was checked, whether it is ok, the verdict, its section.
        self.found: list[tuple[str, str, bool, str, str]] = []

    def add(self, report: Report, node: str) -> None:
        """Keeps what a page shows of a report; the arrays themselves are let go."""
        from diptych.proof.html import section
        from diptych.proof.table import verdict_of

        self.found.append(
            (node, report.name, report.ok, verdict_of(report), section(report, _HOLE))
        )

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: Any) -> None:
        """Takes over what a worker of xdist gathered."""
        self.found += [tuple(item) for item in getattr(node, "workeroutput", {}).get(_SENT, ())]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Writes the pages, or sends them to the process that does."""
        sent = getattr(self.config, "workeroutput", None)
        if sent is not None:
            sent[_SENT] = [list(item) for item in self.found]
            return
        self.found.sort(key=lambda item: item[0])
        if self.path.suffix in (".html", ".htm"):
            self._write_one(self.path)
        else:
            self._write_folder(self.path)

    def _write_one(self, path: Path) -> None:
        from diptych.proof.html import assemble

        contents = [(f"{node}: {name}", ok, said) for node, name, ok, said, _ in self.found]
        sections = [item[-1].replace(_HOLE, f"r{k}") for k, item in enumerate(self.found)]
        title = contents[0][0] if len(contents) == 1 else "Derivatives checked"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(assemble(sections, contents, title), encoding="utf-8")

    def _write_folder(self, folder: Path) -> None:
        from diptych.proof.html import assemble, index

        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        taken: set[str] = {"index.html"}
        for node, name, ok, said, section in self.found:
            file = _file_name(node, taken)
            contents = [(name, ok, said)]
            text = assemble([section.replace(_HOLE, "r0")], contents, f"{node}: {name}")
            (folder / file).write_text(text, encoding="utf-8")
            rows.append((file, f"{node}: {name}", ok, said))
        (folder / "index.html").write_text(index(rows, "Derivatives checked"), encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Says where the pages are."""
        where = self.path / "index.html" if self.path.is_dir() else self.path
        terminalreporter.write_line(f"diptych: checked {len(self.found)} times, see {where}")


# What stands for a section's id until its place on a page is known; no name contains it.
_HOLE = "diptych-section-id"


def _file_name(node: str, taken: set[str]) -> str:
    """Returns a file's name for a test, one that is not taken yet."""
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", node).strip("-.")[-120:] or "test"
    name, count = f"{stem}.html", 1
    while name.lower() in taken:  # some file systems know no case
        count += 1
        name = f"{stem}-{count}.html"
    taken.add(name.lower())
    return name

"""The tutorial's sources: which pages there are, and the fences on them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OPENING = re.compile(r"^(?P<indent>[ \t]*)(?P<ticks>`{3,}|~{3,})[ ]*(?P<info>[^`\n]*)$")
# What Pygments, and so a reader, takes for Python.
PYTHON = frozenset({"python", "python3", "py", "py3", "pycon", "ipython", "pyodide"})
# What ends or shapes a page's Markdown is no concern of `exec`; these values switch it off.
OFF = frozenset({"", "no", "off", "false", "0"})


@dataclass(frozen=True)
class Fence:
    """A fenced block: its language and options, its code without the indentation."""

    line: int  # of its opening, from 1
    end: int  # of its closing, from 1
    indent: str
    language: str
    options: dict[str, str]
    code: str

    @property
    def python(self) -> bool:
        """Whether a reader sees Python."""
        return self.language in PYTHON

    @property
    def runs(self) -> bool:
        """Whether the build executes it."""
        return self.language == "python" and self.options.get("exec", "").lower() not in OFF


def fences(text: str) -> Iterator[Fence]:
    """Yields the fences of a page in order; what stands within a fence is none."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        opening = OPENING.match(lines[at])
        if opening is None:
            at += 1
            continue
        indent, ticks = opening["indent"], opening["ticks"]
        closing = re.compile(rf"^{re.escape(indent)}{re.escape(ticks[0])}{{{len(ticks)},}}\s*$")
        end = next((n for n in range(at + 1, len(lines)) if closing.match(lines[n])), len(lines))
        body = [line.removeprefix(indent) for line in lines[at + 1 : end]]
        language, options = _info(opening["info"])
        yield Fence(at + 1, end + 1, indent, language, options, "\n".join(body) + "\n")
        at = end + 1


def _info(text: str) -> tuple[str, dict[str, str]]:
    """Returns the language and the options of an opening line."""
    try:
        words = shlex.split(text)
    except ValueError:  # an open quote: the words as they stand
        words = text.split()
    if not words:
        return "", {}
    pairs = (word.partition("=") for word in words[1:])
    options = {name: value for name, _, value in pairs}
    return words[0].lstrip("{.").rstrip("}"), options


@dataclass(frozen=True)
class Site:
    """The configuration of the site, as far as it is asked for here."""

    config: Path
    settings: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, config: Path) -> Site:
        """Reads mkdocs.yml."""
        import yaml

        return cls(config.resolve(), yaml.safe_load(config.read_text("utf-8")))

    @property
    def docs(self) -> Path:
        """Where the pages' sources are."""
        return self.config.parent / self.settings.get("docs_dir", "docs")

    @property
    def built(self) -> Path:
        """Where the site is built."""
        return self.config.parent / self.settings.get("site_dir", "site")

    @property
    def nav(self) -> list[str]:
        """The pages of the navigation, in order, as paths from `docs`."""
        return list(_paths(self.settings.get("nav", [])))

    @property
    def titles(self) -> dict[str, str]:
        """The title in the navigation of each page."""
        return {path: title for title, path in _entries(self.settings.get("nav", []))}

    @property
    def pages(self) -> list[str]:
        """All pages: those of the navigation in its order, then the others."""
        found = sorted(p.relative_to(self.docs).as_posix() for p in self.docs.rglob("*.md"))
        nav = [path for path in self.nav if path in found]
        return nav + [path for path in found if path not in nav]

    @property
    def tutorial(self) -> list[str]:
        """The pages of the tutorial, in order."""
        return [page for page in self.pages if page.startswith("tutorial/")]

    def text(self, page: str) -> str:
        """Returns a page's source."""
        return (self.docs / page).read_text("utf-8")

    def html(self, page: str) -> Path:
        """Returns where a page is in the built site."""
        if not self.settings.get("use_directory_urls", True):
            return self.built / Path(page).with_suffix(".html")
        stem = Path(page).with_suffix("")
        return self.built / (stem.parent if stem.name == "index" else stem) / "index.html"


def _entries(nav: Any, title: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(nav, str):
        yield title, nav
    elif isinstance(nav, dict):
        for name, below in nav.items():
            yield from _entries(below, name)
    else:
        for entry in nav:
            yield from _entries(entry, title)


def _paths(nav: Any) -> Iterator[str]:
    return (path for _, path in _entries(nav))


def summary(text: str) -> str:
    """Returns what a page teaches, on one line: the points of its abstract."""
    lines = iter(text.splitlines())
    points: list[str] = []
    for line in lines:
        if line.startswith("!!! abstract"):
            break
    for line in lines:
        if line.strip() and not line.startswith("    "):
            break
        said = line.strip()
        if said.startswith(("- ", "* ")):
            points.append(said[2:])
        elif said and points:
            points[-1] += f" {said}"
    points = [point[:1].lower() + point[1:].rstrip(".;,") for point in points]
    text = "; ".join(points)
    return (text[:1].upper() + text[1:]).replace("|", r"\|")

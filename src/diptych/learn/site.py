"""What must hold for a built site: its pages are there, and it loads nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from diptych.learn.pages import Site

# The attributes that a browser loads something for, without being asked.
LOADS = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src", "srcset"),
    "input": ("src",),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "track": ("src",),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
# Links that name the page itself, or another, for a search engine: nothing is loaded.
NAMES = {"canonical", "prev", "next", "alternate", "author", "license", "edit"}
ELSEWHERE = re.compile(r"^\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
CSS = re.compile(r"(?:@import\s+|url\(\s*)[\"']?\s*((?:https?:)?//[^\"')\s]+)", re.IGNORECASE)


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.found += CSS.findall(values.get("style", ""))
        if tag == "link" and NAMES & set(values.get("rel", "").split()):
            return
        for name in LOADS.get(tag, ()):
            parts = values.get(name, "").split(",") if name == "srcset" else [values.get(name, "")]
            self.found += [part for part in parts if ELSEWHERE.match(part)]

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "style":
            self.found += CSS.findall(data)


def outside(text: str, kind: str) -> list[str]:
    """Returns the addresses on other hosts that a page (.html) or a style (.css) loads."""
    if kind == ".css":
        return CSS.findall(text)
    parser = _Loads()
    parser.feed(text)
    parser.close()
    return parser.found


def problems(site: Site) -> Iterator[str]:
    """Yields what is wrong with a built site."""
    for page in site.nav:
        if not site.html(page).is_file():
            yield f"{page} is in the navigation, but was not built"
    for path in sorted(site.built.rglob("*")):
        if path.suffix in {".html", ".css"}:
            for address in outside(path.read_text("utf-8"), path.suffix):
                yield f"{path.relative_to(site.built).as_posix()} loads {address}"


def undeclared(site: Site) -> Iterator[str]:
    """Yields the Python fences of the sources that would never run."""
    from diptych.learn.pages import fences

    for page in site.pages:
        for fence in fences(site.text(page)):
            if fence.python and not fence.runs:
                yield f'{page}:{fence.line} is a Python fence that does not say exec="on"'

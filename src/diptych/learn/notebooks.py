"""Makes a notebook of a page: its prose and its programs, in order, without the site.

Tabs become labelled parts, admonitions block quotes with their title, formulas stay as they are,
and an interactive figure becomes a link to the page.
"""

from __future__ import annotations

import posixpath
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from diptych.learn.pages import Site, fences

if TYPE_CHECKING:
    from nbformat import NotebookNode

CONTAINER = re.compile(
    r'^(?P<mark>!!!|\?\?\?\+?|===[!+]*) *(?P<kind>[\w -]*?) *(?:"(?P<title>[^"]*)")? *$'
)
FIGURE = re.compile(r'<div class="dt-figure".*?</div>', re.DOTALL)
LINK = re.compile(r"(?<=\]\()(?P<target>[^)\s]+)(?=[)\s])")
ATTRIBUTES = re.compile(r"\{ *[.#:][^}\n]*\}")
SETUP = "# Shows a picture where it is printed.\nfrom diptych.learn.notebook import print"


class Part(NamedTuple):
    """A run of prose or a program."""

    kind: str  # markdown or code
    text: str


def parts(text: str) -> Iterator[Part]:
    """Yields the prose and the programs of a page, in order."""
    lines = text.splitlines()
    opening = {fence.line - 1: fence for fence in fences(text)}
    prose: list[str] = []
    at = 0
    while at < len(lines):
        fence, container = opening.get(at), CONTAINER.match(lines[at])
        if fence is not None:
            if fence.runs:
                yield from _prose(prose)
                yield Part("code", fence.code.strip("\n"))
            elif ".dt-said" not in lines[at]:  # what was printed before is under the program
                prose += lines[at : fence.end]
            at = fence.end
        elif container is not None:
            yield from _prose(prose)
            end = _end(lines, at + 1)
            inner = textwrap.dedent("\n".join(lines[at + 1 : end]))
            yield from _contained(container, inner)
            at = end
        else:
            prose.append(lines[at])
            at += 1
    yield from _prose(prose)


def _prose(lines: list[str]) -> Iterator[Part]:
    """Yields what was collected, if it says anything, and begins anew."""
    text = "\n".join(lines).strip("\n")
    lines.clear()
    if text.strip():
        yield Part("markdown", text)


def _end(lines: list[str], at: int) -> int:
    """Returns the line after a container's content, which is indented by four."""
    end = at
    while at < len(lines) and (not lines[at].strip() or lines[at].startswith("    ")):
        at += 1
        if lines[at - 1].strip():
            end = at
    return end


def _contained(container: re.Match[str], inner: str) -> Iterator[Part]:
    tab = container["mark"].startswith("===")
    title = container["title"] or container["kind"].capitalize()
    if tab:
        yield Part("markdown", f"**{title}**")
        yield from parts(inner)
        return
    first = f"> **{title}**"
    for part in parts(inner):
        if part.kind == "code":
            if first:
                yield Part("markdown", first)
            yield part
        else:
            quoted = textwrap.indent(part.text, "> ", lambda _: True).replace("> \n", ">\n")
            yield Part("markdown", f"{first}\n>\n{quoted}" if first else quoted)
        first = ""
    if first:
        yield Part("markdown", first)


def _adapt(text: str, site: Site, page: str) -> str:
    """Returns prose with its links and figures made to work beside the site."""
    html = site.html(page).relative_to(site.built).as_posix()
    text = FIGURE.sub(f"*[The interactive figure](../{html}) is on the page.*", text)

    def link(found: re.Match[str]) -> str:
        target, _, anchor = found["target"].partition("#")
        if ":" in target or target.startswith("/") or not (anchor or Path(target).suffix):
            return found["target"]  # of another host; or no link, in a formula
        path = posixpath.normpath(
            posixpath.join(posixpath.dirname(page), target or Path(page).name)
        )
        if path.endswith(".md"):
            path = site.html(path).relative_to(site.built).as_posix()
        return f"../{path}" + (f"#{anchor}" if anchor else "")

    pieces = re.split(r"(^```.*?^```$|`[^`\n]*`)", text, flags=re.DOTALL | re.MULTILINE)
    pieces[::2] = [ATTRIBUTES.sub("", LINK.sub(link, piece)) for piece in pieces[::2]]
    return "".join(pieces)


def notebook(site: Site, page: str) -> NotebookNode:
    """Returns the notebook of a page."""
    from nbformat import v4

    html = site.html(page).relative_to(site.built).as_posix()
    cells: list[Any] = []

    def add(kind: str, text: str) -> None:
        new = v4.new_code_cell if kind == "code" else v4.new_markdown_cell
        cells.append(new(text, id=f"cell-{len(cells)}"))

    prose: list[str] = [f"*The programs of [this page](../{html}) of diptych's tutorial.*"]
    pending = [Part("code", SETUP), *parts(site.text(page))]
    for part in pending:
        if part.kind == "markdown":
            prose.append(_adapt(part.text, site, page))
            continue
        if prose:
            add("markdown", "\n\n".join(prose))
            prose = []
        add("code", part.text)
    if prose:
        add("markdown", "\n\n".join(prose))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return v4.new_notebook(
        cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
    )


def write(site: Site) -> list[Path]:
    """Writes a notebook of each of the tutorial's pages into the built site; returns the paths."""
    import nbformat

    folder = site.built / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for page in site.tutorial:
        path = folder / f"{Path(page).stem}.ipynb"
        made = notebook(site, page)
        nbformat.validate(made)
        path.write_text(nbformat.writes(made) + "\n", "utf-8")
        written.append(path)
    return written

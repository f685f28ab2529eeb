"""`diptych learn`: the tutorial in the browser, from a checkout or built where it is installed."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import webbrowser
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

import diptych

HOST, PORT = "127.0.0.1", 8000
PACKAGE = Path(__file__).parent
# What building takes: the programs on the pages run, in both frameworks.
NEEDED = {
    "torch": "torch",
    "jax": "jax",
    "markdown_exec": "learn",
    "matplotlib": "learn",
    "mkdocstrings": "learn",
    "nbformat": "learn",
    "scipy": "learn",
    "sklearn": "learn",
    "zensical": "learn",
}


class Place(NamedTuple):
    """Where the tutorial's sources are, and where it is built."""

    sources: Path
    folder: Path

    @property
    def config(self) -> Path:
        """The configuration that is built."""
        return self.folder / "mkdocs.yml"

    @property
    def built(self) -> Path:
        """The built site."""
        return self.folder / "site"


def cache() -> Path:
    """Returns the user's folder for what can be made again."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "diptych"


def place(package: Path = PACKAGE) -> Place:
    """Returns where the tutorial is: in the checkout, or else in the user's cache."""
    checkout = package.parents[2]
    if (checkout / "mkdocs.yml").is_file() and (checkout / "docs" / "index.md").is_file():
        return Place(checkout, checkout)
    sources = package / "tutorial"
    digest = hashlib.sha256(diptych.__version__.encode())
    for path in sorted(sources.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(sources).as_posix().encode() + path.read_bytes())
    return Place(sources, cache() / f"tutorial-{digest.hexdigest()[:16]}")


def missing() -> list[str]:
    """Returns the extras without which the tutorial cannot be built here."""
    extras = [extra for module, extra in NEEDED.items() if find_spec(module) is None]
    return list(dict.fromkeys(extras))


def make(where: Place, console: Console) -> bool:
    """Builds the tutorial; returns whether there is something to show."""
    from diptych.learn.build import build
    from diptych.learn.pages import Site
    from diptych.learn.progress import Progress

    if where.folder != where.sources:
        shutil.rmtree(where.folder, ignore_errors=True)
        shutil.copytree(where.sources, where.folder, ignore=shutil.ignore_patterns("__pycache__"))
    console.print("building the tutorial: every program on its pages runs (minutes, once)")
    site = Site.read(where.config)
    with Progress(console) as progress:
        outcome = build(site, progress.watch)
    for problem in outcome.problems:
        console.print(f"problem: {problem}", markup=False)
    shown = (where.built / "index.html").is_file()
    if outcome.problems and shown:
        console.print("The pages show what was built so far. --rebuild tries again.")
    return shown


class _Handler(SimpleHTTPRequestHandler):
    # Some systems' tables call a module plain text, and a browser then refuses it.
    extensions_map = {  # noqa: RUF012
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".ipynb": "application/x-ipynb+json",
        ".woff2": "font/woff2",
    }

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def server(folder: Path, port: int | None) -> ThreadingHTTPServer:
    """Returns a server of a folder on loopback; without a port, 8000 or any that is free."""
    handler = partial(_Handler, directory=str(folder))
    if port is not None:
        return ThreadingHTTPServer((HOST, port), handler)
    try:
        return ThreadingHTTPServer((HOST, PORT), handler)
    except OSError:
        return ThreadingHTTPServer((HOST, 0), handler)


def learn(browser: bool, port: int | None, rebuild: bool) -> int:
    """Shows the tutorial until it is interrupted; returns the exit status."""
    console = Console(highlight=False, soft_wrap=True)
    where = place()
    if rebuild or not (where.built / "index.html").is_file():
        if extras := missing():
            names = ",".join(extras)
            console.print(
                "The tutorial is built here, which runs its programs; something that they need is"
                f' not installed.\n  mend: pip install "diptych[{names}]"',
                markup=False,
            )
            return 2
        if not make(where, console):
            return 2
    try:
        serving = server(where.built, port)
    except OSError as error:
        console.print(
            f"port {port} cannot be used: {error.strerror}\n  mend: choose another --port"
        )
        return 2
    with serving:
        address = f"http://{HOST}:{serving.server_address[1]}/"
        console.print(f"the tutorial is at {address}  (Ctrl-C ends it)")
        if browser:
            webbrowser.open(address)
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            console.print("")
    return 0

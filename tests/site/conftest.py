"""The built site on a loopback server, and a browser to look at it with."""

from __future__ import annotations

import contextlib
import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from looking import SITE, Window

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def base() -> Iterator[str]:
    """The address of the site."""
    if not SITE.built.joinpath("index.html").is_file():
        pytest.skip("site/ is not built: run `make docs`")
    handler = functools.partial(Handler, directory=str(SITE.built))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, as the system has it."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"there is no browser: {', '.join(BROWSERS)}")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def window(base, browser) -> Iterator[Any]:
    """Opens windows: `window(scheme=..., width=...)`."""
    with contextlib.ExitStack() as stack:

        def make(scheme: str = "light", width: int = 1280, **options: Any) -> Window:
            context = browser.new_context(
                color_scheme=scheme, viewport={"width": width, "height": 900}, **options
            )
            stack.callback(context.close)
            made = Window(context.new_page(), base)

            def said(message: Any) -> None:
                if message.type in ("error", "warning"):
                    made.errors.append(message.text)

            def asked(request: Any) -> None:
                if not request.url.startswith((base, "data:", "blob:")):
                    made.elsewhere.append(request.url)

            made.page.on("console", said)
            made.page.on("pageerror", lambda error: made.errors.append(str(error)))
            made.page.on("request", asked)
            return made

        yield make

"""What the tests of the site look with: windows, keys, and numbers as the figures write them."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from diptych.learn.pages import Site

ROOT = Path(__file__).parents[2]
SITE = Site.read(ROOT / "mkdocs.yml")
# Git ignores the folder; look at the pictures after a change.
SCREENSHOTS = ROOT / "build" / "site-screenshots"
FRAMEWORKS = [name for name in ("torch", "jax") if importlib.util.find_spec(name) is not None]


@dataclass
class Window:
    """A page in the browser, with what it said and asked for."""

    page: Any
    base: str
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def open(self, path: str) -> Any:
        """Opens a page of the navigation, given by its source."""
        self.page.goto(self.base + address(path))
        self.settle()
        return self.page

    def settle(self) -> None:
        """Waits until figures are drawn and formulas typeset."""
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_function(
            "[...document.querySelectorAll('.dt-figure')].every(f => f.dataset.mounted === 'yes')"
        )

    def figure(self, name: str) -> Any:
        """Opens a page that has the figure, a bare one where no page has it yet."""
        having = [page for page in SITE.nav if f'data-figure="{name}"' in SITE.text(page)]
        if having:
            self.open(having[0])
        else:
            bare = (
                "<!doctype html><html lang=en><title>Figure</title>"
                "<link rel=icon href=data:,><link rel=stylesheet href=assets/figures/figures.css>"
                f'<main><div class=dt-figure data-figure="{name}"></div></main>'
                "<script type=module src=assets/figures/main.js></script></html>"
            )
            answer = {"body": bare, "content_type": "text/html"}
            self.page.route("**/bare.html", lambda route: route.fulfill(**answer))
            self.page.goto(self.base + "bare.html")
            self.settle()
        return self.page.locator(f'.dt-figure[data-figure="{name}"]')

    def clean(self) -> None:
        """Nothing was said on the console, nothing was asked of another host."""
        assert self.errors == []
        assert self.elsewhere == []


def address(path: str) -> str:
    """Where the page of a source is, from the site's root."""
    return SITE.html(path).relative_to(SITE.built).as_posix()


def press(control: Any, key: str, times: int = 1) -> None:
    """Presses a key on a control, as somebody does who has no mouse."""
    control.focus()
    for _ in range(times):
        control.press(key)


def slide(figure: Any, name: str, value: float) -> None:
    """Moves a slider to a value with the arrow keys."""
    control = figure.locator(f'input[type=range][name="{name}"]')
    step, now = float(control.get_attribute("step")), float(control.input_value())
    steps = round((value - now) / step)
    press(control, "ArrowRight" if steps > 0 else "ArrowLeft", abs(steps))
    assert float(control.input_value()) == pytest.approx(value)


def choose(figure: Any, name: str, value: str) -> None:
    """Goes through a radio group with the arrow keys until the value is chosen."""
    group = figure.locator(f'fieldset[data-name="{name}"]')
    for _ in range(group.locator("input").count()):
        chosen = group.locator("input:checked")
        if chosen.get_attribute("value") == value:
            return
        press(chosen, "ArrowRight")
    assert group.locator("input:checked").get_attribute("value") == value


def pick(figure: Any, name: str, value: str) -> None:
    """Goes through a list with the arrow keys until the value is chosen."""
    control = figure.locator(f'select[name="{name}"]')
    press(control, "Home")
    for _ in range(control.locator("option").count()):
        if control.input_value() == value:
            return
        press(control, "ArrowDown")
    assert control.input_value() == value


def read(figure: Any, name: str) -> list[float]:
    """The numbers behind what the figure says, in full."""
    text = figure.locator(f'[data-name="{name}"]').get_attribute("data-value")
    return [float(number) for number in (text or "").split()]


def said(text: str) -> float:
    """A number as the figures write it: a true minus sign, powers of ten in superscripts."""
    text = text.replace("−", "-")  # noqa: RUF001
    powers = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    found = re.fullmatch(r"(-?[\d.]+)(?: × 10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?", text.strip())  # noqa: RUF001
    assert found is not None, text
    return float(found[1]) * 10.0 ** int((found[2] or "⁰").translate(powers))

"""Plots as inline SVG: drawn in CSS variables, so that they follow the reader's colour scheme.

Series differ by dash and marker as well as by colour. Each plot has a title and a description for
screen readers, and the page lists its numbers beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

WIDTH, HEIGHT = 380, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 44
_FLOOR = 1e-17
MINUS = "\u2212"


class Series(NamedTuple):
    """One line or cloud of points.

    Args:
        label: what the legend calls it.
        style: the CSS class that colours it: "rule", "other", "reference" or "wrong".
        marker: "circle", "square", "cross" or "none".
        points: pairs of numbers.
        line: whether the points are joined.
    """

    label: str
    style: str
    marker: str
    points: list[tuple[float, float]]
    line: bool = True


class Scale(NamedTuple):
    """An axis: where numbers go, and which of them are written.

    Args:
        at: a number to its place, from 0 to 1.
        ticks: the numbers that are written, with their text.
        label: what the axis shows.
        ends: the least and the greatest number on it.
    """

    at: Callable[[float], float]
    ticks: list[tuple[float, str]]
    label: str
    ends: tuple[float, float]


def logarithmic(values: Sequence[float], label: str) -> Scale:
    """Returns an axis in powers of ten that holds these values; zero is at its lower end."""
    exponents = [math.log10(max(v, _FLOOR)) for v in values if math.isfinite(v)] or [0.0]
    low, high = math.floor(min(exponents)), math.ceil(max(exponents))
    high = max(high, low + 1)
    step = max(1, -(-(high - low) // 6))
    ticks = [(10.0**k, power(k)) for k in range(low, high + 1) if (k - low) % step == 0]

    def at(v: float) -> float:
        return (math.log10(max(v, _FLOOR)) - low) / (high - low)

    return Scale(at, ticks, label, (10.0**low, 10.0**high))


def linear(values: Sequence[float], label: str) -> Scale:
    """Returns an axis with round numbers on it that holds these values."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        pad = 0.5 * abs(low) or 1.0
        low, high = low - pad, high + pad
    room = 0.05 * (high - low)
    low, high = low - room, high + room
    raw = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= raw * 0.999)
    first = math.ceil(low / step)
    numbers = [k * step for k in range(first, math.floor(high / step) + 1)]
    ticks = [(v, short(v)) for v in numbers]
    return Scale(lambda v: (v - low) / (high - low), ticks, label, (low, high))


def signed(values: Sequence[float], label: str) -> Scale:
    """Returns an axis for values of both signs: linear, or in powers of ten where they need it."""
    sizes = sorted(abs(v) for v in values if v)
    if not sizes or sizes[-1] < 200 * sizes[len(sizes) // 4]:
        return linear(values, label)
    unit = max(sizes[0], sizes[-1] * 1e-8)
    low, high = min(*values, 0.0), max(*values, 0.0)

    def fold(v: float) -> float:
        return math.copysign(math.log10(1 + abs(v) / unit), v)

    start, span = fold(low), (fold(high) - fold(low)) or 1.0
    top = math.floor(math.log10(sizes[-1]))
    bottom = math.ceil(math.log10(unit))
    step = max(1, -(-(top - bottom) // 2))
    numbers = [0.0] + [s * 10.0**k for k in range(top, bottom - 1, -step) for s in (1, -1)]
    ticks = [(v, _signed_power(v)) for v in numbers if low <= v <= high]
    return Scale(lambda v: 0.04 + 0.92 * (fold(v) - start) / span, ticks, label, (low, high))


def _signed_power(v: float) -> str:
    if not v:
        return "0"
    return (MINUS if v < 0 else "") + power(round(math.log10(abs(v))))


def power(k: int) -> str:
    """Returns ten to the `k`, as it is written."""
    if k in (0, 1):
        return str(10**k)
    digits = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return "10" + str(k).translate(digits)


def short(v: float) -> str:
    """Returns a number in few characters."""
    return f"{v:.3g}".replace("e+0", "e").replace("e-0", "e-").replace("-", MINUS)


def chart(
    name: str,
    title: str,
    description: str,
    x: Scale,
    y: Scale,
    series: Sequence[Series],
    *,
    diagonal: bool = False,
) -> str:
    """Returns a plot of lines or points as one `<svg>` element.

    Args:
        name: an id that no other plot on the page has.
        title: what a screen reader says first.
        description: what it says then.
        x: the horizontal axis.
        y: the vertical one.
        series: what is drawn, the first lowest.
        diagonal: whether to draw where y is x; the axes are then alike.
    """
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = _LEFT + x.at(point[0]) * (right - _LEFT)
        return across, bottom - min(max(y.at(point[1]), -0.02), 1.02) * (bottom - _TOP)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{name}-t {name}-d">',
        f'<title id="{name}-t">{escape(title)}</title>',
        f'<desc id="{name}-d">{escape(description)}</desc>',
    ]
    for v, text in y.ticks:
        down = bottom - y.at(v) * (bottom - _TOP)
        parts.append(f'<path class="grid" d="M{_LEFT} {down:.1f}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{down + 4:.1f}" class="end">{text}</text>')
    for v, text in x.ticks:
        across = _LEFT + x.at(v) * (right - _LEFT)
        parts.append(f'<path class="grid" d="M{across:.1f} {_TOP}V{bottom}"/>')
        parts.append(f'<text x="{across:.1f}" y="{bottom + 16}" class="mid">{text}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>')
    middle = (_LEFT + right) / 2
    parts.append(
        f'<text x="{middle:.0f}" y="{HEIGHT - 8}" class="mid name">{escape(x.label)}</text>'
    )
    parts.append(
        f'<text transform="translate(13 {(_TOP + bottom) / 2:.0f}) rotate(-90)" '
        f'class="mid name">{escape(y.label)}</text>'
    )
    if diagonal:
        ends = [place((v, v)) for v in x.ends]
        parts.append(f'<path class="diagonal" d="{_path(ends)}"/>')
    for s in series:
        places = [place(point) for point in s.points]
        if s.line and len(places) > 1:
            parts.append(f'<path class="line {s.style}" d="{_path(places)}"/>')
        parts += [
            _marked(s, where, f"{short(a)}, {short(b)}")
            for where, (a, b) in zip(places, s.points, strict=True)
        ]
    parts.append("</svg>")
    return "".join(parts)


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in places)


def _marked(s: Series, where: tuple[float, float], text: str) -> str:
    tip = f"<title>{escape(s.label)}: {text}</title>"
    a, b = where
    if s.marker == "circle":
        return f'<circle class="dot {s.style}" cx="{a:.1f}" cy="{b:.1f}" r="3">{tip}</circle>'
    if s.marker == "square":
        box = f'x="{a - 3:.1f}" y="{b - 3:.1f}" width="6" height="6"'
        return f'<rect class="dot hollow {s.style}" {box}>{tip}</rect>'
    if s.marker == "cross":
        d = f"M{a - 4:.1f} {b - 4:.1f}l8 8m0 -8l-8 8"
        return f'<path class="mark {s.style}" d="{d}">{tip}</path>'
    return ""


def legend(series: Sequence[Series]) -> str:
    """Returns the legend of a plot: a list, each item with the line and marker it explains."""
    items = []
    for s in series:
        line = f'<path class="line {s.style}" d="M1 7H31"/>' if s.line else ""
        mark = _marked(s, (16, 7), "").replace("<title>", "<title hidden>")
        mark = mark[: mark.index("<title")] + mark[mark.index("</title>") + 8 :] if mark else ""
        items.append(
            f'<li><svg viewBox="0 0 32 14" width="32" height="14" aria-hidden="true">{line}{mark}'
            f"</svg>{escape(s.label)}</li>"
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def bars(name: str, title: str, rows: Sequence[tuple[str, str, float, str]]) -> str:
    """Returns horizontal bars as one `<svg>` element.

    Args:
        name: an id that no other plot on the page has.
        title: what a screen reader says.
        rows: the label, the style, the length and the text of each bar.
    """
    left, right, tall = 132, 64, 20
    longest = max((length for _, _, length, _ in rows), default=0.0) or 1.0
    height = tall * len(rows) + 6
    said = "; ".join(f"{label}: {text}" for label, _, _, text in rows)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{name}-t {name}-d">',
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(said)}</desc>',
    ]
    for k, (label, style, length, text) in enumerate(rows):
        top = 3 + k * tall
        wide = max(1.0, (WIDTH - left - right) * length / longest)
        parts.append(f'<text x="{left - 6}" y="{top + 14}" class="end">{escape(label)}</text>')
        parts.append(
            f'<rect class="bar {style}" x="{left}" y="{top + 3}" width="{wide:.1f}" height="14"/>'
        )
        parts.append(f'<text x="{left + wide + 5:.1f}" y="{top + 14}">{escape(text)}</text>')
    return "".join(parts) + "</svg>"


def numbers(caption: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a plot's numbers as a table that opens on demand."""
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_text(v))}</td>" for v in row) + "</tr>" for row in rows
    )
    return (
        f"<details><summary>{escape(caption)}</summary>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
    )


def _text(v: Any) -> str:
    return f"{v:.6g}" if isinstance(v, float) else str(v)

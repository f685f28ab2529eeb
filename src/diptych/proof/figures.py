"""The figures of a report: the V of differences, the rule beside the reference, and cost."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from diptych.proof import plots
from diptych.proof.outcome import Outcome
from diptych.proof.plots import Series
from diptych.proof.table import duration

_DIRECTIONS = {
    "jvp": ("forward (JVP)", "rule", "circle"),
    "vjp": ("reverse (VJP)", "other", "square"),
}
_NUMBERS = "the numbers"
_WORDS = {"primal": "the value", "vjp": "VJP", "jvp": "JVP"}
_MEMORY = {"input_output_bytes": "inputs, outputs", "residual_bytes": "residuals"}


def figures_of(outcomes: Sequence[Outcome], prefix: str) -> Iterator[str]:
    """Returns the figures that these outcomes have data for, as HTML.

    Args:
        outcomes: those of one report.
        prefix: what the ids of the figures begin with.
    """
    frameworks = list(dict.fromkeys(o.framework for o in outcomes))
    for framework in frameworks:
        mine = [o for o in outcomes if o.framework == framework]
        curves = {o.claim: o.data["curve"] for o in mine if o.data.get("curve")}
        if curves and any(y for c in curves.values() for y in (*c["rule"], *c["reference"])):
            yield _steps(curves, framework, _id(prefix, framework, "steps"))
        for o in mine:
            for k, pair in enumerate(o.data.get("pairs", ())):
                name = _id(prefix, framework, o.claim, k)
                yield _pairs(pair, o, _reference_of(o), name)
    yield from _cost(outcomes, prefix)


def _id(*parts: Any) -> str:
    return re.sub(r"[^\w-]", "-", "-".join(map(str, parts)))


def _reference_of(outcome: Outcome) -> str:
    return outcome.data.get("curve", {}).get("reference_name") or "the reference"


def _figure(title: str, legend: str, svg: str, caption: str, more: str) -> str:
    return (
        f"<figure><h4>{escape(title)}</h4>{legend}{svg}"
        f"<figcaption>{escape(caption)}</figcaption>{more}</figure>"
    )


def _steps(curves: dict[str, Any], framework: str, name: str) -> str:
    """Returns the errors of differences by step: a V where all is right, a floor where not."""
    some = next(iter(curves.values()))
    series = [
        Series(
            some["reference_name"], "reference", "none", _finite(some["steps"], some["reference"])
        )
    ]
    said = []
    for claim, (label, style, marker) in _DIRECTIONS.items():
        if claim not in curves:
            continue
        points = _finite(curves[claim]["steps"], curves[claim]["rule"])
        series.append(Series(f"the derivative, {label}", style, marker, points))
        said.append(_read(points, label))
    if some["reference_name"] == "differences":
        series[0] = series[0]._replace(label="extrapolated differences")
    everything = [y for s in series for _, y in s.points]
    x = plots.logarithmic(some["steps"], "step, as a share of each entry")
    y = plots.logarithmic(everything, "distance from differences")
    title = f"Differences against step size, {framework}"
    caption = " ".join(said)
    svg = plots.chart(name, title, caption, x, y, series)
    rows = [[step, *(dict(s.points).get(step, "") for s in series)] for step in some["steps"]]
    table = plots.numbers(_NUMBERS, ["step", *(s.label for s in series)], rows)
    return _figure(title, plots.legend(series), svg, caption, table)


def _read(points: Sequence[tuple[float, float]], label: str) -> str:
    """Returns what a curve shows, in a sentence."""
    if not points:
        return f"{_sentence(label)}: no finite difference."
    errors = [y for _, y in points]
    least = min(errors)
    near = plots.short(least)
    if least > 1e-3:
        return (
            f"{_sentence(label)} stays {near} away however small the step: "
            "the derivative is another one, or there is a kink."
        )
    if least > 1e-6:
        return f"{_sentence(label)} comes no nearer than {near}."
    if errors[-1] <= max(1e-12, 10 * least):
        return f"{_sentence(label)} agrees at the longest step: no truncation, only rounding."
    return (
        f"{_sentence(label)} comes within {near}: truncation shrinks with the step, "
        "until rounding grows."
    )


def _sentence(label: str) -> str:
    return label[0].upper() + label[1:]


def _finite(xs: Sequence[Any], ys: Sequence[Any]) -> list[tuple[float, float]]:
    return [
        (float(x), float(y))
        for x, y in zip(xs, ys, strict=True)
        if math.isfinite(x) and math.isfinite(y)
    ]


def _pairs(pair: dict[str, Any], outcome: Outcome, reference: str, name: str) -> str:
    """Returns the entries of one derivative against the reference's."""
    points = list(zip(pair["expected"], pair["measured"], pair["wrong"], strict=True))
    drawn = [p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])]
    right = [(e, m) for e, m, wrong in drawn if not wrong]
    off = [(e, m) for e, m, wrong in drawn if wrong]
    series = [Series("right", "rule", "circle", right, False)] if right else []
    if off:
        series.append(Series("wrong", "wrong", "cross", off, False))
    values = [v for e, m, _ in drawn for v in (e, m)]
    what = "cotangent" if outcome.claim == "vjp" else "tangent"
    x = plots.signed(values, reference)
    y = plots.signed(values, f"the {what}")
    title = f"{_sentence(what)} of {pair['name']}, {outcome.framework}"
    shown, entries = len(points), pair["entries"]
    count = f"{shown} of {entries} entries" if shown < entries else _entries(shown)
    bad = sum(wrong for _, _, wrong in points)
    caption = f"{count} shown, {bad or 'none'} of them wrong."
    if len(drawn) < len(points):
        caption += f" Not finite, so not drawn: {_entries(shown - len(drawn))}."
    caption += " Right entries lie on the diagonal."
    svg = plots.chart(name, title, caption, x, y, series, diagonal=True)
    rows = [[m, e, "wrong" if wrong else "right"] for e, m, wrong in points]
    table = plots.numbers(_NUMBERS, [f"the {what}", reference, "verdict"], rows)
    return _figure(title, plots.legend(series), svg, caption, table)


def _entries(n: int) -> str:
    return f"{n} entr{'y' if n == 1 else 'ies'}"


def _cost(outcomes: Sequence[Outcome], prefix: str) -> Iterator[str]:
    """Returns what the derivative costs, where that was measured, and what the check took."""
    for o in outcomes:
        for key, title, write in _MEASURED:
            amounts = _amounts(o.data.get(key))
            if o.claim == "cost" and any(amounts.values()):
                rows = [(_WORDS.get(k, k), "rule", v, write(v)) for k, v in amounts.items()]
                name = _id(prefix, "cost", o.framework, key)
                svg = plots.bars(name, f"{title}, {o.framework}", rows)
                yield _figure(f"{title}, {o.framework}", "", svg, o.note, "")
        if o.claim == "memory":
            rows = [(word, "rule", float(o.data[key]), _bytes(o.data[key]))
                    for key, word in _MEMORY.items() if key in o.data]  # fmt: skip
            if rows:
                title = f"Memory, {o.framework}"
                svg = plots.bars(_id(prefix, "memory", o.framework), title, rows)
                yield _figure(title, "", svg, o.note, "")
    for framework in dict.fromkeys(o.framework for o in outcomes):
        mine = [o for o in outcomes if o.framework == framework and o.seconds]
        if len(mine) < 2:
            continue
        rows = [
            (o.claim, "wrong" if o.status == "broken" else "rule", o.seconds, duration(o.seconds))
            for o in mine
        ]
        total = duration(sum(o.seconds for o in mine))
        title = f"What the check took, {framework}"
        svg = plots.bars(_id(prefix, "time", framework), title, rows)
        yield _figure(title, "", svg, f"{total} in all, frameworks' own set-up included.", "")


def _amounts(found: Any) -> dict[str, float]:
    """Returns what was measured, by what it was measured of."""
    if not isinstance(found, dict):
        return {}
    return {
        str(k): float(v)
        for k, v in found.items()
        if isinstance(v, (int, float)) and math.isfinite(v)
    }


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} GB"


def _flops(n: float) -> str:
    return f"{n:,.0f}" if n < 1e6 else f"{n:.3g}"


def _time(seconds: float) -> str:
    return f"{1e6 * seconds:.3g} µs" if seconds < 1e-3 else f"{1e3 * seconds:.3g} ms"


_MEASURED = (("seconds", "Time of one call", _time), ("flops", "FLOPs of one call", _flops))

"""A report as one page: it loads nothing, and follows the reader's colours and width."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any

from diptych.proof.causes import CAUSES
from diptych.proof.figures import figures_of
from diptych.proof.outcome import Outcome
from diptych.proof.plain import plain
from diptych.proof.report import Report
from diptych.proof.table import (
    LEGEND,
    duration,
    frameworks_of,
    merged,
    notes_of,
    number,
    rows_of,
    verdict_of,
)  # fmt: skip

_SIGNS = {"pass": "✓", "broken": "✗", "skipped": "·", "reported": "i"}


def page(report: Report) -> str:
    """Returns a report as one self-contained HTML page."""
    return document([report], f"diptych.check of {report.name}")


def document(reports: Sequence[Report], title: str) -> str:
    """Returns several reports as one self-contained HTML page.

    Args:
        reports: what it shows.
        title: its heading, where there is more than one report, and the window's title.
    """
    return assemble([section(r, f"r{k}") for k, r in enumerate(reports)], entries(reports), title)


def entries(reports: Sequence[Report]) -> list[tuple[str, bool, str]]:
    """Returns the table of contents: the name, whether it is ok, and the verdict in words."""
    return [(report.name, report.ok, verdict_of(report)) for report in reports]


def assemble(sections: Sequence[str], contents: Sequence[tuple[str, bool, str]], title: str) -> str:
    """Returns a page of sections, with a table of contents where there are several.

    Args:
        sections: what `section` returned, with the names "r0", "r1" and so on.
        contents: what `entries` returned for them.
        title: its heading.
    """
    if len(sections) == 1:
        return _whole(f'<h1 class="unseen">{escape(title)}</h1>{sections[0]}', title)
    rows = [(f"#r{k}", *row) for k, row in enumerate(contents)]
    return _whole(_contents(rows, title) + "".join(sections), title)


def index(rows: Sequence[tuple[str, str, bool, str]], title: str) -> str:
    """Returns a page of links.

    Args:
        rows: of each page its address, its name, whether it is ok, and the verdict in words.
        title: the heading.
    """
    return _whole(_contents(rows, title), title)


def _contents(rows: Sequence[tuple[str, str, bool, str]], title: str) -> str:
    items = "".join(
        f'<li><a href="{escape(address)}">{escape(name)}</a> '
        f'<span class="{"pass" if ok else "broken"}">{escape(said)}</span></li>'
        for address, name, ok, said in rows
    )
    listed = f'<nav aria-label="Reports"><ul>{items}</ul></nav>' if items else "<p>None.</p>"
    return f"<header><h1>{escape(title)}</h1></header>{listed}"


def _whole(body: str, title: str) -> str:
    style = resources.files("diptych.proof").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{style}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def section(report: Report, name: str) -> str:
    """Returns one report as a part of a page.

    Args:
        report: what it shows.
        name: its id on the page.
    """
    why = ""
    if report.intentional:
        reason = report.intentional if isinstance(report.intentional, str) else "intentional"
        why = f"<p>Not compared with the true derivative: {escape(reason)}.</p>"
    parts = [
        f'<article id="{name}" aria-labelledby="{name}-h">',
        f'<h2 id="{name}-h"><code>{escape(report.name)}</code> {_badge(report.ok)}</h2>',
        f'<p class="verdict">{escape(verdict_of(report))}</p>{why}',
    ]
    if report.findings:
        parts += [f"<h3>What is wrong</h3>{_findings(report)}"]
    if report.outcomes:
        parts += ["<h3>What was tested</h3>", _table(report.outcomes)]
    for outcome in report.outcomes:
        outcome.complete()
    figures = "".join(figures_of(report.outcomes, name))
    if figures:
        parts.append(f'<h3>Plots</h3><div class="figures">{figures}</div>')
    return "".join(parts) + "</article>"


def _badge(ok: bool) -> str:
    return f'<span class="badge {"pass" if ok else "broken"}">{"✓ ok" if ok else "✗ not ok"}</span>'


def _table(outcomes: Sequence[Outcome]) -> str:
    frameworks = frameworks_of(outcomes) or ["result"]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ["claim", *frameworks])
    rows = []
    for row in rows_of(outcomes):
        span = f' colspan="{len(frameworks)}"' if row.joint else ""
        cells = "".join(_cell(o, span) for o in row.cells)
        rows.append(f'<tr><th scope="row">{escape(row.claim)}</th>{cells}</tr>')
    notes = "".join(
        f"<li><b>{escape(claims)}</b>: {escape(text)}</li>" for claims, text in notes_of(outcomes)
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Claims by framework">'
        f'<table class="claims"><caption>{escape(LEGEND)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
    )


def _cell(outcome: Outcome | None, span: str) -> str:
    if outcome is None:
        return f"<td{span}></td>"
    status = outcome.status
    sign = f'<span aria-hidden="true">{_SIGNS.get(status, "")}</span>'
    text = f'<span class="status {status}">{sign} {status}</span>'
    if status in ("skipped", "reported") and outcome.note:
        text += f' <span class="why">{escape(outcome.note)}</span>'
    if outcome.error is not None:
        size = number(outcome.error)
        allowed = number(outcome.threshold)
        size += f"/{allowed}" if allowed else ""
        text += f' <span class="size">{size}</span>'
    if status != "skipped":
        text += f' <span class="time">{duration(outcome.seconds)}</span>'
    return f"<td{span}>{text}</td>"


def _findings(report: Report) -> str:
    items = []
    for finding, frameworks in merged(report.findings):
        where = f" of <code>{escape(finding.argument)}</code>" if finding.argument else ""
        on = escape(" and ".join(frameworks))
        facts = [
            ("measured", finding.measured),
            ("expected", finding.expected),
            ("at index", finding.index),
            ("example varied", finding.neighbour),
        ]
        listed = "".join(
            f"<div><dt>{word}</dt><dd>{escape(_value(value))}</dd></div>"
            for word, value in facts
            if value is not None and not (isinstance(value, tuple) and not value)
        )
        hint = CAUSES.get(finding.cause)
        items.append(
            f'<li class="finding"><h4>{escape(finding.claim)}{where} on {on}: '
            f"<strong>{escape(finding.cause)}</strong></h4><p>{escape(finding.message)}</p>"
            + (f"<dl>{listed}</dl>" if listed else "")
            + (f'<p class="hint">{escape(finding.cause)}: {escape(hint)}.</p>' if hint else "")
            + "</li>"
        )
    return f'<ol class="findings">{"".join(items)}</ol>'


def _value(value: Any) -> str:
    if isinstance(value, (str, tuple)):
        return str(value)
    found = plain(value)
    if isinstance(found, dict):
        return f"{value:.6g}"
    return f"{found:.6g}" if isinstance(found, float) else str(found)

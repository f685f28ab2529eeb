"""The first-order claims at neighbours of the example, and whether derivatives are finite there."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from diptych.proof.claims.first import jvp, vjp
from diptych.proof.claims.trial import Skip, Trial
from diptych.proof.neighbours import Neighbour, neighbours, special_points
from diptych.proof.outcome import Finding, Outcome
from diptych.proof.references import choose
from diptych.proof.subject import Subject


def finite(trial: Trial) -> Outcome:
    """No derivative is NaN or infinite where the reference is finite, at special points."""
    here = [Neighbour("", trial.subject.example)]
    findings: list[Finding] = []
    tried = 0
    for neighbour in (*here, *special_points(trial.subject)):
        other = _trial_at(trial, neighbour)
        if other is None:
            continue
        tried += 1
        found = _not_finite(other)
        if found is not None and not any(f.argument == found.argument for f in findings):
            findings.append(found)
        if time.perf_counter() > trial.deadline:
            break
    return trial.outcome("finite", findings=findings, note=f"{tried} points")


def _not_finite(trial: Trial) -> Finding | None:
    subject = trial.subject
    bars = subject.bars(trial.rng(90))
    pulled = subject.vjp().pull(bars)
    for i, bar in enumerate(pulled):
        if bar is None or not subject.moving[i] or np.all(np.isfinite(bar)):
            continue
        for index in np.argwhere(~np.isfinite(bar))[:3]:
            at = tuple(int(k) for k in index)
            dots = [None if k != i else np.zeros_like(x) for k, x in enumerate(subject.values)]
            x = subject.values[i]
            largest = float(np.max(np.abs(x), initial=0.0)) or 1.0
            dots[i][at] = np.abs(x[at]) or largest  # type: ignore[index]  # it is the one array
            measured = trial.differences.push(dots)
            known = [
                (v, e)
                for v, e, b in zip(measured.values, measured.errors, bars, strict=True)
                if v is not None and b is not None
            ]
            if known and all(np.all(np.isfinite(v) & np.isfinite(e)) for v, e in known):
                message = (
                    f"The cotangent of '{subject.names[i]}' is {bar[at]} at index {at}, where "
                    "differences are finite. Rewrite the formula there: guard both branches of a "
                    "`where`, and divide by nothing that may be zero."
                )
                found = trial.finding("finite", "not finite", message, subject.names[i])
                return replace(found, index=at, measured=bar[at])
    return None


def near(trial: Trial) -> Outcome:
    """JVP and VJP are right at variations of the example as well."""
    if time.perf_counter() > trial.deadline:
        raise Skip("neighbours are off, or the budget is spent")
    known: set[tuple[str, str | None]] = trial.notes.get("known", set())
    findings: list[Finding] = []
    tried = rejected = 0
    reached_end = True
    for neighbour in neighbours(trial.subject):
        if time.perf_counter() > trial.deadline:
            reached_end = False
            break
        other = _trial_at(trial, neighbour)
        if other is None:
            rejected += 1
            continue
        tried += 1
        for finding in _first_order(other):
            key = (finding.claim, finding.argument)
            if key not in known and ("any", finding.argument) not in known:
                known.add(key)
                findings.append(finding)
    note = f"{tried} neighbours, {rejected} rejected by the function"
    if not reached_end:
        note += "; the budget ended the list"
    return trial.outcome("neighbours", findings=findings, note=note)


def _trial_at(trial: Trial, neighbour: Neighbour) -> Trial | None:
    """Returns the trial at a neighbour; `None` where the function has no value there."""
    subject = trial.subject
    there = Subject(subject.target, subject.prober, neighbour.example, subject.seed)
    try:
        with np.errstate(all="ignore"):
            outputs = there.outputs
            body = there.target.body
            if body is not None and not trial.intentional:
                there.value(body)
    except Exception:
        return None
    finite = [np.isfinite(o).any() or not o.size for o in outputs if o.dtype.kind in "fc"]
    if not all(finite):
        return None
    wanted = trial.wanted
    reference, differences = choose(there, wanted)
    return replace(
        trial,
        subject=there,
        reference=reference,
        differences=differences,
        neighbour=neighbour.how or None,
        relative=max(trial.relative or 0.0, 1e-5),
        notes={},
    )


def _first_order(trial: Trial) -> Iterable[Finding]:
    from diptych.proof.check import run

    for name, claim in (("vjp", vjp), ("jvp", jvp)):
        yield from run(name, trial, claim).findings

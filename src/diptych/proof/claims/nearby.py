"""The first-order claims at neighbours of the example, and whether derivatives are finite there."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from diptych.errors import SingularError
from diptych.proof.boundaries import boundaries
from diptych.proof.claims.first import jvp, vjp
from diptych.proof.claims.scaled import scaled
from diptych.proof.claims.scanned import scanned
from diptych.proof.claims.trial import Skip, Trial
from diptych.proof.compare import gap
from diptych.proof.neighbours import neighbours, special_points
from diptych.proof.noise import noise
from diptych.proof.outcome import Finding, Outcome
from diptych.proof.references import choose
from diptych.proof.subject import Neighbour, Subject, zeros_for
from diptych.proof.vectors import split

# About how often a function is evaluated at one neighbour.
_EVALUATIONS = 300
# The share of the budget that goes into the commonest neighbours before branches are looked for.
_BEFORE_BRANCHES = 0.3


def finite(trial: Trial) -> Outcome:
    """No derivative is NaN or infinite where the reference is finite, at special points."""
    here = _not_finite(trial)
    findings = [] if here is None else [here]
    tried = 1
    for neighbour in special_points(trial.subject):
        if time.perf_counter() > trial.deadline:
            break
        other = _trial_at(trial, neighbour)
        if other is None:
            continue
        tried += 1
        try:
            found = _not_finite(other)
            if found is not None and _has_none(other):
                continue
        except SingularError:  # it says itself that it has no derivative there
            continue
        if found is not None and not any(f.argument == found.argument for f in findings):
            findings.append(found)
    return trial.outcome("finite", findings=findings, note=f"{tried} points")


def _not_finite(trial: Trial) -> Finding | None:
    subject = trial.subject
    bars = trial.bars(90)
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
            # At a kink the slopes to the sides are finite, and a derivative has to be as well.
            slope = trial.differences.along(dots)
            if np.all(np.isfinite(slope.value) & np.isfinite(slope.error)):
                message = (
                    f"The cotangent of '{subject.names[i]}' is {bar[at]} at index {at}, where "
                    "differences are finite. Rewrite the formula there: guard both branches of a "
                    "`where`, and divide by nothing that may be zero."
                )
                found = trial.finding("finite", "not finite", message, subject.names[i])
                return replace(found, index=at, measured=bar[at])
    return None


def _has_none(trial: Trial) -> bool:
    """Returns whether there is no derivative here that could be finite.

    The value may jump, as eigenvectors of a matrix of zeros do, of which differences along its axes
    tell nothing. Or slopes to both sides are the same along each line, and do not add up: there is
    no side whose derivative could be taken, as in the QR decomposition of zeros.
    """
    subject, dots = trial.subject, trial.dots(93)
    off: list[float] = []
    for h in (1e-6, 1e-9):  # of a continuous function the second moves it by far less
        moved = [x if d is None else x + h * d for x, d in zip(subject.values, dots, strict=True)]
        try:
            there = subject.value(values=moved)
        except Exception:
            return True
        each = zip(there, subject.outputs, subject.free, strict=True)
        apart = [np.max(np.abs(a - b), initial=0.0) for a, b, free in each if free]
        off.append(float(max(apart, default=0.0)))
    if off[1] > 0.5 * off[0]:
        return True
    whole, one, two = map(trial.differences.along, (dots, *split(trial.rng(94), dots)))
    kink = whole.kink | one.kink | two.kink
    unsure = whole.error + one.error + two.error
    with np.errstate(all="ignore"):
        torn = np.abs(whole.value - one.value - two.value) > unsure + 1e-3 * np.abs(whole.value)
    return bool(np.any(torn & ~kink))


def near(trial: Trial) -> Outcome:
    """JVP and VJP are right at variations of the example as well."""
    if time.perf_counter() > trial.deadline:
        raise Skip("neighbours are off, or the budget is spent")
    trial.refuse_intentional()
    known: set[tuple[str, str | None]] = trial.notes.get("known", set())
    not_finite = any(claim == "finite" for claim, _ in known)
    findings, tried = _contexts(trial)
    rejected = 0
    started = time.perf_counter()
    due = started + _BEFORE_BRANCHES * (trial.deadline - started)
    branches_tried = False
    reached_end = True

    def add(found: Iterable[Finding]) -> None:
        for finding in found:
            key = (finding.claim, finding.argument)
            said = ("finite", finding.argument) in known or (finding.claim == "jvp" and not_finite)
            if finding.cause == "not finite" and said:
                continue  # by the claim `finite`
            if key not in known and ("any", finding.argument) not in known:
                known.add(key)
                findings.append(finding)

    def claims(neighbour: Neighbour) -> list[Finding]:
        nonlocal tried, rejected
        other = _trial_at(trial, neighbour)
        if other is None:
            rejected += 1
            return []
        tried += 1
        return [
            finding
            for finding in _first_order(other)
            if not (finding.cause == "raises" and _nothing_of_an_operator(other))
            and not (finding.cause == "not finite" and _has_none(other))
        ]

    def branches() -> None:
        found, elementwise = scanned(trial)
        add(found)
        add(scaled(trial, elementwise, claims))

    for neighbour in itertools.chain(neighbours(trial.subject), boundaries(trial.subject)):
        # Few evaluations find what a branch hides: it comes in time, whatever else there is to try.
        if not branches_tried and time.perf_counter() > due:
            branches_tried = True
            branches()
        if time.perf_counter() > trial.deadline:
            reached_end = False
            break
        add(claims(neighbour))
    if not branches_tried:
        branches()
    note = f"{tried} neighbours, {rejected} without a value, or too costly"
    if not reached_end:
        note += "; the budget ended the list"
    return trial.outcome("neighbours", findings=findings, note=note)


def _nothing_of_an_operator(trial: Trial) -> bool:
    """Returns whether a framework's own operators differentiate an array without entries.

    Some refuse that, each in its own words, and no user can mend it.
    """
    subject = trial.subject
    return not subject.target.custom and any(not x.size for x in subject.values)


def _contexts(trial: Trial) -> tuple[list[Finding], int]:
    """Compares the cotangents in other settings, and in another thread, with the plain ones."""
    subject = trial.subject
    bars = trial.bars(91)
    plain = zeros_for(subject.vjp().pull(bars), subject)
    findings: list[Finding] = []
    cotangents = lambda point, bars: zeros_for(point.vjp().pull(bars), point)  # noqa: E731
    settings = {**subject.prober.contexts(), "another thread": contextlib.nullcontext}
    for how, context in settings.items():
        other = replace(trial, neighbour=how)
        try:
            with context():
                if how == "another thread":
                    found = _elsewhere(lambda: subject.vjp().pull(bars))
                else:
                    found = subject.vjp().pull(bars)
        except Exception as error:
            if subject.prober.refusal(error) is None:
                first_line = (str(error).strip().splitlines() or [""])[0]
                text = (
                    f"{subject.target.name} raises {type(error).__name__}: {first_line[:200]} Its "
                    "derivative must not depend on settings of the program."
                )
                findings.append(other.finding("neighbours", "raises", text))
            continue
        for i, (a, b) in enumerate(zip(zeros_for(found, subject), plain, strict=True)):
            g = gap(a, b, epsilon=subject.epsilon, relative=1e-8)
            if not g.ok:  # which rounding may be, where all terms cancel
                moved = noise(subject, trial.rng(92), cotangents, bars)[i]
                g = gap(a, b, epsilon=subject.epsilon, relative=1e-8, error=moved)
            if not g.ok and not _value_differs(subject, context):
                text = (
                    f"the cotangent of '{subject.names[i]}' is {g.shown} at index {g.index}, "
                    f"and {g.due} without. It must not depend on settings of the program: "
                    "take dtypes from the arguments, and keep no state per thread."
                )
                findings.append(other.finding("neighbours", "state", text, subject.names[i], g))
                break
    return findings, len(settings)


def _value_differs(subject: Subject, context: Callable[[], Any]) -> bool:
    """Returns whether the value is another one too: then the derivative does right to follow."""
    with context():
        there = subject.value()
    each = zip(there, subject.outputs, strict=True)
    return not all(gap(a, b, epsilon=subject.epsilon, relative=1e-8).ok for a, b in each)


def _elsewhere(f: Callable[[], Any]) -> Any:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(f).result()


def _trial_at(trial: Trial, neighbour: Neighbour) -> Trial | None:
    """Returns the trial at a neighbour; `None` where the function has no value there."""
    subject = trial.subject
    there = Subject(subject.target, subject.prober, neighbour.example, subject.seed)

    def in_time(spent: float) -> bool:
        """Returns whether a neighbour takes a quarter of what is left: others have their turn."""
        return 4 * spent * _EVALUATIONS <= trial.deadline - time.perf_counter()

    try:
        with np.errstate(all="ignore"):
            started = time.perf_counter()
            outputs = there.outputs
            spent = time.perf_counter() - started
            if not in_time(spent):  # the first call may have compiled something
                started = time.perf_counter()
                there.value()
                spent = time.perf_counter() - started
            body = there.target.body
            if body is not None:
                there.value(body)
    except Exception:
        return None
    finite = [np.isfinite(o).any() or not o.size for o in outputs if o.dtype.kind in "fc"]
    if not all(finite) or not in_time(spent):
        return None
    # A body of which AD is not believed at the example may cut the graph, here as well.
    doubted = trial.wanted == "auto" and trial.reference is trial.differences
    reference, differences = choose(there, "differences" if doubted else trial.wanted)
    return replace(
        trial,
        subject=there,
        reference=reference,
        differences=differences,
        neighbour=neighbour.how or None,
        notes={},
    )


def _first_order(trial: Trial) -> Iterable[Finding]:
    from diptych.proof.check import run

    for name, claim in (("vjp", vjp), ("jvp", jvp)):
        yield from run(name, trial, claim).findings

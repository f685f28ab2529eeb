"""`purity`: nothing of the caller's is changed, and nothing is remembered from call to call."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diptych.proof.claims.alike import differs, first_line, plain
from diptych.proof.claims.trial import Trial
from diptych.proof.compare import Gap
from diptych.proof.differences import ByDifferences
from diptych.proof.outcome import Finding, Outcome
from diptych.proof.subject import Subject, zeros_for
from diptych.proof.vectors import inner

CALLS = 30
_MANY = 200  # after so many, by other claims too, a third of the calls will do
_SECONDS = 0.3  # after which no more calls are made, if there were a few
_OTHER_SEED = 17

Found = tuple[list[Gap], list[Finding], list[str]]


def purity(trial: Trial) -> Outcome:
    """Arguments, cotangents and residuals stay as they are; calls do not depend on calls before."""
    gaps: list[Gap] = []
    findings: list[Finding] = []
    notes: list[str] = []
    for part in (_inputs, _aliases, _repeated, _backward, _forward, _interleaved):
        more = part(trial)
        gaps += more[0]
        findings += more[1]
        notes += more[2]
        if part is _repeated and more[1]:
            break  # what differs by itself differs in all that follows
    return trial.outcome("purity", gaps, findings, "; ".join(dict.fromkeys(notes)))


def _inputs(trial: Trial) -> Found:
    """The value leaves its arguments as they are, but for those it declares that it changes."""
    subject = trial.subject
    with subject.session():
        xs = subject.arrays()
        declared = subject.prober.declared(subject.target, subject.function(), xs)
        after = subject.numpy(xs)
    notes = [f"'{subject.names[i]}' is changed in place, as declared" for i in sorted(declared)]
    findings = [
        _changed(trial, f"the argument '{name}'", "the call", name)
        for i, name in enumerate(subject.names)
        if i not in declared and not _same(after[i], subject.values[i])
    ]
    return [], findings, notes


def _aliases(trial: Trial) -> Found:
    """An output that shares memory with an argument is one that the framework knows of."""
    subject = trial.subject
    if not subject.target.custom:
        return [], [], []
    with subject.session():
        shared = subject.prober.aliases(subject.target, subject.function(), subject.arrays())
    findings = []
    for k, i in shared:
        message = (
            f"Output {k} of {subject.target.name} shares the memory of '{subject.names[i]}' "
            "without the framework's knowledge: whoever changes one changes the other, and no "
            "error is raised. Return a copy, or declare it (mark_dirty, or mutates_args)."
        )
        findings.append(trial.finding("purity", "aliases", message, subject.names[i]))
    return [], findings, []


def _repeated(trial: Trial) -> Found:
    """Many calls, at two points in turn, give what the first of each gave."""
    subject = trial.subject
    other = _other(trial)
    reverse = plain(trial).reverse
    # Of the point itself the first of all calls is remembered, by whatever claim it was made.
    pulled = plain(trial).pulled if reverse else [None] * len(subject.values)
    first: dict[int, list[Any]] = {0: [*subject.outputs, *pulled]}
    history: list[list[Any]] = []
    spread = 0.0
    notes: list[str] = []
    started = time.perf_counter()
    for call in range(CALLS):
        for which, point in enumerate((subject, other)):
            # Three calls a round, then two: what comes back every few calls is out of step.
            found = _all(trial, point, reverse, plain_too=which == 0 and call % 2 == 0)
            if which == 0:
                history.append(found)
            due = first.setdefault(which, found)
            if all(map(_same, found, due)):
                continue
            gaps, at, how = differs(trial, found, due)
            spread = max([spread, *(g.error for g in gaps)])
            if at is not None:
                return _remembered(trial, call, at, how, history)
        if time.perf_counter() - started > _SECONDS and call >= 3:
            break
        if call >= CALLS // 3 and subject.calls > _MANY:
            break
    if spread > 0:
        notes.append(f"nondeterministic, by rounding: spread {spread:.0e}")
    return [], [], notes


def _all(trial: Trial, point: Subject, reverse: bool, *, plain_too: bool = True) -> list[Any]:
    """Returns the outputs, of a call without gradients or one with, and the cotangents."""
    outs = point.value() if plain_too or not reverse else None
    if not reverse:
        return [*(outs or []), *[None] * len(point.values)]
    pullback = point.vjp()
    pulled = zeros_for(pullback.pull(plain(trial).bars), point)
    return [*(pullback.outputs if outs is None else outs), *pulled]


def _flat(found: Sequence[Any]) -> np.ndarray:
    return np.concatenate([np.ravel(x) for x in found if x is not None])


def _remembered(trial: Trial, call: int, at: int, how: str, history: Sequence[list[Any]]) -> Found:
    """Returns the finding for a call that gives something else than the same call before."""
    subject = trial.subject
    outputs = len(subject.outputs)
    what = f"output {at}" if at < outputs else f"the cotangent of '{subject.names[at - outputs]}'"
    steps = np.array([np.sum(b - a) for a, b in itertools.pairwise(map(_flat, history))])
    drifts = call > 1 or (len(steps) > 0 and not np.any(steps))
    if not drifts:  # it differs at once: does it wander, or go one way?
        flat = [_flat(_all(trial, subject, False)) for _ in range(6)]
        moved = np.array([np.real(np.sum(b - a)) for a, b in itertools.pairwise(flat)])
        drifts = bool(np.all(moved >= 0) or np.all(moved <= 0))
    if drifts:
        message = (
            f"After {subject.calls} calls {what} of {subject.target.name} {how}, as in the first "
            "call at the same point. It remembers something: a global, a cache or a counter. Keep "
            "what the derivative needs with its own call (ctx, residuals)."
        )
        return [], [trial.finding("purity", "state", message)], []
    message = (
        f"Two evaluations of {subject.target.name} at one point differ: {what} {how}, as in the "
        "first call. If it is random, let it draw from the framework's generator or take one as "
        "an argument; what it computes now cannot be checked or repeated."
    )
    return [], [trial.finding("purity", "nondeterministic", message)], []


def _backward(trial: Trial) -> Found:
    """The VJP changes nothing, and gives the same twice on one graph."""
    subject, here = trial.subject, plain(trial)
    if not here.reverse:
        return [], [], []
    name = subject.target.name
    with subject.session():
        xs, bars = subject.arrays(), subject.arrays(here.bars)
        outs, pull = subject.prober.vjp(subject.function(), xs, subject.moving)
        kept = subject.numpy(outs)
        between = subject.numpy(xs)
    with subject.session():
        once = zeros_for(subject.numpy(pull(bars)), subject)
    findings = []
    for k, bar in enumerate(here.bars):
        if bar is not None and not _same(subject.numpy(bars)[k], bar):
            findings.append(_changed(trial, f"the cotangent of output {k}", "the VJP", None))
    for i, (x, y) in enumerate(zip(subject.numpy(xs), between, strict=True)):
        if not _same(x, y):
            argument = subject.names[i]
            findings.append(_changed(trial, f"the argument '{argument}'", "the VJP", argument))
    for k, (x, y) in enumerate(zip(subject.numpy(outs), kept, strict=True)):
        if not _same(x, y):
            findings.append(_changed(trial, f"output {k}, that the caller has,", "the VJP", None))
    if findings:
        return [], findings, []
    for again, said in ((0, "a second time on one graph"), (_OTHER_SEED, "after other draws")):
        try:
            with subject.prober.session(subject.seed + again):
                twice = zeros_for(subject.numpy(pull(subject.arrays(here.bars))), subject)
        except Exception as error:
            message = (
                f"Taken {said} the VJP of {name} raises {first_line(error)}. It changed or "
                "dropped what it kept: leave residuals as they are."
            )
            return [], [trial.finding("purity", "changed in place", message)], []
        due = [b if moves else None for b, moves in zip(once, subject.moving, strict=True)]
        gaps, at, how = differs(trial, twice, due)
        if at is None:
            continue
        where = subject.names[at]
        worst = gaps[-1] if gaps and not gaps[-1].ok else None
        if again and trial.intentional:
            return gaps[:-1], [], ["the VJP draws random numbers of its own"]
        if again:
            message = (
                f"If other random numbers are drawn between forward and backward, the VJP of "
                f"{name} {how} for '{where}'. It draws its own where it must use those of the "
                "forward pass: keep them as residuals."
            )
            return gaps, [trial.finding("purity", "state", message, where, worst)], []
        message = (
            f"Taken {said} the VJP of {name} {how} for '{where}', as the first time. The first "
            "changed in place what was kept: work on a copy."
        )
        return gaps, [trial.finding("purity", "changed in place", message, where, worst)], []
    return [], [], []


def _forward(trial: Trial) -> Found:
    """The JVP leaves arguments and tangents as they are."""
    subject, here = trial.subject, plain(trial)
    if not here.forward:
        return [], [], []
    with subject.session():
        xs, dots = subject.arrays(), subject.arrays(here.dots)
        declared = subject.prober.declared(subject.target, subject.function(), subject.arrays())
        subject.prober.jvp(subject.function(), xs, dots)
        x_after, dots_after = subject.numpy(xs), subject.numpy(dots)
    findings = []
    for i, name in enumerate(subject.names):
        if i in declared:
            continue
        if not _same(x_after[i], subject.values[i]):
            findings.append(_changed(trial, f"the argument '{name}'", "the JVP", name))
        elif here.dots[i] is not None and not _same(dots_after[i], here.dots[i]):
            findings.append(_changed(trial, f"the tangent of '{name}'", "the JVP", name))
    return [], findings, []


def _interleaved(trial: Trial) -> Found:
    """A second call between forward and backward changes nothing."""
    subject, here = trial.subject, plain(trial)
    if not here.reverse:
        return [], [], []
    other = _other(trial)
    if stale := _stale(trial, other):
        return [], [stale], []
    due = [b if moves else None for b, moves in zip(here.pulled, subject.moving, strict=True)]

    def forward_between() -> list[Any]:
        pullback = subject.vjp()
        other.vjp()
        return pullback.pull(here.bars)

    def both_between() -> list[Any]:
        pullback = subject.vjp()
        other.vjp().pull(other.bars(trial.rng(261)))
        return pullback.pull(here.bars)

    def plain_between() -> list[Any]:
        pullback = subject.vjp()
        other.value()
        return pullback.pull(here.bars)

    ways: dict[str, Callable[[], list[Any]]] = {
        "a second call": forward_between,
        "a second call and its backward": both_between,
        "a second call without gradients": plain_between,
    }
    all_gaps: list[Gap] = []
    for said, way in ways.items():
        gaps, at, how = differs(trial, way(), due)
        all_gaps += gaps
        if at is not None:
            name = subject.names[at]
            message = (
                f"With {said} at another point between forward and backward, the VJP of "
                f"{subject.target.name} {how} for '{name}'. It reads a global, a class or a module "
                "where it must read what its own forward kept (ctx, residuals)."
            )
            worst = gaps[-1] if gaps and not gaps[-1].ok else None
            return all_gaps, [trial.finding("purity", "state", message, name, worst)], []
    return all_gaps, [], []


def _stale(trial: Trial, other: Subject) -> Finding | None:
    """Returns the finding for a VJP that is the same at another point, where it must not be.

    A cache that was filled in the first call of all gives the same ever after.
    """
    subject, here = trial.subject, plain(trial)
    if trial.intentional or not any(np.any(b) for b in here.pulled):
        return None
    there = zeros_for(other.vjp().pull(here.bars), other)
    if not all(_same(a, b) for a, b in zip(there, here.pulled, strict=True)):
        return None
    dots = trial.dots(262)
    found = inner(there, dots)

    def measured(point: Subject) -> tuple[float, float]:
        said = ByDifferences(point).push(dots)
        off = sum(
            float(np.sum(np.abs(b) * e))
            for b, e in zip(here.bars, said.errors, strict=True)
            if b is not None and e is not None
        )
        return inner(here.bars, said.values), off

    (first, e1), (second, e2) = measured(subject), measured(other)
    allowed = 1e-6 * max(abs(first), abs(second))
    if not abs(found - second) > 5 * e2 + allowed or not abs(found - first) <= 5 * e1 + allowed:
        return None
    message = (
        f"The VJP of {subject.target.name} at another point is the one of the first call, "
        f"{found:.6g} along a random direction, where differences give {second:.6g}. It computes "
        "with something kept from that call, as a cache that is filled once."
    )
    return trial.finding("purity", "state", message)


def _other(trial: Trial) -> Subject:
    """Returns another point, near the first; the same where the function has no value there."""
    subject = trial.subject
    dots = trial.dots(260)
    there = subject.at(
        [
            x if d is None else (x + 0.05 * d).astype(x.dtype)
            for x, d in zip(subject.values, dots, strict=True)
        ]
    )
    try:
        there.outputs  # noqa: B018
    except Exception:
        return subject.at(list(subject.values))
    return there


def _changed(trial: Trial, what: str, who: str, name: str | None) -> Finding:
    message = (
        f"{what[0].upper()}{what[1:]} is changed in place by {who} of {trial.subject.target.name}. "
        "It belongs to the caller: work on a copy, or declare it (mark_dirty)."
    )
    return trial.finding("purity", "changed in place", message, name)


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    if a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes():
        return True  # as nearly always, and quickest
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")

"""`compile`: the compiled function gives what the eager one gives."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from diptych.proof.claims.alike import (
    Rounding,
    body_fails,
    differs,
    first_line,
    is_random,
    plain,
    raised,
)
from diptych.proof.claims.trial import Skip, Trial
from diptych.proof.compare import Gap
from diptych.proof.outcome import Finding, Outcome
from diptych.proof.subject import Subject, zeros_for

Stage = Callable[[Subject, list[Any]], list[Any]]
Compiler = Callable[[Any], Any]


def compile(trial: Trial) -> Outcome:
    """Value and derivatives of compiled code equal those of eager code, at two points."""
    if not trial.compile:
        raise Skip("not asked for")
    subject = trial.subject
    gaps: list[Gap] = []
    findings: list[Finding] = []
    limits: list[str] = []
    started = time.perf_counter()
    here = plain(trial)
    dots = trial.dots(250)
    # Compiled code runs at a second point too: what was baked into it at the first shows there.
    moved = [
        x if d is None else (x + 0.03 * d).astype(x.dtype)
        for x, d in zip(subject.values, dots, strict=True)
    ]
    points = [subject, subject.at(moved)]
    try:
        points[1].outputs  # noqa: B018
    except Exception:  # the function may end nearby
        points.pop()
    stages: dict[str, Callable[[Trial, Subject, Compiler], Stage]] = {"value": _value}
    if here.reverse:
        stages["VJP through compiled code"] = _through
        stages["VJP inside compiled code"] = _inside
    if here.forward:
        stages["JVP inside compiled code"] = _forward_inside
    with subject.prober.compiling():
        for said, make in stages.items():
            try:
                found = _run(trial, make, subject, points)
            except Exception as error:
                why = _excuse(trial, error, make, points)
                if why is None:
                    where = f"Compiled, the {said} of" if said != "value" else "Compiled,"
                    findings.append(raised(trial, "compile", where, error))
                else:
                    limits.append(f"{said}: {why}")
                if said == "value":
                    break
                continue
            for k, point in enumerate(points):
                due, rounding, names = _eager(trial, said, point)
                more, at, how = differs(trial, found[k], due, rounding)
                gaps += more
                if at is None:
                    continue
                if is_random(trial):
                    limits.append(f"{said}: random, compiled code draws other numbers")
                    break
                again = " at a second point, with constants of the first" if k else ""
                message = (
                    f"The {said} of {subject.target.name}{again} {how} eagerly, for '{names[at]}'. "
                    "Code that depends on values, global state or Python side effects is traced "
                    "once and then repeated."
                )
                if said != "value":
                    message += " Or the compiler ignores the derivative that is stated."
                worst = more[-1] if more and not more[-1].ok else None
                findings.append(
                    trial.finding("compile", "compiled differently", message, names[at], worst)
                )
                break
    took = time.perf_counter() - started
    note = "; ".join([*limits, f"{took:.1f} s of compiling"])
    if not gaps and not findings:
        raise Skip(note)
    return trial.outcome("compile", gaps, findings, note)


def _run(
    trial: Trial,
    make: Callable[..., Stage],
    subject: Subject,
    points: list[Subject],
    *,
    eager: bool = False,
) -> list[list[Any]]:
    with subject.session():
        stage = make(trial, subject, (lambda f: f) if eager else subject.prober.compile)
    found = []
    for point in points:
        with subject.session():
            found.append(subject.numpy(stage(subject, subject.arrays(point.values))))
    return found


def _value(trial: Trial, subject: Subject, compiler: Compiler) -> Stage:
    compiled = compiler(subject.function())
    return lambda s, xs: s.prober.value(compiled, xs)


def _through(trial: Trial, subject: Subject, compiler: Compiler) -> Stage:
    compiled = compiler(subject.function())
    bars = plain(trial).bars

    def stage(s: Subject, xs: list[Any]) -> list[Any]:
        _, pull = s.prober.vjp(compiled, xs, s.moving)
        return pull(s.arrays(bars))

    return stage


def _inside(trial: Trial, subject: Subject, compiler: Compiler) -> Stage:
    pulled = subject.prober.pulled(subject.function(), subject.moving, subject.free)
    compiled = compiler(pulled)
    bars = [b for b in plain(trial).bars if b is not None]

    def stage(s: Subject, xs: list[Any]) -> list[Any]:
        found = iter(compiled(*xs, *s.arrays(bars)))
        return [next(found) if moves else None for moves in s.moving]

    return stage


def _forward_inside(trial: Trial, subject: Subject, compiler: Compiler) -> Stage:
    pushed = subject.prober.pushed(subject.function(), subject.moving, subject.free)
    compiled = compiler(pushed)
    dots = [d for d in plain(trial).dots if d is not None]

    def stage(s: Subject, xs: list[Any]) -> list[Any]:
        found = iter(compiled(*xs, *s.arrays(dots)))
        return [next(found) if free else None for free in s.free]

    return stage


def _eager(trial: Trial, said: str, point: Subject) -> tuple[list[Any], Rounding, list[str]]:
    here = plain(trial)
    outputs = [f"output {k}" for k in range(len(here.outputs))]
    if said == "value":
        return list(point.outputs), here.value_noise, outputs
    if said.startswith("VJP"):
        pulled = zeros_for(point.vjp().pull(here.bars), point)
        due = [b if moves else None for b, moves in zip(pulled, point.moving, strict=True)]
        return due, here.pull_noise, point.names
    pushed = point.jvp(here.dots)[1]
    due = [
        (np.zeros_like(out) if dot is None else dot) if free else None
        for out, dot, free in zip(point.outputs, pushed, point.free, strict=True)
    ]
    return due, here.push_noise, outputs


def _excuse(
    trial: Trial, error: Exception, make: Callable[..., Stage], points: list[Subject]
) -> str | None:
    """Returns why an error is none of the derivative's: not traceable, or the body fails too."""
    prober = trial.subject.prober
    said = prober.refusal(error) or prober.untraceable(error)
    if said is not None:
        return said
    try:
        _run(trial, make, trial.subject, points, eager=True)
    except Exception:
        return f"not to be had eagerly either: {first_line(error)}"
    if body_fails(trial, lambda s: _run(trial, make, s, points)):
        return f"not to be compiled: {first_line(error)}"
    if not trial.subject.target.custom:  # then it is the framework's affair
        return first_line(error)
    return None

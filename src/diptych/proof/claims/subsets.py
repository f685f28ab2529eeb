"""`partial`: some arguments need a gradient, some outputs are used; the rest changes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from diptych.proof.claims.alike import differs, first_line, plain
from diptych.proof.claims.trial import Skip, Trial
from diptych.proof.compare import Gap
from diptych.proof.outcome import Finding, Outcome
from diptych.proof.subject import zeros_for

_ALL = 4  # up to so many arguments or outputs every subset is tried


def partial(trial: Trial) -> Outcome:
    """Every subset of arguments and of outputs gives the same as all; zeros give zeros."""
    if not plain(trial).reverse:
        raise Skip("no reverse mode")
    gaps: list[Gap] = []
    findings: list[Finding] = []
    for part in (_arguments, _outputs, _tangents, _zeros, _integers):
        more = part(trial)
        gaps += more[0]
        findings += more[1]
    return trial.outcome("partial", gaps, findings)


def subsets(chosen: Sequence[int]) -> list[tuple[int, ...]]:
    """Returns the subsets to try, without the empty one and the whole."""
    n = len(chosen)
    sizes = range(1, n) if n <= _ALL else sorted({1, n - 1} - {0, n})
    return [s for size in sizes for s in itertools.combinations(chosen, size)]


def _arguments(trial: Trial) -> tuple[list[Gap], list[Finding]]:
    subject, here = trial.subject, plain(trial)
    moving = [i for i, m in enumerate(subject.moving) if m]
    gaps: list[Gap] = []
    for chosen in subsets(moving):
        said = " and ".join(f"'{subject.names[i]}'" for i in chosen)
        where = f"Where only {said} of {subject.target.name}'s arguments need a gradient"
        wanted = [i in chosen for i in range(len(subject.values))]
        try:
            found = subject.vjp(wanted=wanted).pull(here.bars)
        except Exception as error:
            return gaps, [_raised(trial, where, error, subject.names[chosen[0]])]
        due = [here.pulled[i] if i in chosen else None for i in range(len(wanted))]
        more, at, how = differs(trial, found, due, here.pull_noise)
        gaps += more
        if at is not None:
            return gaps, [_finding(trial, where, subject.names[at], how, more)]
    return gaps, []


def _outputs(trial: Trial) -> tuple[list[Gap], list[Finding]]:
    """Cotangents that are not there are zeros."""
    subject, here = trial.subject, plain(trial)
    free = [k for k, f in enumerate(subject.free) if f]
    gaps: list[Gap] = []
    pullback = subject.vjp()
    for chosen in subsets(free):
        said = " and ".join(f"output {k}" for k in chosen)
        where = f"Where only {said} of {subject.target.name} is used"
        others = [
            bar if bar is None or k in chosen else np.zeros_like(bar)
            for k, bar in enumerate(here.bars)
        ]
        due = zeros_for(pullback.pull(others), subject)
        due = [bar if moves else None for bar, moves in zip(due, subject.moving, strict=True)]
        some = [bar if k in chosen else None for k, bar in enumerate(here.bars)]
        try:
            found = subject.vjp().pull(some)
        except Exception as error:
            mend = "The cotangent of an unused output may be None."
            return gaps, [_raised(trial, where, error, None, mend)]
        more, at, how = differs(trial, found, due, here.pull_noise)
        gaps += more
        if at is not None:
            how += " (what explicit zeros give)"
            return gaps, [_finding(trial, where, subject.names[at], how, more)]
    return gaps, []


def _tangents(trial: Trial) -> tuple[list[Gap], list[Finding]]:
    """Tangents that are not there are zeros, and the parts add up to the whole."""
    subject, here = trial.subject, plain(trial)
    moving = [i for i, m in enumerate(subject.moving) if m]
    gaps: list[Gap] = []
    if not here.forward or len(moving) < 2:
        return gaps, []
    for i in moving[:_ALL]:
        where = f"Where only '{subject.names[i]}' of {subject.target.name}'s arguments moves"
        alone = [d if j == i else None for j, d in enumerate(here.dots)]
        spelled = [d if d is None or j == i else np.zeros_like(d) for j, d in enumerate(here.dots)]
        try:
            found = subject.jvp(alone)[1]
        except Exception as error:
            return gaps, [_raised(trial, where, error, subject.names[i])]
        due = [
            np.zeros_like(out) if dot is None and free else dot
            for out, dot, free in zip(
                subject.outputs, subject.jvp(spelled)[1], subject.free, strict=True
            )
        ]
        more, at, how = differs(trial, found, due, here.push_noise)
        gaps += more
        if at is not None:
            how += " (what explicit zeros give)"
            return gaps, [_finding(trial, where, f"output {at}", how, more)]
    return gaps, []


def _zeros(trial: Trial) -> tuple[list[Gap], list[Finding]]:
    """A cotangent of zeros gives zeros wherever another one gives numbers."""
    subject, here = trial.subject, plain(trial)
    zeros = [None if bar is None else np.zeros_like(bar) for bar in here.bars]
    where = f"Given a cotangent of zeros, {subject.target.name}"
    try:
        found = subject.vjp().pull(zeros)
    except Exception as error:
        return [], [_raised(trial, where, error, None)]
    due = []
    for bar, whole, moves in zip(found, here.pulled, subject.moving, strict=True):
        if not moves or bar is None or bar.shape != whole.shape:
            due.append(None)
            continue
        # Where the derivative is not finite, zero times it is not either.
        due.append(np.where(np.isfinite(whole), np.zeros_like(whole), bar))
    gaps, at, how = differs(trial, found, due)
    if at is None:
        return gaps, []
    return gaps, [_finding(trial, where, subject.names[at], how, gaps)]


def _integers(trial: Trial) -> tuple[list[Gap], list[Finding]]:
    """Integer arguments get no cotangent, and asking for one must not fail."""
    subject = trial.subject
    prober = subject.prober
    integers = [i for i, x in enumerate(subject.values) if x.dtype.kind in "iub"]
    integers = [i for i in integers if not subject.example.fixed[i]]
    if not integers or not prober.integer_cotangents:
        return [], []
    wanted = [m or i in integers for i, m in enumerate(subject.moving)]
    where = f"Where the cotangents of all arguments of {subject.target.name} are asked for"
    try:
        with subject.session():
            _, pull = prober.vjp(subject.function(), subject.arrays(), wanted)
            found = pull(subject.arrays(plain(trial).bars))
    except Exception as error:
        return [], [_raised(trial, where, error, subject.names[integers[0]])]
    for i in integers:
        dtype = str(getattr(found[i], "dtype", "float0"))
        if "float0" not in dtype and "void" not in dtype:
            message = (
                f"{where}, '{subject.names[i]}', an array of integers, gets a cotangent of dtype "
                f"{dtype}. It has no derivative: return None for it."
            )
            return [], [trial.finding("partial", "subset", message, subject.names[i])]
    return [], []


def _finding(trial: Trial, where: str, name: str, how: str, gaps: list[Gap]) -> Finding:
    message = (
        f"{where}, the result for '{name}' {how}. "
        "Let it not depend on which other gradients are asked for."
    )
    worst = gaps[-1] if gaps and not gaps[-1].ok else None
    return trial.finding("partial", "subset", message, name, worst)


def _raised(
    trial: Trial, where: str, error: Exception, name: str | None, mend: str = ""
) -> Finding:
    message = f"{where}, it raises {first_line(error)}. All together they can be had. {mend}"
    return trial.finding("partial", "subset", message.strip(), name)

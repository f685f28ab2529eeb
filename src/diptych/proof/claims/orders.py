"""Higher orders: the derivative of the derivative, in each nesting."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from diptych.proof.claims.alike import first_line
from diptych.proof.claims.composed import of_its_square
from diptych.proof.claims.second import Line, contracted, slopes, weighed
from diptych.proof.claims.trial import Skip, Trial
from diptych.proof.compare import Gap, gap
from diptych.proof.neighbours import bending_points
from diptych.proof.noise import allowing
from diptych.proof.outcome import Finding, Outcome
from diptych.proof.richardson import slope
from diptych.proof.subject import Subject
from diptych.proof.vectors import inner_size, split

_SHARE = 0.25  # of the time for varying the example
_SPLITS = 2
_DETACHED = "does not require grad"
_PLACES = (0.0, 2.0**-5, -(2.0**-5))

NESTINGS = {
    "reverse over reverse": ("reverse", "reverse"),
    "forward over reverse": ("reverse", "forward"),
    "reverse over forward": ("forward", "reverse"),
    "forward over forward": ("forward", "forward"),
}


def order(trial: Trial) -> Outcome:
    """Derivatives up to the order asked for, in each nesting of the two modes.

    The derivative of order n is contracted with random vectors to one number, whose slope along a
    random direction is compared with that of the derivative of order n - 1, by differences. That
    one is itself compared at its own order, so that every order rests on the one below.
    """
    if trial.order < 2:
        raise Skip("order 1 asked for")
    gaps: list[Gap] = []
    findings: list[Finding] = []
    limits: list[str] = []
    for nesting, (first, second) in NESTINGS.items():
        try:
            more = _second(trial, nesting, first, second)
        except Skip as reason:
            limits.append(f"{nesting}: {reason}")
            continue
        except Exception as error:
            said = _excuse(trial, error)
            if said is None:
                findings.append(_raised(trial, nesting, error))
            else:
                limits.append(f"{nesting}: {said}")
            continue
        gaps += more[0]
        findings += more[1]
    if not findings:
        more = of_its_square(trial)
        gaps += more[0]
        findings += more[1]
    if gaps and not findings and trial.subject.target.custom:
        findings += _elsewhere(trial, limits)
    for n in range(3, trial.order + 1):
        try:
            more = _higher(trial, n)
        except Exception as error:
            said = _excuse(trial, error)
            if said is None:
                findings.append(_raised(trial, f"order {n}", error))
            else:
                limits.append(f"order {n}: {said}")
            continue
        gaps += more[0]
        findings += more[1]
    once = "reverse over reverse: once differentiable"
    if once in limits and not gaps and trial.explicit_order:
        message = (
            f"{trial.subject.target.name} is differentiable once, and order {trial.order} was "
            "asked for. Write its derivative with differentiable operations, or as a rule."
        )
        findings.append(trial.finding("order", "raises", message))
    if not gaps and not findings:
        return trial.outcome("order", status="reported", note="; ".join(limits))
    return trial.outcome("order", gaps, findings, "; ".join(limits))


def _excuse(trial: Trial, error: Exception) -> str | None:
    """Returns why an error is no finding: a limit that is known, or one of a framework's own."""
    said = trial.subject.prober.refusal(error)
    if said is None and not trial.subject.target.custom and _DETACHED not in str(error):
        return first_line(error)[:80]
    return said


def _elsewhere(trial: Trial, limits: Sequence[str]) -> list[Finding]:
    """Returns the findings at the first variation of the example that has any.

    The branch that a `where` does not take is differentiated too: what gives a derivative there
    may have none of its own. A framework's operators (a norm, squared) may be so at zero, which
    no user can mend: only what states a derivative is looked at.
    """
    left = trial.deadline - time.perf_counter()
    end = time.perf_counter() + _SHARE * left
    refused = {limit.split(":")[0] for limit in limits}
    for neighbour in bending_points(trial.subject) if left > 0 else ():
        if time.perf_counter() > end:
            break
        there = trial.subject.at(neighbour.example.values)
        other = replace(trial, subject=there, neighbour=neighbour.how, notes={})
        if not _is_smooth(other):
            continue
        found: dict[str, Finding] = {}
        for nesting, (first, second) in NESTINGS.items():
            if nesting not in refused:
                with contextlib.suppress(Exception):  # what is refused there is no finding
                    wrong = _second(other, nesting, first, second)[1]
                    found.update(zip([nesting], wrong, strict=False))
        if found:
            (_, one), *more = found.items()
            also = f" Wrong as well: {', '.join(nesting for nesting, _ in more)}." if more else ""
            return [replace(one, message=one.message + also)]
    return []


def _is_smooth(trial: Trial) -> bool:
    """Returns whether the value and the first derivative are finite."""
    subject = trial.subject
    try:
        with np.errstate(all="ignore"):
            found = [*subject.outputs, *subject.vjp().pull(trial.bars(50))]
    except Exception:
        return False
    return all(x is None or x.dtype.kind not in "fc" or np.isfinite(x).all() for x in found)


def _second(trial: Trial, nesting: str, first: str, second: str) -> tuple[list[Gap], list[Finding]]:
    subject = trial.subject
    bars, dots = trial.bars(50), trial.dots(51)
    gaps: list[Gap] = []
    size = _size(trial, bars, dots)
    salts = (52, 53)
    directions = [trial.dots(salt) for salt in salts]
    found = slopes(subject, first, second, bars, dots, dots, directions)
    for salt, slope_found in zip(salts, found, strict=True):
        expected, error = trial.once(
            first, salt, lambda s=salt: _expected(trial, bars, dots, s, first)
        )
        g = _judged(subject, slope_found, expected, error, size)
        if g.ok and error <= 1e-3 * abs(expected):
            trial.notes["agreed", salt] = True
        elif not g.ok and all(g.ok for g in gaps):  # one that nothing explains is enough
            g = _explained(trial, g, salt, (first, second), expected, error)
        gaps.append(g)
    if all(g.ok for g in gaps):
        return gaps, []
    if nesting == "forward over forward" and not any(g.found for g in gaps):
        target = trial.subject.target
        if target.kind == "torch.autograd.Function":
            raise Skip("PyTorch gives zero for every autograd.Function (pytorch/pytorch#197867)")
    return gaps, [_wrong(trial, nesting, gaps, first)]


def _explained(
    trial: Trial, g: Gap, salt: int, modes: tuple[str, str], expected: float, error: float
) -> Gap:
    """Returns the gap again, allowing for kinks, and for rounding where all terms cancel."""
    subject, along = trial.subject, trial.dots(salt)

    bars, dots = trial.bars(50), trial.dots(51)
    size = _size(trial, bars, dots)

    def judge(found: float, rounding: float) -> Gap:
        return _judged(subject, found, expected, error + rounding, size)

    def of(point: Subject, bars: Any, dots: Any, along: Any) -> float:
        return slopes(point, *modes, bars, dots, dots, [along])[0]

    allowed = allowing(subject, trial.rng(54), judge, float(g.found), of, bars, dots, along)
    if allowed.ok:
        return allowed
    if ("agreed", salt) in trial.notes:  # another nesting has what differences tell
        return g
    kink = trial.once(
        "kink", (modes[0], salt), lambda: _has_a_kink(trial, modes[0], salt, expected, error)
    )
    return _judged(subject, g.found, expected, np.inf, size) if kink else g


def _judged(subject: Subject, found: float, expected: float, error: float, size: float) -> Gap:
    """Returns how a second derivative differs; `size` is that of the first."""
    return gap(
        np.asarray(found),
        np.asarray(expected),
        epsilon=subject.epsilon,
        error=error,
        floor=subject.epsilon**0.6 * size,
        relative=subject.epsilon**0.4,
    )


def _expected(
    trial: Trial, bars: Sequence[Any], dots: Sequence[Any], salt: int, mode: str
) -> tuple[float, float]:
    """Returns the slope of the first derivative by differences, and how far it may be off.

    It is the function's own first derivative that is varied: whether that one is right, the claims
    of the first order say.
    """
    subject = trial.subject
    line = Line(subject, mode, bars, dots, trial.dots(salt))
    line.values[0.0] = trial.once("order", mode, lambda: line(0.0))  # where all lines cross
    other = trial.notes.get(("line", salt))
    if other is not None:
        # By either mode it is one number, and has one slope, unless the two are no adjoints.
        near = subject.epsilon**0.75 * _size(trial, bars, dots)
        if all(abs(line(h)[0] - other(h)[0]) <= near for h in _PLACES):
            return other.slope
    found = slope(line, subject.epsilon)
    line.slope = float(found.value[0]), 3 * float(found.error[0])
    trial.notes["line", salt] = line
    return line.slope


def _has_a_kink(trial: Trial, mode: str, salt: int, expected: float, error: float) -> bool:
    """Returns whether the first derivative has a kink along these tangents, or parts of them.

    Where one entry goes up and another one down, the slopes to the two sides may be equal by
    chance, and still any derivative of each entry between those to its sides would do.
    """
    rng, along, epsilon = trial.rng(56), trial.dots(salt), trial.subject.epsilon
    for _ in range(_SPLITS):
        one, two = [
            slope(Line(trial.subject, mode, trial.bars(50), trial.dots(51), part), epsilon)
            for part in split(rng, along)
        ]
        off = abs(one.value[0] + two.value[0] - expected)
        unsure = error + 3 * (one.error[0] + two.error[0])
        if one.kink[0] or two.kink[0] or not off <= 1e-5 * abs(expected) + unsure:
            return True
    return False


def _size(trial: Trial, bars: Sequence[Any], dots: Sequence[Any]) -> float:
    """Returns the size of the first derivative: second ones far below it are rounding.

    At variations it is no less than a share of the values: what saturates there (`1 - tanh(x)**2`)
    is rounded as they are.
    """
    subject = trial.subject

    def size() -> float:
        first = inner_size(subject.vjp().pull(bars), dots)
        return first if trial.neighbour is None else first + inner_size(bars, subject.outputs)

    return trial.once("order", "size", size)


def _higher(trial: Trial, n: int) -> tuple[list[Gap], list[Finding]]:
    """Compares order n, reverse over reverse all the way, with differences of order n - 1."""
    subject = trial.subject
    bars = trial.bars(60)
    directions = [trial.dots(61 + k) for k in range(n)]

    def nested(point: Subject, depth: int) -> Callable[..., list[Any]]:
        if depth == 1:
            return contracted(point, "reverse", bars, directions[0], directions[0])
        inner_function = nested(point, depth - 1)
        ones = point.arrays([np.ones(())])
        found = point.prober.gradient(inner_function, ones, point.moving)
        return weighed(found, point.arrays([d for d in directions[depth - 1] if d is not None]))

    def value(point: Subject, depth: int) -> float:
        with point.session():
            (found,) = point.numpy(nested(point, depth)(*point.arrays()))
            return float(np.real(found))

    found = value(subject, n)
    last = directions[n - 1]

    def below(h: float) -> np.ndarray:
        moved = [x if d is None else x + h * d for x, d in zip(subject.values, last, strict=True)]
        return np.array([value(subject.at(moved), n - 1)])

    measured = slope(below, subject.epsilon)
    g = gap(
        np.asarray(found),
        measured.value[0],
        epsilon=subject.epsilon,
        error=3 * measured.error[0],
        floor=subject.epsilon**0.6 * abs(below(0.0)[0]),
        relative=subject.epsilon**0.4,
    )
    findings = [] if g.ok else [_wrong(trial, f"order {n}", [g], "reverse")]
    return [g], findings


def _wrong(trial: Trial, nesting: str, gaps: Sequence[Gap], first: str) -> Finding:
    name = trial.subject.target.name
    what = "VJP" if first == "reverse" else "JVP"
    g = next(g for g in gaps if not g.ok)
    ratios = [float(g.found / g.expected) for g in gaps if g.expected]
    if not np.isfinite(g.found):
        cause = "not finite"
        why = (
            f"The {what} itself is finite there: guard the branches of its `where` that are not "
            "taken, and norms and roots of zero, which are differentiated too."
        )
    elif abs(g.found) == 0 and not trial.subject.target.custom:
        cause = "detached"
        why = (
            "It is zero: something cuts the graph, as `detach` and `stop_gradient` do, and `abs` "
            "and norms at 0."
        )
    elif abs(g.found) == 0:
        cause = "detached"
        why = f"It is zero: the {what} computes with residuals that are cut from the graph."
    elif len(ratios) > 1 and np.ptp(ratios) <= 1e-5 * abs(ratios[0]):
        cause, why = "factor", f"It is {ratios[0]:.6g} times the right one along each direction."
        if abs(ratios[0] + 1) < 1e-5:
            cause, why = "sign", "Its sign is wrong: negate it."
    elif not trial.subject.target.custom:
        cause = "stale residual"
        why = "An operator that it calls has a wrong second derivative in this nesting."
    elif trial.notes.get("known", set()) & {(what.lower(), name) for name in trial.subject.names}:
        cause, why = "stale residual", f"The {what} itself is wrong: mend that first."
    else:
        cause = "stale residual"
        why = (
            f"The {what} is right by itself, so that it computes with something whose own "
            "dependence on the arguments is lost or wrong, such as a kept intermediate."
        )
    message = (
        f"The second derivative of {name} ({nesting}) along a random direction is {g.shown}, "
        f"where differences of its first give {g.due}. {why}"
    )
    return trial.finding("order", cause, message, None, g)


def _raised(trial: Trial, nesting: str, error: Exception) -> Finding:
    message = (
        f"The second derivative of {trial.subject.target.name} ({nesting}) raises "
        f"{first_line(error)} A derivative that cannot be had should say so."
    )
    cause = "detached" if _DETACHED in str(error) else "raises"
    return trial.finding("order", cause, message)

"""First order: the value, the JVP, the VJP, and that the two are adjoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from diptych.proof.claims.located import along_ties, shape_finding, vjp_along
from diptych.proof.claims.trial import Claim, Skip, Trial
from diptych.proof.compare import Gap, gap, natural
from diptych.proof.curves import record_line, record_pairs, with_plots
from diptych.proof.diagnosis import Case, diagnose
from diptych.proof.differences import nudged
from diptych.proof.noise import allowing, noise
from diptych.proof.outcome import Finding, Outcome
from diptych.proof.subject import Subject, zeros_for
from diptych.proof.vectors import inner, inner_size


def primal(trial: Trial) -> Outcome:
    """The value of the rule, and that of its `fwd`, equal the body's."""
    subject, target = trial.subject, trial.subject.target
    others = {"the body": target.body, "fwd": target.forward}
    others = {said: f for said, f in others.items() if f is not None}
    gaps: list[Gap] = []
    findings: list[Finding] = []
    for said, f in others.items():
        found = subject.value(f)
        if len(found) != len(subject.outputs):
            continue  # residuals and what else a forward function may return are no outputs
        for k, (mine, theirs) in enumerate(zip(subject.outputs, found, strict=True)):
            if mine.shape != theirs.shape:
                message = (
                    f"Output {k} of {target.name} has shape {mine.shape}, where {said} gives "
                    f"{theirs.shape}. Callers see another value than the one whose derivative is "
                    "stated: let both compute the same."
                )
                findings.append(trial.finding("primal", "other value", message, f"output {k}"))
                continue
            g = gap(mine, theirs, epsilon=subject.epsilon, error=_value_noise(trial, f, k))
            gaps.append(g)
            if not g.ok:
                message = (
                    f"Output {k} of {target.name} is {g.shown} at index {g.index}, where "
                    f"{said} gives {g.due}. Callers see another value than the one whose "
                    "derivative is stated: let both compute the same."
                )
                findings.append(trial.finding("primal", "other value", message, f"output {k}", g))
    with_gradient = subject.vjp().outputs
    for k, (plain, kept) in enumerate(zip(subject.outputs, with_gradient, strict=True)):
        g = gap(kept, plain, epsilon=subject.epsilon)
        gaps.append(g)
        if not g.ok:
            message = (
                f"Output {k} of {target.name} is {g.shown} at index {g.index} when it is "
                f"differentiated, and {g.due} when it is not. Let the forward pass that "
                "keeps residuals compute the same value."
            )
            findings.append(trial.finding("primal", "other value", message, f"output {k}", g))
    return trial.outcome("primal", gaps, findings)


def _value_noise(trial: Trial, f: Callable[..., Any], k: int) -> Any:
    """Returns how much rounding of the arguments changes a value."""
    near = trial.subject.value(f, nudged(trial.rng(5), trial.subject))
    here = trial.subject.value(f)
    return 20 * np.abs(near[k] - here[k])


def vjp(trial: Trial) -> Outcome:
    """The VJP equals the reference's, entry by entry where that gives entries."""
    return _confirmed(_vjp, trial)


def _confirmed(claim: Claim, trial: Trial) -> Outcome:
    """Returns what a claim gives; where differences speak against it, what finer ones say.

    Steps are no finer than it takes until they agree. They leap over finer stairs, and tell the
    slope of these as well: of `floor(x)` beside a large square.
    """
    outcome = claim(trial)
    differences = trial.differences
    if not outcome.findings or trial.reference is not differences or differences.every:
        return outcome
    closer = differences.closer()
    return claim(replace(trial, reference=closer, differences=closer, notes={}))


def _vjp(trial: Trial) -> Outcome:
    trial.refuse_intentional()
    subject, reference = trial.subject, trial.reference
    pullback = subject.vjp()
    gaps: list[Gap] = []
    findings: list[Finding] = []
    for salt in range(2):
        bars = trial.bars(salt)
        if not any(subject.free):
            raise Skip("no output has a derivative")
        found = pullback.pull(bars)
        if reference.full:
            more = _full_vjp(trial, bars, found, pullback.pull)
        else:
            more = vjp_along(trial, bars, found)
            record_line(trial, trial.dots(10), bars, found, None)
        gaps += more[0]
        findings += more[1]
        if not findings and trial.differences.kinks:
            for more in (
                along_ties(trial, bars, zeros_for(found, subject)),
                _turned(trial, bars, zeros_for(found, subject), pullback.pull),
            ):
                gaps += more[0]
                findings += more[1]
        if findings:
            break
    return with_plots(trial, trial.outcome("vjp", gaps, findings, _reference_note(trial)))


def _turned(
    trial: Trial, bars: Sequence[Any], found: Sequence[Any], pull: Callable[..., Any]
) -> tuple[list[Gap], list[Finding]]:
    """Compares with the pullback of other multiples: at a kink too it is linear in the cotangent.

    Whichever side's derivative a rule takes there, it must not depend on the cotangent. A multiple
    by a power of two is rounded as it is itself.
    """
    subject = trial.subject
    turned = zeros_for(pull([None if b is None else -2 * b for b in bars]), subject)
    gaps: list[Gap] = []
    for i, (mine, bar) in enumerate(zip(turned, found, strict=True)):
        if not subject.moving[i]:
            continue
        g = gap(mine, -2 * bar, epsilon=subject.epsilon)
        gaps.append(g)
        if not g.ok:
            message = (
                f"The cotangent of '{subject.names[i]}' is {g.shown} at index {g.index} for -2 "
                f"times a cotangent of the outputs, and -2 times the one for that is {g.due}. "
                "The VJP must be linear in the cotangent, at a kink too."
            )
            return gaps, [trial.finding("vjp", "not linear", message, subject.names[i], g)]
    return gaps, []


def _full_vjp(
    trial: Trial, bars: Sequence[Any], found: Sequence[Any], pull: Callable[..., Any]
) -> tuple[list[Gap], list[Finding]]:
    subject = trial.subject
    measured = trial.reference.pull(bars)
    gaps, findings = [], []
    filled = zeros_for(found, subject)
    record_line(trial, trial.dots(10), bars, found, measured.values)
    for i, x in enumerate(subject.values):
        if not subject.moving[i]:
            continue
        if filled[i].shape != x.shape:
            findings.append(shape_finding(trial, "vjp", subject.names[i], filled[i], x))
            continue
        floor = subject.epsilon**0.8 * natural(subject.outputs, bars, x)
        judge = _judge(trial, measured.values[i], measured.errors[i], floor)

        def of(point: Subject, bars: Sequence[Any], i: int = i) -> Any:
            return zeros_for(point.vjp().pull(bars), point)[i]

        g = allowing(subject, trial.rng(8), judge, filled[i], of, bars)
        gaps.append(g)
        record_pairs(trial, "vjp", subject.names[i], filled[i], measured.values[i], g)
        if not g.ok:
            case = Case(
                "vjp", subject.names[i], i, filled[i], measured.values[i], g, filled,
                measured.values, subject.values, subject.outputs, subject.names, bars,
                lambda vectors: (
                    zeros_for(pull(vectors), subject), trial.reference.pull(vectors).values
                ),
            )  # fmt: skip
            findings.append(_described(trial, "vjp", case))
    return gaps, findings


def jvp(trial: Trial) -> Outcome:
    """The JVP equals the reference's, at every entry of every output."""
    return _confirmed(_jvp, trial)


def _jvp(trial: Trial) -> Outcome:
    trial.refuse_intentional()
    subject, reference = trial.subject, trial.reference
    gaps: list[Gap] = []
    findings: list[Finding] = []
    for salt in range(2):
        dots = trial.dots(10 + salt)
        _, found = subject.jvp(dots)
        measured = reference.push(dots)
        record_line(trial, dots, None, found, measured.values)
        for k, out in enumerate(subject.outputs):
            if not subject.free[k]:
                continue
            tangent = np.zeros_like(out) if found[k] is None else found[k]
            name = "the output" if len(subject.outputs) == 1 else f"output {k}"
            if tangent.shape != out.shape:
                findings.append(shape_finding(trial, "jvp", name, tangent, out))
                continue
            floor = subject.epsilon**0.8 * float(np.max(np.abs(out), initial=0.0))
            judge = _judge(trial, measured.values[k], 3 * measured.errors[k], floor)

            def of(point: Subject, dots: Sequence[Any], k: int = k) -> Any:
                return point.jvp(dots)[1][k]

            g = allowing(subject, trial.rng(8), judge, tangent, of, dots)
            gaps.append(g)
            record_pairs(trial, "jvp", name, tangent, measured.values[k], g)
            if not g.ok:
                case = Case(
                    "jvp", name, k, tangent, measured.values[k], g, found, measured.values,
                    subject.values, subject.outputs, subject.names, dots,
                    lambda vectors: (subject.jvp(vectors)[1], reference.push(vectors).values),
                )  # fmt: skip
                findings.append(_described(trial, "jvp", case))
        if findings:
            break
    return with_plots(trial, trial.outcome("jvp", gaps, findings, _reference_note(trial)))


def _judge(trial: Trial, expected: Any, error: Any, floor: float) -> Callable[[Any, float], Gap]:
    """Returns what compares an array with the reference's, given how far rounding may move it."""
    return lambda found, rounding: gap(
        found,
        expected,
        epsilon=trial.subject.epsilon,
        relative=trial.relative,
        error=error,
        floor=floor + rounding,
    )


def adjoint(trial: Trial) -> Outcome:
    """`<bar, jvp(dot)> == <vjp(bar), dot>`, to rounding."""
    subject = trial.subject
    if _has_no_forward_mode(trial):
        raise Skip("no forward mode that could be stated")
    pullback = subject.vjp()
    gaps: list[Gap] = []
    findings: list[Finding] = []
    for salt in range(3):
        bars, dots = trial.bars(20 + salt), trial.dots(30 + salt)
        pushed = subject.jvp(dots)[1]
        pulled = pullback.pull(bars)
        left, right = inner(bars, pushed), inner(pulled, dots)
        size = inner_size(bars, pushed) + inner_size(pulled, dots)
        floor = subject.epsilon**0.75 * size
        g = gap(
            np.asarray(left), np.asarray(right), epsilon=subject.epsilon, relative=0.0, floor=floor
        )
        if not g.ok:  # the two may round differently: an ill-conditioned one shows it nearby
            floor += _adjoint_noise(trial, bars, dots)
            g = gap(
                np.asarray(left),
                np.asarray(right),
                epsilon=subject.epsilon,
                relative=0.0,
                floor=floor,
            )
        gaps.append(g)
        if not g.ok:
            message = (
                f"JVP and VJP of {subject.target.name} are no adjoints of each other: "
                f"<bar, jvp(dot)> is {left:.6g} and <vjp(bar), dot> is {right:.6g}, "
                f"{abs(left - right):.2g} apart. At least one of the two is wrong; the claims "
                "`jvp` and `vjp` say which."
            )
            findings.append(trial.finding("adjoint", "not adjoint", message, None, g))
            break
    return trial.outcome("adjoint", gaps, findings)


def _adjoint_noise(trial: Trial, bars: Sequence[Any], dots: Sequence[Any]) -> float:
    def both(s: Subject, bars: Sequence[Any], dots: Sequence[Any]) -> list[Any]:
        return [inner(bars, s.jvp(dots)[1]), inner(s.vjp().pull(bars), dots)]

    return max(noise(trial.subject, trial.rng(6), both, bars, dots))


def _described(trial: Trial, claim: str, case: Case) -> Finding:
    cause, why = diagnose(case)
    if cause == "wrong" and trial.subject.target.derived == claim:
        other = "VJP" if claim == "jvp" else "JVP"
        why = f"It is derived from the {other} that is stated: mend that one."
    if (claim, cause) == ("jvp", "zero") and _has_no_forward_mode(trial):
        why = (
            "PyTorch's custom ops cannot state a JVP, and forward mode over one is zero with no "
            "error: state it as a diptych.rule, or skip the claim where nobody takes that mode."
        )
    what = "cotangent" if claim == "vjp" else "tangent"
    g = case.gap
    message = (
        f"The {what} of '{case.name}' is {g.shown} at index {g.index}, where "
        f"{trial.reference.name} gives {g.due}. {why}"
    )
    return trial.finding(claim, cause, message, case.name, g)


def _has_no_forward_mode(trial: Trial) -> bool:
    return trial.subject.target.kind == "torch.library custom op"


def _reference_note(trial: Trial) -> str:
    kinks = trial.differences.kinks
    note = f"against {trial.reference.name}"
    if symmetric := trial.subject.target.symmetric:
        names = ", ".join(f"'{trial.subject.names[i]}'" for i in symmetric)
        note += f"; {names} symmetric, as one triangle is read"
    return f"{note}; {kinks} kinks" if kinks else note

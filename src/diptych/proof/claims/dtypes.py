"""Other precisions: dtypes are those of the primals, and values as exact as the dtype allows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diptych.proof.claims.alike import is_random
from diptych.proof.claims.trial import Skip, Trial
from diptych.proof.compare import Gap, gap
from diptych.proof.noise import noise
from diptych.proof.outcome import Finding, Outcome
from diptych.proof.subject import Subject, Values
from diptych.proof.vectors import direction

_EPSILON = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
_LEAST = {"float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}
_COMPLEX = {"float32": "complex64"}


def dtypes(trial: Trial) -> Outcome:
    """Outputs and cotangents have the dtype of their primals, and the precision it allows.

    What it allows is measured: how much the float64 result changes when the arguments change by
    rounding to the lower precision, and how far the plain body's own derivative is off there.
    """
    subject = trial.subject
    if subject.epsilon > 1e-12:
        raise Skip("it does not run in float64, so that there is nothing to compare with")
    gaps: list[Gap] = []
    findings: list[Finding] = []
    tried: list[str] = []
    refused: list[str] = []
    for dtype in _EPSILON:
        try:
            more = _in_dtype(trial, dtype)
        except _NoValue:
            refused.append(dtype)
            continue
        tried.append(dtype)
        gaps += more[0]
        findings += [f for f in more[1] if not _known(f, findings)]
    if not tried:
        raise Skip("the value takes no lower precision")
    note = ", ".join(tried) + (f"; no value in {', '.join(refused)}" if refused else "")
    return trial.outcome("dtypes", gaps, findings, note)


class _NoValue(Exception):  # noqa: N818 - the function itself does not take this dtype
    pass


def _known(finding: Finding, others: Sequence[Finding]) -> bool:
    return any((f.cause, f.argument) == (finding.cause, finding.argument) for f in others)


def _in_dtype(trial: Trial, dtype: str) -> tuple[list[Gap], list[Finding]]:
    subject = trial.subject
    prober = subject.prober
    low = _lowered(subject, dtype)
    try:
        with subject.session():
            outs = prober.value(prober.at_once(subject.function()), low)
            plain_dtypes = _dtypes_of(subject, subject.target.body, low)
    except Exception:
        raise _NoValue from None
    # The point that the low arrays stand for: rounding the arguments is no fault of the function.
    rounded = subject.at(
        [np.asarray(prober.numpy(x), v.dtype) for x, v in zip(low, subject.values, strict=True)]
    )
    if not all(np.all(np.isfinite(o)) for o in subject.numpy(outs) if o.dtype.kind in "fc"):
        raise _NoValue  # it overflows in this precision
    findings = _dtype_findings(trial, dtype, outs, plain_dtypes)
    if is_random(trial) and not _same_draws(subject.numpy(outs), rounded.outputs, _EPSILON[dtype]):
        return [], findings  # other numbers are drawn in this precision: nothing to compare
    bars = [
        None if bar is None else np.round(4 * bar) / 4 for bar in trial.bars(75)
    ]  # which every precision has
    epsilon = _EPSILON[dtype]
    with subject.session():
        low_bars = [
            None if b is None else prober.cast(prober.array(b), prober.dtype(o))
            for b, o in zip(bars, outs, strict=True)
        ]
        try:
            with prober.returned(subject.target.thing) as returned:
                raw = subject.pulled_at_once(subject.function(), low, low_bars)
        except Exception as error:
            if prober.refusal(error) is None:
                raise
            raise _NoValue from None
        found = subject.numpy(raw)
    findings += _returned_findings(trial, returned, low)
    for i, (bar, x) in enumerate(zip(raw, low, strict=True)):
        if bar is not None and prober.dtype(bar) != prober.dtype(x):
            message = (
                f"The cotangent of '{subject.names[i]}' is {prober.dtype(bar)}, its primal "
                f"{prober.dtype(x)}. Compute it in the primal's dtype."
            )
            findings.append(trial.finding("dtypes", "dtype", message, subject.names[i]))
    exact = rounded.vjp().pull(bars)
    near = []
    for k in range(3):
        with contextlib.suppress(Exception):  # the function may end here, as between integers
            near.append(rounded.at(_nudged(trial, rounded, epsilon, k)).vjp().pull(bars))
    plain = _plain(trial, low, low_bars, exact)
    gaps: list[Gap] = []
    for i, value in enumerate(exact):
        if value is None or not subject.moving[i]:
            continue
        moved = [np.abs(n[i] - value) for n in near if n[i] is not None]
        allowed = 16 * np.max(moved, axis=0, initial=0.0) if moved else 0.0
        scale = float(np.max(np.abs(value), initial=0.0))
        allowed = allowed + 4 * plain[i] + 16 * epsilon * scale
        allowed = allowed + _of_outputs(rounded.outputs, bars, rounded.values[i], dtype)
        g = gap(found[i], value, epsilon=epsilon, error=allowed, relative=32 * epsilon)
        if not g.ok:
            allowed = allowed + _lifted(trial, rounded, bars, value, i, epsilon)
            g = gap(found[i], value, epsilon=epsilon, error=allowed, relative=32 * epsilon)
        gaps.append(g)
        if not g.ok:
            message = (
                f"In {dtype} the cotangent of '{subject.names[i]}' is {g.shown} at index "
                f"{g.index}, where float64 gives {g.due} for the same arguments; rounding "
                f"explains {g.threshold:.1e} of its size and it is off by {g.error:.1e}. Something "
                "is lost on the way: accumulate in float32, or use a formula without cancellation."
            )
            findings.append(trial.finding("dtypes", "precision", message, subject.names[i], g))
    return gaps, findings


def _same_draws(low: Sequence[Any], exact: Sequence[Any], epsilon: float) -> bool:
    """Returns whether values are so close that the same random numbers are in them."""
    pairs = zip(low, exact, strict=True)
    return all(gap(a, b, epsilon=epsilon, relative=0.05, floor=4 * epsilon).ok for a, b in pairs)


def _returned_findings(
    trial: Trial, returned: Sequence[Sequence[str | None]], low: Sequence[Any]
) -> list[Finding]:
    """Returns what is wrong with the dtypes that a rule itself returns, before they are cast."""
    subject = trial.subject
    findings = []
    for dtypes in returned[:1]:
        for i, x in enumerate(low):
            position = subject.example.positions[i]
            got = dtypes[position] if position < len(dtypes) else None
            wanted = subject.prober.dtype(x)
            if got is not None and subject.moving[i] and got != wanted:
                message = (
                    f"The VJP returns the cotangent of '{subject.names[i]}' in {got}, where its "
                    f"primal is {wanted}; the framework casts it in silence. Return it in the "
                    "primal's dtype."
                )
                findings.append(trial.finding("dtypes", "dtype", message, subject.names[i]))
    return findings


def _lowered(subject: Subject, dtype: str) -> list[Any]:
    prober = subject.prober
    with subject.session():
        found = []
        for x in subject.arrays():
            kind = prober.numpy(x).dtype.kind
            if kind == "c":
                if dtype not in _COMPLEX:
                    raise _NoValue
                found.append(prober.cast(x, _COMPLEX[dtype]))
            else:
                found.append(prober.cast(x, dtype) if kind == "f" else x)
        return found


def _dtypes_of(
    subject: Subject, body: Callable[..., Any] | None, low: Sequence[Any]
) -> list[str] | None:
    if body is None:
        return None
    prober = subject.prober
    return [prober.dtype(x) for x in prober.value(prober.at_once(subject.function(body)), low)]


def _dtype_findings(
    trial: Trial, dtype: str, outs: Sequence[Any], plain: list[str] | None
) -> list[Finding]:
    prober = trial.subject.prober
    findings = []
    for k, (out, expected) in enumerate(zip(outs, plain or [], strict=False)):
        if prober.dtype(out) != expected:
            message = (
                f"For {dtype} arguments output {k} is {prober.dtype(out)}, where the body gives "
                f"{expected}. Let both compute in the same dtype."
            )
            findings.append(trial.finding("dtypes", "dtype", message, f"output {k}"))
    return findings


def _nudged(trial: Trial, subject: Subject, epsilon: float, salt: int) -> Values:
    rng = trial.rng(76 + salt)
    return [
        x + epsilon * direction(rng, x) if moves else x
        for x, moves in zip(subject.values, subject.moving, strict=True)
    ]


def _of_outputs(outputs: Values, bars: Sequence[Any], x: np.ndarray, dtype: str) -> float:
    """Returns what the rounding of an output, or underflow, amounts to in a cotangent of `x`.

    The one largest term alone: a sum of all would let errors pass that many outputs hide.
    """
    sizes = [
        float(np.max(np.abs(b) * np.abs(o), initial=0.0))
        for b, o in zip(bars, outputs, strict=True)
        if b is not None and np.all(np.isfinite(o))
    ]
    largest = float(np.max(np.abs(x), initial=0.0)) or 1.0
    return 8 * (_EPSILON[dtype] * max(sizes, default=0.0) / largest + _LEAST[dtype])


def _lifted(
    trial: Trial, subject: Subject, bars: Sequence[Any], exact: np.ndarray, i: int, epsilon: float
) -> Any:
    """Returns how much of a cotangent is rounding in a lower precision, as float64 shows it.

    Where terms cancel, as many digits are lost in either precision. That says nothing against a
    formula where no digit is left in float64 too: there the true derivative is zero. Where some
    are, those that a formula loses are its fault; a framework's operators may lose all but two.
    """
    target = subject.target
    plain = subject if target.body is None else subject.of(target.body)
    of = lambda s, bars: s.vjp().pull(bars)  # noqa: E731
    blur = noise(plain, trial.rng(79), of, bars)[i]
    size, lift = np.abs(exact), epsilon / subject.epsilon
    left = 0.0 if target.custom else np.minimum(blur * lift, 0.01 * size)
    return np.where(size <= blur, blur * lift, left)


def _plain(
    trial: Trial, low: Sequence[Any], low_bars: Sequence[Any], exact: Sequence[Any]
) -> list[Any]:
    """Returns how far the derivative of the plain body is off in this precision."""
    subject = trial.subject
    body = subject.target.body
    if body is None:
        return [0.0] * len(exact)
    try:
        with subject.session():
            found = subject.numpy(subject.pulled_at_once(subject.function(body), low, low_bars))
    except Exception:
        return [0.0] * len(exact)
    return [
        0.0 if f is None or e is None else np.nan_to_num(np.abs(f - e), nan=0.0, posinf=0.0)
        for f, e in zip(found, exact, strict=True)
    ]

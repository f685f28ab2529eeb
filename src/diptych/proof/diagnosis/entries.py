"""Hypotheses about the entries: a factor, a sign, a place, another constant."""

from __future__ import annotations

from typing import Any

import numpy as np

from diptych.proof.diagnosis.case import Answer, Case, close, others, pair
from diptych.proof.diagnosis.places import named_place, places

_FEW = 0.25
_NEAR = 0.1


def not_finite(case: Case) -> Answer:
    """NaN or infinite where it must not be."""
    bad = ~np.isfinite(case.found) & np.isfinite(case.expected)
    if not np.any(bad):
        return None
    where = f" {places(bad, case)}" if bad.size > 1 else ""
    return "not finite", f"It is NaN or infinite{where}, where the true one is finite."


def zero(case: Case) -> Answer:
    """Zero everywhere."""
    if np.any(case.found):
        return None
    return "zero", "It is zero everywhere: this term was dropped or detached."


def sign(case: Case) -> Answer:
    """The negative."""
    return ("sign", "Its sign is wrong: negate it.") if close(-case.found, case.expected) else None


def transposed(case: Case) -> Answer:
    """The transpose of the array."""
    if case.found.ndim < 2:
        return None
    turned = np.swapaxes(case.found, -1, -2)
    if close(turned, case.expected):
        return "transposed", "It is the transpose of the right one."
    if turned.size == case.expected.size and close(
        turned.reshape(case.expected.shape), case.expected
    ):
        return "transposed", "Its entries are those of the transpose, reshaped."
    return None


def mean(case: Case) -> Answer:
    """One over a length times the right one."""
    k = _factor(case)
    if k is None:
        return None
    arrays = (*case.inputs, *case.outputs)
    lengths = {n for x in arrays for n in (*x.shape, x.size) if n > 2}
    for n in sorted(lengths):
        if abs(k * n - 1) < 1e-4:
            return (
                "mean instead of sum",
                f"It is 1/{n} of the right one, and {n} is a length: a mean where a sum belongs.",
            )
    return None


def factor(case: Case) -> Answer:
    """A constant multiple."""
    k = _factor(case)
    if k is None:
        return None
    return "factor", f"It is {_number(k)} times the right one everywhere: divide by that."


def _factor(case: Case) -> Any:
    size = np.abs(case.expected)
    big = size > 1e-6 * float(np.max(size, initial=0.0))
    if not np.any(big):
        return None
    ratios = case.found[big] / case.expected[big]
    k = np.median(np.real(ratios)) + (
        1j * np.median(np.imag(ratios)) if np.iscomplexobj(ratios) else 0.0
    )
    if (
        not np.isfinite(k)
        or k == 0
        or abs(k - 1) < 1e-6
        or not close(case.found / k, case.expected)
    ):
        return None
    # One number is a multiple of any other: another (co)tangent tells whether it is always so.
    found, expected = pair(case, others(case))
    if not close(found / k, expected):
        return None
    return k.real if abs(np.imag(k)) < 1e-9 * abs(k) else k


def shifted(case: Case) -> Answer:
    """The right entries, at other places along an axis."""
    for axis in range(case.found.ndim):
        if case.found.shape[axis] < 3:
            continue
        if close(np.flip(case.found, axis), case.expected):
            return "shifted", f"Its entries are reversed along axis {axis}."
        for by in (1, -1, 2, -2):
            if close(np.roll(case.found, by, axis), case.expected):
                return "shifted", f"Its entries are shifted by {-by} along axis {axis}."
    return None


def in_a_few_places(case: Case) -> Answer:
    """Right nearly everywhere, or wrong exactly at a place that has a name."""
    wrong = case.gap.wrong
    if not np.any(wrong) or np.all(wrong):
        return None
    if np.mean(wrong) > _FEW and named_place(wrong, case) is None:
        return None
    return _at_places(case)


def in_some_places(case: Case) -> Answer:
    """Wrong at some entries and right at others."""
    wrong = case.gap.wrong
    if not np.any(wrong) or np.mean(wrong) > 0.9:
        return None
    return _at_places(case)


def _at_places(case: Case) -> Answer:
    wrong = case.gap.wrong
    said = "zero" if not np.any(case.found[wrong]) else "wrong"
    return "where", f"It is {said} only {places(wrong, case)}, and right everywhere else."


def other_constants(case: Case) -> Answer:
    """Nearly right at every entry, by an amount that no single factor explains."""
    if not np.all(np.isfinite(case.found)):
        return None
    difference = np.max(np.abs(case.found - case.expected), initial=0.0)
    share = float(difference) / float(np.max(np.abs(case.expected), initial=0.0))
    if share > _NEAR:
        return None
    return (
        "other constants",
        f"It is off by at most {share:.1e} of its size: a constant (eps, a threshold, n - 1 for n) "
        "or an approximation differs from that of the value.",
    )


def _number(k: Any) -> str:
    if isinstance(k, complex) or np.iscomplexobj(k):
        return f"{k:.6g}"
    for value, said in ((0.5, "1/2"), (1 / 3, "1/3"), (np.pi, "pi"), (2 * np.pi, "2 pi")):
        if abs(k - value) < 1e-6:
            return said
    return f"{k:.6g}"

"""Why a JVP or VJP is wrong: which hypothesis turns what was found into what was expected.

Each hypothesis is a function of a `Case` that returns what would explain the difference, or `None`.
They are tried in order, the most specific first; the first that fits at every entry is the cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diptych.proof.compare import Gap


@dataclass
class Case:
    """One wrong array, and what stands beside it.

    Args:
        direction: "vjp" or "jvp".
        name: the argument (of a VJP) or output (of a JVP).
        position: its position.
        found, expected: the arrays.
        gap: how they differ.
        all_found, all_expected: those of all arguments or outputs.
        inputs, outputs: the primal values.
        names: the names of the inputs.
        again: gives what was found, and what is expected, for other (co)tangents.
        vectors: the (co)tangents.
    """

    direction: str
    name: str
    position: int
    found: np.ndarray
    expected: np.ndarray
    gap: Gap
    all_found: Sequence[Any]
    all_expected: Sequence[Any]
    inputs: Sequence[np.ndarray]
    outputs: Sequence[np.ndarray]
    names: Sequence[str]
    vectors: Sequence[Any]
    again: Callable[[Sequence[Any]], tuple[Sequence[Any], Sequence[Any]]]


Answer = tuple[str, str] | None  # the cause, and what to say of it


def diagnose(case: Case) -> tuple[str, str]:
    """Returns the cause, and one sentence that says what would make it right."""
    for hypothesis in HYPOTHESES:
        try:
            answer = hypothesis(case)
        except Exception:  # a hypothesis that does not apply is none
            continue
        if answer is not None:
            return answer
    return "wrong", "No simple slip explains it: derive this term again."


def close(a: Any, b: Any) -> bool:
    """Returns whether two arrays are the same up to what rounding explains."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or not np.all(np.isfinite(a)):
        return False
    scale = float(np.max(np.abs(b), initial=0.0))
    return scale > 0 and bool(np.all(np.abs(a - b) <= 1e-5 * np.abs(b) + 1e-7 * scale))


def _not_finite(case: Case) -> Answer:
    bad = ~np.isfinite(case.found) & np.isfinite(case.expected)
    if not np.any(bad):
        return None
    return (
        "not finite",
        f"It is NaN or infinite {_places(bad, case)}, where the true one is finite.",
    )


def _zero(case: Case) -> Answer:
    if np.any(case.found):
        return None
    return "zero", "It is zero everywhere: this term was dropped or detached."


def _sign(case: Case) -> Answer:
    return ("sign", "Its sign is wrong: negate it.") if close(-case.found, case.expected) else None


def _conjugate(case: Case) -> Answer:
    if case.found.dtype.kind != "c" and case.expected.dtype.kind != "c":
        return None
    if close(np.conj(case.found), case.expected):
        return "conjugate", "It is the complex conjugate of the right one: the VJP is the adjoint."
    return None


def _swapped(case: Case) -> Answer:
    for i, (found, expected) in enumerate(zip(case.all_found, case.all_expected, strict=True)):
        if i == case.position or found is None or expected is None:
            continue
        if close(case.found, expected) and close(found, case.expected):
            other = case.names[i] if case.direction == "vjp" else f"output {i}"
            return "swapped", f"It is exchanged with that of '{other}'."
    return None


def _transposed(case: Case) -> Answer:
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


def _axis_factor(case: Case) -> Answer:
    """A factor that is a length, or one over it: a mean for a sum, or a sum that was dropped."""
    k = _factor(case)
    if k is None:
        return None
    lengths = {n for x in (*case.inputs, *case.outputs) for n in x.shape if n > 1}
    lengths |= {x.size for x in (*case.inputs, *case.outputs) if x.size > 1}
    for n in sorted(lengths):
        if abs(k * n - 1) < 1e-4 and n > 2:
            return (
                "mean instead of sum",
                f"It is 1/{n} of the right one, and {n} is a length: a mean where a sum belongs.",
            )
    return None


def _constant_factor(case: Case) -> Answer:
    k = _factor(case)
    if k is None:
        return None
    return "factor", f"It is {_number(k)} times the right one everywhere: divide by that."


def _factor(case: Case) -> Any:
    size = np.abs(case.expected)
    big = size > 1e-6 * float(np.max(size, initial=0.0))
    if not np.any(big) or case.expected.size < 1:
        return None
    ratios = case.found[big] / case.expected[big]
    k = np.median(np.real(ratios)) + (
        1j * np.median(np.imag(ratios)) if np.iscomplexobj(ratios) else 0.0
    )
    if not np.isfinite(k) or k == 0 or abs(k - 1) < 1e-6:
        return None
    if close(case.found / k, case.expected):
        # One number is a multiple of any other: another (co)tangent tells whether it is always so.
        if case.expected.size <= 2:
            found, expected = case.again(_others(case.vectors))
            a, b = np.asarray(found[case.position]), np.asarray(expected[case.position])
            if not close(a / k, b):
                return None
        return k.real if abs(np.imag(k)) < 1e-9 * abs(k) else k
    return None


def _others(vectors: Sequence[Any]) -> list[Any]:
    rng = np.random.default_rng(23)
    return [None if v is None else v * rng.uniform(0.3, 2.0, np.shape(v)) for v in vectors]


def _missing_sum(case: Case) -> Answer:
    """One slice, or the first or last entry, in place of the sum over a broadcast axis."""
    if case.direction != "vjp" or not np.shape(case.expected):
        return None
    shape = case.expected.shape
    for out in case.outputs:
        extra = out.ndim - len(shape)
        axes = [i for i in range(out.ndim) if i < extra]
        axes += [i for i in range(extra, out.ndim) if shape[i - extra] == 1 != out.shape[i]]
        if axes and not _linear_in_all_rows(case):
            listed = ", ".join(map(str, axes))
            return (
                "missing sum",
                f"'{case.name}' was broadcast: sum the cotangent over axis {listed}.",
            )
    return None


def _linear_in_all_rows(case: Case) -> bool:
    """Returns whether what was found changes with every part of the output's cotangent."""
    vectors = [None if v is None else np.array(v) for v in case.vectors]
    base = case.found
    for k, v in enumerate(vectors):
        if v is None or v.ndim == 0 or v.shape[0] < 2:
            continue
        for row in (0, v.shape[0] - 1):
            part = v.copy()
            part[row] *= 3.0
            changed = [*vectors[:k], part, *vectors[k + 1 :]]
            if close(case.again(changed)[0][case.position], base):
                return False
    return True


def _without(vectors: Sequence[Any], k: int) -> list[Any]:
    """Returns the (co)tangents with zero in place of one of them."""
    return [
        np.zeros_like(v) if i == k and v is not None else v for i, v in enumerate(vectors)
    ]  # fmt: skip


def _ignored_output(case: Case) -> Answer:
    live = [k for k, v in enumerate(case.vectors) if v is not None]
    if case.direction != "vjp" or len(live) < 2:
        return None
    for k in live:
        without = [
            None if v is None else (np.zeros_like(v) if i == k else v)
            for i, v in enumerate(case.vectors)
        ]
        found, expected = case.again(without)
        if close(case.found, found[case.position]) and close(case.found, expected[case.position]):
            return "ignored output", f"The cotangent of output {k} is ignored."
    return None


def _missing_term(case: Case) -> Answer:
    live = [k for k, v in enumerate(case.vectors) if v is not None]
    if case.direction != "jvp" or len(live) < 2:
        return None
    for k in live:
        without = [
            None if v is None else (np.zeros_like(v) if i == k else v)
            for i, v in enumerate(case.vectors)
        ]
        _, expected = case.again(without)
        if close(case.found, expected[case.position]):
            return "missing term", f"The term of '{case.names[k]}' is missing."
    return None


def _ignored_cotangent(case: Case) -> Answer:
    found, expected = case.again(_others(case.vectors))
    if close(found[case.position], case.found) and not close(
        expected[case.position], case.expected
    ):
        what = "cotangent" if case.direction == "vjp" else "tangent"
        return "ignored cotangent", f"It does not depend on the {what}: multiply by it."
    return None


def _shifted(case: Case) -> Answer:
    for axis in range(case.found.ndim):
        if case.found.shape[axis] < 3:
            continue
        if close(np.flip(case.found, axis), case.expected):
            return "shifted", f"Its entries are reversed along axis {axis}."
        for by in (1, -1):
            if close(np.roll(case.found, by, axis), case.expected):
                return "shifted", f"Its entries are shifted by one along axis {axis}."
    return None


def _where(case: Case) -> Answer:
    wrong = case.gap.wrong
    if not np.any(wrong) or np.all(wrong) or np.mean(wrong) > 0.9:
        return None
    zero = not np.any(case.found[wrong])
    said = "zero" if zero else "wrong"
    return "where", f"It is {said} only {_places(wrong, case)}, and right everywhere else."


def _other_constants(case: Case) -> Answer:
    if case.gap.error < 1e-2 and not np.any(~np.isfinite(case.found)):
        size = np.abs(case.expected)
        share = np.where(size > 0, np.abs(case.found - case.expected) / np.maximum(size, 1e-300), 0)
        return (
            "other constants",
            f"It is off by at most {float(np.max(share, initial=0.0)):.1e} of itself: a constant "
            "or an approximation differs from that of the value.",
        )
    return None


def _places(wrong: np.ndarray, case: Case) -> str:
    """Returns in words where entries are wrong."""
    found = [np.asarray(i) for i in np.nonzero(wrong)]
    total = int(np.sum(wrong))
    if total == 1:
        return f"at index {tuple(int(i[0]) for i in found)}"
    name, x = case.name, _same_shape(case)
    if x is not None and not np.iscomplexobj(x):
        for said, mask in _masks(x).items():
            if np.all(mask[wrong]) and np.mean(wrong[mask]) > 0.95:
                return f"where {said.format(name)}"
    shape = wrong.shape
    if len(shape) >= 2 and shape[-1] == shape[-2]:
        eye = np.broadcast_to(np.eye(shape[-1], dtype=bool), shape)
        if np.array_equal(eye, wrong):
            return "on the diagonal"
        if np.array_equal(~eye, wrong):
            return "off the diagonal"
        lower = np.broadcast_to(np.tril(np.ones(shape[-2:], bool), -1), shape)
        if np.all(lower[wrong]):
            return "below the diagonal"
        if np.all(~lower[wrong] & ~eye[wrong]):
            return "above the diagonal"
    for axis, (indices, n) in enumerate(zip(found, shape, strict=True)):
        low, high = int(indices.min()), int(indices.max())
        if n < 2:
            continue
        if low == high:
            which = {0: "first", n - 1: "last"}.get(low, f"index-{low}")
            return f"in the {which} entry along axis {axis}"
        if high == n - 1 and low > 0 and (high - low + 1) < 0.8 * n:
            return f"in the last block along axis {axis} (from index {low})"
        if low == 0 and high < n - 1 and (high + 1) < 0.8 * n:
            return f"in the first block along axis {axis} (up to index {high})"
    first = tuple(int(i[0]) for i in found)
    return f"at {total} of {wrong.size} entries, the first at index {first}"


def _same_shape(case: Case) -> np.ndarray | None:
    if case.direction == "vjp":
        return case.inputs[case.position]
    fitting = [x for x in case.inputs if x.shape == case.found.shape]
    return fitting[0] if fitting else None


def _masks(x: np.ndarray) -> dict[str, np.ndarray]:
    flat = np.ravel(x)
    values, counts = np.unique(flat, return_counts=True)
    tied = np.isin(x, values[counts > 1])
    size = np.abs(x)
    return {
        "{} < 0": x < 0,
        "{} > 0": x > 0,
        "{} == 0": x == 0,
        "{} <= 0": x <= 0,
        "{} >= 0": x >= 0,
        "|{}| > 1": size > 1,
        "|{}| < 1": size < 1,
        "entries of {} are tied": tied,
        "{} is largest": x == np.max(x, initial=-np.inf),
        "{} is smallest": x == np.min(x, initial=np.inf),
    }


def _number(k: Any) -> str:
    if isinstance(k, complex) or np.iscomplexobj(k):
        return f"{k:.6g}"
    for value, said in ((0.5, "1/2"), (1 / 3, "1/3"), (np.pi, "pi"), (2 * np.pi, "2 pi")):
        if abs(k - value) < 1e-6:
            return said
    return f"{k:.6g}"


HYPOTHESES: tuple[Callable[[Case], Answer], ...] = (
    _not_finite,
    _zero,
    _sign,
    _swapped,
    _conjugate,
    _transposed,
    _ignored_output,
    _missing_term,
    _axis_factor,
    _constant_factor,
    _ignored_cotangent,
    _shifted,
    _missing_sum,
    _other_constants,
    _where,
)

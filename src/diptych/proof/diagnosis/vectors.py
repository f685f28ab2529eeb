"""Hypotheses about which (co)tangents count: ignored, conjugated, exchanged, not linear."""

from __future__ import annotations

import numpy as np

from diptych.proof.diagnosis.case import Answer, Case, close, live, others, pair, without, word


def not_repeated(case: Case) -> Answer:
    """The same (co)tangent gives something else the second time."""
    found, _ = pair(case, case.vectors)
    same = np.isclose(found, case.found, rtol=1e-9, atol=0.0, equal_nan=True)
    if np.all(same):
        return None
    return (
        "state",
        f"Asked again with the same {word(case)} it gives something else: what it computes with "
        "is changed by each call.",
    )


def ignored(case: Case) -> Answer:
    """The result does not depend on the (co)tangent."""
    found, expected = pair(case, others(case))
    if close(found, case.found) and not close(expected, case.expected):
        return "ignored cotangent", f"It does not depend on the {word(case)}: multiply by it."
    return None


def not_linear(case: Case) -> Answer:
    """A small multiple of the (co)tangent does not give that multiple."""
    for scale in (1e-3, 1e3):
        found, _ = pair(case, [None if v is None else v * scale for v in case.vectors])
        if not close(found, scale * case.found) and np.any(case.found):
            return (
                "not linear",
                f"It is not linear in the {word(case)}: {scale:g} times the {word(case)} does not "
                f"give {scale:g} times as much.",
            )
    return None


def swapped(case: Case) -> Answer:
    """Two arguments, or outputs, have each other's."""
    for i, (found, expected) in enumerate(zip(case.all_found, case.all_expected, strict=True)):
        if i == case.position or found is None or expected is None:
            continue
        if close(case.found, expected) and close(found, case.expected):
            other = case.names[i] if case.direction == "vjp" else f"output {i}"
            return "swapped", f"It is exchanged with that of '{other}'."
    return None


def conjugate(case: Case) -> Answer:
    """The complex conjugate, of the whole or of what the (co)tangent is multiplied by."""
    if case.found.dtype.kind != "c" and case.expected.dtype.kind != "c":
        return None
    said = "conjugate", "It is the complex conjugate of the right one: the VJP is the adjoint."
    if close(np.conj(case.found), case.expected):
        return said
    real = [None if v is None else np.asarray(np.real(v), v.dtype) for v in case.vectors]
    found, expected = pair(case, real)
    if close(np.conj(found), expected):
        return (
            "conjugate",
            f"For a real {word(case)} it is the complex conjugate of the right one: conjugate "
            f"what the {word(case)} is multiplied by.",
        )
    return None


def real_part(case: Case) -> Answer:
    """The imaginary part is lost."""
    if case.expected.dtype.kind != "c" or not np.any(np.imag(case.expected)):
        return None
    if close(np.real(case.found), np.real(case.expected)) and not np.any(np.imag(case.found)):
        return "real part", "Its imaginary part is lost: only the real part is right."
    return None


def ignored_output(case: Case) -> Answer:
    """The cotangent of one output has no effect, and leaving it out explains the rest."""
    if case.direction != "vjp" or len(live(case)) < 2:
        return None
    for k in live(case):
        found, expected = pair(case, without(case, k))
        if close(case.found, found) and close(case.found, expected):
            return "ignored output", f"The cotangent of output {k} is ignored."
    return None


def missing_argument(case: Case) -> Answer:
    """The tangent lacks the term of one argument."""
    if case.direction != "jvp" or len(live(case)) < 2:
        return None
    for k in live(case):
        _, expected = pair(case, without(case, k))
        if close(case.found, expected):
            return "missing term", f"The term of '{case.names[k]}' is missing."
    for k in live(case):
        alone = [v if v is None or i == k else np.zeros_like(v) for i, v in enumerate(case.vectors)]
        found, expected = pair(case, alone)
        rest_found, rest_expected = pair(case, without(case, k))
        if close(found, expected) or not close(rest_found, rest_expected):
            continue
        ratio = _ratio(found, expected)
        if ratio is not None:
            return "factor", f"The term of '{case.names[k]}' is {ratio:.6g} times the right one."
        return "wrong", f"Only the term of '{case.names[k]}' is wrong: derive that one again."
    return None


def _ratio(found: np.ndarray, expected: np.ndarray) -> float | None:
    big = np.abs(expected) > 1e-6 * float(np.max(np.abs(expected), initial=0.0))
    if not np.any(big) or np.iscomplexobj(found):
        return None
    k = float(np.median(found[big] / expected[big]))
    return k if k and close(found / k, expected) else None


def broadcast(case: Case) -> Answer:
    """One slice in place of the sum over an axis along which the argument was broadcast."""
    if case.direction != "vjp" or not np.shape(case.expected):
        return None
    shape = case.expected.shape
    for out in case.outputs:
        extra = out.ndim - len(shape)
        if extra < 0:
            continue
        axes = [i for i in range(out.ndim) if i < extra]
        axes += [i for i in range(extra, out.ndim) if shape[i - extra] == 1 != out.shape[i]]
        if axes and not _every_slice_counts(case, axes):
            listed = ", ".join(map(str, axes))
            return (
                "missing sum",
                f"'{case.name}' was broadcast: sum the cotangent over axis {listed}.",
            )
    return None


def _every_slice_counts(case: Case, axes: list[int]) -> bool:
    """Returns whether what was found changes with each end of the cotangent along these axes."""
    for k in live(case):
        v = np.asarray(case.vectors[k])
        for axis in axes:
            if axis >= v.ndim or v.shape[axis] < 2:
                continue
            for end in (0, v.shape[axis] - 1):
                part = np.moveaxis(v.copy(), axis, 0)
                part[end] *= 3.0
                vectors = list(case.vectors)
                vectors[k] = np.ascontiguousarray(np.moveaxis(part, 0, axis))
                if close(pair(case, vectors)[0], case.found):
                    return False
    return True

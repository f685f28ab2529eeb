"""Hypotheses about the whole linear map: transposed, along another axis, a coupling term missing.

The map of a small case is measured as a matrix, one (co)tangent for each column, and what was
found is compared with what was expected as matrices.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from diptych.proof.diagnosis.case import Answer, Case, close, live, others, pair, word

_LARGEST = 64


def other_axis(case: Case) -> Answer:
    """It is right for the (co)tangent with two axes exchanged."""
    if len(live(case)) != 1:
        return None
    (k,) = live(case)
    v = np.asarray(case.vectors[k])
    for i in range(v.ndim):
        for j in range(i + 1, v.ndim):
            if v.shape[i] != v.shape[j] or v.shape[i] < 2:
                continue
            vectors = list(case.vectors)
            vectors[k] = np.ascontiguousarray(np.swapaxes(v, i, j))
            if close(pair(case, vectors)[0], case.expected):
                return "axis", f"It is right with axes {i} and {j} of the {word(case)} exchanged."
    return None


def transposed(case: Case) -> Answer:
    """The map is its own transpose: J in place of J* or the reverse."""
    for found, expected in _matrices(case):
        if found.shape[0] != found.shape[1]:
            continue
        if close(np.conj(found.T), expected) or close(found.T, expected):
            if set(np.unique(expected)) <= {0.0, 1.0} and np.all(np.sum(expected, 0) == 1):
                return (
                    "transposed",
                    "The inverse permutation is applied: scatter where it gathers, or the reverse.",
                )
            return "transposed", "The map is transposed: J stands where its adjoint belongs."
    return None


def shifted(case: Case) -> Answer:
    """The map is right after a shift or reversal of its (co)tangent."""
    for found, expected in _matrices(case):
        if len(found) < 3:
            continue
        for axis, said in ((0, word(case)), (1, "result")):
            if close(np.flip(found, axis), expected):
                return "shifted", f"It is right with the {said} reversed."
            for by in (1, -1, 2, -2):
                if close(np.roll(found, by, axis), expected):
                    return "shifted", f"It is right with the {said} shifted by {by}."
    return None


def uncoupled(case: Case) -> Answer:
    """Right where it is not zero: the terms that couple entries are missing."""
    for found, expected in _matrices(case):
        scale = float(np.max(np.abs(expected), initial=0.0))
        kept = np.abs(found) > 1e-9 * scale
        lost = ~kept & (np.abs(expected) > 1e-6 * scale)
        if np.any(kept) and np.mean(lost) > 0.1 and close(found[kept], expected[kept]):
            square = found.shape[0] == found.shape[1]
            diagonal = square and not np.any(kept & ~np.eye(len(found), dtype=bool))
            which = "the diagonal of the Jacobian" if diagonal else "a part of the Jacobian"
            return (
                "missing term",
                f"It is {which} alone: the sum over the other entries is missing.",
            )
    return None


def through_a_few(case: Case) -> Answer:
    """Only what it makes of some entries of its (co)tangent is wrong."""
    for found, expected in _matrices(case):
        scale = float(np.max(np.abs(expected), initial=0.0))
        off = np.max(np.abs(found - expected), axis=1)
        wrong = off > 1e-3 * scale
        if 0 < np.mean(wrong) <= 0.4 and np.all(off[~wrong] <= 1e-6 * scale):
            rows = np.flatnonzero(wrong)
            listed = ", ".join(str(int(r)) for r in rows[:4])
            more = ", ..." if len(rows) > 4 else ""
            return (
                "where",
                f"It is right but for what it makes of the {word(case)} at "
                f"flat index {listed}{more} of {len(wrong)}.",
            )
    return None


def missing_sum_term(case: Case) -> Answer:
    """The difference is one fixed vector along an axis, times a number: a sum left out.

    Means, norms and normalising constants add such terms: `b * sum(a * bar)` along an axis. For
    several (co)tangents the difference then spans one dimension (two for a mean and a norm), where
    the derivative itself spans all.
    """
    samples = [(case.found, case.expected)]
    samples += [pair(case, others(case, 31 + k)) for k in range(5)]
    difference = np.array([f - e for f, e in samples])
    expected = np.array([e for _, e in samples])
    if not np.all(np.isfinite(difference)):
        return None
    least = 1e-6 * float(np.max(np.abs(difference), initial=0.0))
    for axis in range(case.found.ndim - 1, -1, -1):
        n = case.found.shape[axis]
        if n < 3:
            continue
        slices = _slices(difference, axis), _slices(expected, axis)
        rank, full = (max(_rank(s) for s in part) for part in slices)
        entries = max(int(np.sum(np.max(np.abs(s), axis=0) > least)) for s in slices[0])
        # So few dimensions say something only where more entries than that are wrong.
        if 1 <= rank <= 2 and rank < full and rank + 1 < entries:
            return (
                "missing term",
                f"What is wrong is one term: a sum over axis {axis}, as that of a mean, a norm or "
                "a normalising constant, is missing or has another factor.",
            )
    return None


def _slices(samples: np.ndarray, axis: int) -> list[np.ndarray]:
    """Returns one matrix for each slice: samples by entries along the axis."""
    moved = np.moveaxis(samples, axis + 1, -1)
    flat = moved.reshape(len(samples), -1, samples.shape[axis + 1])
    return [flat[:, i, :] for i in range(flat.shape[1])]


def _rank(matrix: np.ndarray) -> int:
    values = np.linalg.svd(matrix, compute_uv=False)
    return int(np.sum(values > 1e-6 * max(values[0], 1e-300)))


def _matrices(case: Case) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the map of each small vector, as found and as expected."""
    measured = []
    for k in live(case):
        v = np.asarray(case.vectors[k])
        if v.size > _LARGEST or v.size < 2 or case.found.size > _LARGEST:
            continue
        rows: list[tuple[np.ndarray, np.ndarray]] = []
        for index in np.ndindex(v.shape):
            vectors: list[Any] = [None if u is None else np.zeros_like(u) for u in case.vectors]
            vectors[k][index] = 1.0
            rows.append(pair(case, vectors))
        found, expected = (np.array([np.ravel(r[i]) for r in rows]) for i in (0, 1))
        measured.append((found, expected))
    return measured

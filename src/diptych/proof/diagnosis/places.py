"""Where entries are wrong, in words."""

from __future__ import annotations

import numpy as np

from diptych.proof.diagnosis.case import Case


def places(wrong: np.ndarray, case: Case) -> str:
    """Returns in words where entries are wrong."""
    named = named_place(wrong, case)
    if named is not None:
        return named
    found = [np.asarray(i) for i in np.nonzero(wrong)]
    total = int(np.sum(wrong))
    first = tuple(int(i[0]) for i in found)
    return f"at {total} of {wrong.size} entries, the first at index {first}"


def named_place(wrong: np.ndarray, case: Case) -> str | None:
    """Returns the name of exactly these entries: by value, by the diagonal, by an axis."""
    if int(np.sum(wrong)) == 1:
        return f"at index {tuple(int(i[0]) for i in np.nonzero(wrong))}"
    return _by_value(wrong, case) or _by_diagonal(wrong) or _by_axis(wrong)


def _by_value(wrong: np.ndarray, case: Case) -> str | None:
    x = _same_shape(case)
    if x is None or np.iscomplexobj(x) or x.shape != wrong.shape:
        return None
    name = case.name if case.direction == "vjp" else "the argument"
    for said, mask in _masks(x).items():
        if np.all(mask[wrong]) and np.mean(wrong[mask]) > 0.95:
            return f"where {said.format(name)}"
    # Of so few entries, chance alone often parts some from the rest.
    if wrong.size < 6 or np.sum(wrong) < 2 or np.sum(~wrong) < 2:
        return None
    # Of what is between the two, no entry tells.
    for said, size in ((name, x), (f"|{name}|", np.abs(x))):
        low, high = float(np.max(size[~wrong])), float(np.min(size[wrong]))
        if low < high:
            return f"where {said} >= {high:.3g}"
        low, high = float(np.max(size[wrong])), float(np.min(size[~wrong]))
        if low < high:
            return f"where {said} <= {low:.3g}"
    return None


def _by_diagonal(wrong: np.ndarray) -> str | None:
    shape = wrong.shape
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] < 2:
        return None
    eye = np.broadcast_to(np.eye(shape[-1], dtype=bool), shape)
    lower = np.broadcast_to(np.tril(np.ones(shape[-2:], bool), -1), shape)
    named = {
        "on the diagonal": eye,
        "off the diagonal": ~eye,
        "below the diagonal": lower,
        "above the diagonal": ~lower & ~eye,
    }
    return next((said for said, mask in named.items() if np.array_equal(mask, wrong)), None)


def _by_axis(wrong: np.ndarray) -> str | None:
    for axis, n in enumerate(wrong.shape):
        if n < 2:
            continue
        indices = np.nonzero(wrong)[axis]
        low, high = int(indices.min()), int(indices.max())
        whole = np.any(wrong, axis=tuple(k for k in range(wrong.ndim) if k != axis))
        if low == high:
            which = {0: "first", n - 1: "last"}.get(low, f"index-{low}")
            return f"in the {which} entry along axis {axis}"
        if not np.all(whole[low : high + 1]):
            continue
        if high == n - 1 and 0 < low and (high - low + 1) < 0.8 * n:
            return f"in the last block along axis {axis} (from index {low})"
        if low == 0 and high < n - 1 and (high + 1) < 0.8 * n:
            return f"in the first block along axis {axis} (up to index {high})"
    return None


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

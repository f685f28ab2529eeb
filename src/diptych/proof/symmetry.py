"""Which arguments are symmetric by contract: only one triangle of them is read.

Cholesky factors and eigenvalues of a symmetric matrix are computed from one triangle, and their
derivatives are stated for symmetric tangents. An entry moved by itself would leave the matrices
that the function is about: there, either triangle may get the cotangent, or each a half.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diptych.proof.subject import Subject


def symmetric_arguments(subject: Subject) -> tuple[int, ...]:
    """Returns the positions of the arrays that are symmetric by contract.

    Such an array is symmetric in the example, one of its triangles has no influence on the value,
    and its cotangent has entries in both. (One that has them in the unread triangle alone is
    wrong.) Where the derivative is not stated by somebody, but that of the framework's own
    operators, the example may be any matrix, as these take any.
    """
    return tuple(i for i in range(len(subject.values)) if _by_contract(subject, i))


def _by_contract(subject: Subject, i: int) -> bool:
    x = subject.values[i]
    if not subject.moving[i] or x.ndim < 2 or x.shape[-1] != x.shape[-2] or x.shape[-1] < 2:
        return False
    if not x.size:
        return False
    if subject.target.custom and not np.allclose(x, np.conj(np.swapaxes(x, -1, -2)), rtol=1e-6):
        return False
    try:
        ignored = [side for side in (np.triu, np.tril) if _ignored(subject, i, side)]
        if len(ignored) != 1:
            return False
        bar = subject.vjp().pull(subject.bars(np.random.default_rng(41)))[i]
    except Exception:
        return False
    return bar is not None and all(np.any(_side(side, bar)) for side in (np.triu, np.tril))


def _ignored(subject: Subject, i: int, side: Callable[..., np.ndarray]) -> bool:
    """Returns whether the value is the same where a triangle is other."""
    values = list(subject.values)
    ones = np.ones_like(values[i])
    values[i] = values[i] + 0.01 * np.abs(values[i]).max() * _side(side, ones)
    return all(
        np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
        for a, b in zip(subject.value(values=values), subject.outputs, strict=True)
    )


def _side(side: Callable[..., np.ndarray], x: np.ndarray) -> np.ndarray:
    """Returns the entries above, or below, the diagonal."""
    return side(x, 1 if side is np.triu else -1)

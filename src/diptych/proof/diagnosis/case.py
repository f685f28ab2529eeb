"""One wrong array, with what stands beside it, and how arrays are compared in a diagnosis."""

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


def close(a: Any, b: Any) -> bool:
    """Returns whether two arrays are the same up to what rounding explains."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or not np.all(np.isfinite(a)):
        return False
    scale = float(np.max(np.abs(b), initial=0.0))
    return scale > 0 and bool(np.all(np.abs(a - b) <= 1e-5 * np.abs(b) + 1e-7 * scale))


def word(case: Case) -> str:
    """Returns what the vectors of this direction are called."""
    return "cotangent" if case.direction == "vjp" else "tangent"


def live(case: Case) -> list[int]:
    """Returns the positions of the vectors that are there."""
    return [k for k, v in enumerate(case.vectors) if v is not None]


def without(case: Case, k: int) -> list[Any]:
    """Returns the vectors with zero in place of one of them."""
    return [np.zeros_like(v) if i == k and v is not None else v for i, v in enumerate(case.vectors)]


def others(case: Case, seed: int = 23) -> list[Any]:
    """Returns the vectors with each entry scaled and some turned round, differently for each."""
    rng = np.random.default_rng(seed)
    return [
        None
        if v is None
        else np.asarray(v * rng.uniform(0.3, 2.0, v.shape) * rng.choice([-1.0, 1.0], v.shape))
        for v in case.vectors
    ]


def pair(case: Case, vectors: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns what is found and what is expected at the case's position for other vectors."""
    found, expected = case.again(vectors)
    return np.asarray(found[case.position]), np.asarray(expected[case.position])

"""Random vectors in the scale of the arrays that they belong to, and their inner products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def random_like(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Returns random numbers of about unit size, none of them near zero."""
    found = _signed(rng, x.shape)
    if x.dtype.kind == "c":
        found = found + 1j * _signed(rng, x.shape)
    return np.asarray(found, x.dtype)


def _signed(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    found = rng.uniform(-1.0, 1.0, shape)
    return found + np.copysign(0.5, found)


def direction(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Returns random numbers each about as large as the entry they belong to.

    A step along it changes every entry by the same share, so that one step length fits all; a zero
    entry moves as the largest does.
    """
    return np.asarray(random_like(rng, x) * sizes(x), x.dtype)


def sizes(x: np.ndarray) -> np.ndarray:
    """Returns the sizes of entries, where one of zero is as large as the largest."""
    size = np.abs(x)
    largest = float(size.max(initial=0.0)) or 1.0
    return np.where(size > 1e-12 * largest, size, largest)


def inner(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Returns `Re(sum(conj(a) * b))`, where `None` is zero."""
    return float(sum([np.real(_dot(x, y)) for x, y in _pairs(a, b)]))


def inner_size(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Returns the sum of the sizes of an inner product's terms."""
    return float(sum([_dot(np.abs(x), np.abs(y)) for x, y in _pairs(a, b)]))


def _pairs(a: Sequence[Any], b: Sequence[Any]) -> list[tuple[Any, Any]]:
    return [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]


def _dot(x: Any, y: Any) -> Any:
    return np.vdot(x, y) if np.shape(x) == np.shape(y) else np.sum(np.conj(x) * y)


def split(rng: np.random.Generator, dots: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Returns two random tangents whose sum is the one given, some entries of either turned."""
    part = [None if d is None else d * rng.uniform(-1, 2, d.shape) for d in dots]
    rest = [None if p is None else d - p for d, p in zip(dots, part, strict=True)]
    return part, rest

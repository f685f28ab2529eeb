"""Second derivatives along random directions, by any nesting of the two modes, and first ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from diptych.proof.differences import SLOW
from diptych.proof.subject import Subject
from diptych.proof.vectors import inner


def slopes(
    subject: Subject,
    first: str,
    second: str,
    bars: Sequence[Any],
    dots: Sequence[Any],
    weights: Sequence[Any],
    directions: Sequence[Sequence[Any]],
    function: Callable[..., list[Any]] | None = None,
) -> list[float]:
    """Returns the slope of the contracted first derivative along each direction.

    Args:
        subject: the point.
        first: the mode of the first derivative.
        second: that of the second.
        bars: the cotangents of the first derivative.
        dots: its tangents.
        weights: what cotangents are contracted with; tangents are with `bars`.
        directions: along which the slope is taken.
        function: of the subject's arrays; the subject's own if it is not given.
    """
    prober, moving = subject.prober, subject.moving
    function = subject.function() if function is None else function
    given = bars if first == "reverse" else dots
    along = [x for x in (weights if first == "reverse" else bars) if x is not None]
    n, m = len(moving), len(moving) + len(given)

    def bent(*arrays: Any) -> list[Any]:
        xs, vectors, rest = arrays[:n], arrays[n:m], arrays[m:]
        if first == "reverse":
            derivative = prober.gradient(function, vectors, moving)
        else:
            derivative = prober.tangent(function, vectors)
        if second == "reverse":
            return prober.vjp(derivative, xs, moving)[1](rest)
        return prober.jvp(derivative, xs, rest)[1]

    whole = subject.program(("slopes", first, second, function), lambda: bent)

    def run(last: Sequence[Any]) -> list[Any]:
        with subject.session():
            return subject.numpy(whole(*subject.arrays([*subject.values, *given, *last])))

    if second == "reverse":
        pulled = run(along)
        return [inner(pulled, direction) for direction in directions]
    return [inner(along, run(direction)) for direction in directions]


def contracted(
    subject: Subject, mode: str, bars: Sequence[Any], dots: Sequence[Any], along: Sequence[Any]
) -> Callable[..., list[Any]]:
    """Returns one derivative, contracted to one real number, as a function of the arrays."""
    prober = subject.prober
    if mode == "reverse":
        found = prober.gradient(subject.function(), subject.arrays(bars), subject.moving)
    else:
        found = prober.tangent(subject.function(), subject.arrays(dots))
    weights = subject.arrays([x for x in (along if mode == "reverse" else bars) if x is not None])

    number = weighed(found, weights)
    number.pushes = mode == "forward"  # type: ignore[attr-defined]  # ours
    return number


def weighed(f: Callable[..., Sequence[Any]], weights: Sequence[Any]) -> Callable[..., list[Any]]:
    """Returns `Re <f, weights>`, one real number, as a function of the arrays."""

    def number(*arrays: Any) -> list[Any]:
        total: Any = 0.0
        for x, w in zip(f(*arrays), weights, strict=True):
            product = x.conj() * w
            total = total + (product.real if "complex" in str(product.dtype) else product).sum()
        return [total]

    return number


class Line:
    """The first derivative, contracted to one number, along a line; each value computed once.

    Args:
        subject: the point.
        mode: by which it is taken.
        bars, dots: the vectors.
        direction: of the line.
    """

    def __init__(
        self,
        subject: Subject,
        mode: str,
        bars: Sequence[Any],
        dots: Sequence[Any],
        direction: Sequence[Any],
    ):
        self.subject, self.mode = subject, mode
        self.bars, self.dots, self.direction = bars, dots, direction
        self.slope = (0.0, np.inf)
        self.values: dict[float, np.ndarray] = {}
        self._slow = 0

    def __call__(self, h: float) -> np.ndarray:
        """Returns the number at a step along the line."""
        if h not in self.values:
            started = time.perf_counter()
            try:
                self.values[h] = self._at(h)
            except Exception:
                if not h:
                    raise
                self.values[h] = np.array([np.nan])  # the function may end nearby
            self._slow += time.perf_counter() - started > SLOW
        return self.values[h]

    def _at(self, h: float) -> np.ndarray:
        moved = [
            x if d is None else x + h * d
            for x, d in zip(self.subject.values, self.direction, strict=True)
        ]
        if self._slow > 1:  # the first call may have compiled something
            with self.subject.session():
                return np.real(self.subject.numpy(self._steady(*self.subject.arrays(moved))))
        point = self.subject.at(moved)
        if self.mode == "forward":
            return np.array([inner(self.bars, point.jvp(self.dots)[1])])
        return np.array([inner(point.vjp().pull(self.bars), self.dots)])

    @cached_property
    def _steady(self) -> Callable[..., list[Any]]:
        number = contracted(self.subject, self.mode, self.bars, self.dots, self.dots)
        return self.subject.prober.steady(number)

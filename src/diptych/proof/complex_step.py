"""The derivative by a step along the imaginary axis, which loses no digits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diptych.arguments import flatten
from diptych.proof.differences import NUDGES, Measured, nudged, spread
from diptych.proof.subject import Subject, Values


class ByComplexStep:
    """`Im f(x + i h t) / h`: exact to rounding in `f`, for real analytic functions of NumPy arrays.

    Squire and Trapp 1998, "Using complex variables to estimate derivatives of real functions",
    SIAM Review 40(1).

    Args:
        subject: the point; all arrays real.
        body: the function, in array-API calls, so that it runs on complex NumPy arrays.
    """

    name = "complex step"
    full = False
    _STEP = 1e-40

    def __init__(self, subject: Subject, body: Callable[..., Any]):
        self.subject = subject
        self.body = body

    def push(self, dots: Sequence[Any]) -> Measured:
        """Returns the tangents of the outputs along one direction."""
        # The step loses no digits, but the body may: as much as rounding of its arguments shows.
        rng = np.random.default_rng(7)
        points = [self.subject.values, *(nudged(rng, self.subject) for _ in range(NUDGES))]
        return spread([self._at(values, dots) for values in points])

    def _at(self, values: Values, dots: Sequence[Any]) -> list[Any]:
        moved = [
            x if d is None else x + 1j * self._STEP * d for x, d in zip(values, dots, strict=True)
        ]
        out = self.body(*self.subject.example.arguments(moved))
        outs = [np.asarray(x) for x in flatten(out)[0]]
        return [np.imag(x) / self._STEP if x.dtype.kind in "fc" else None for x in outs]

    def pull(self, bars: Sequence[Any]) -> Measured:
        """Not to be had of a few evaluations."""
        raise NotImplementedError

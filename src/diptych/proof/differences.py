"""The reference of last resort: extrapolated differences of a function's own values."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from diptych.proof.richardson import Slope, slope
from diptych.proof.subject import Subject, Values
from diptych.proof.vectors import direction, inner, inner_size, split

# So many entries are looked at one by one where the reference is a difference; more by random
# directions, of which each finds a wrong entry unless it cancels.
AXES = 24
DIRECTIONS = 4
NUDGES = 2
_SPLITS = 4
SLOW = 0.02  # seconds


class Measured(NamedTuple):
    """What a reference says.

    Args:
        values: one array for each output (of a JVP) or input (of a VJP); `None`: has none.
        errors: how far each entry may be off.
    """

    values: list[Any]
    errors: list[Any]


class ByDifferences:
    """Extrapolated differences of the function's values.

    Args:
        subject: the point.
        call: the function; the target itself if it is not given.
        every: whether every step is taken, also after the value seems to be known.
    """

    name = "differences"

    def __init__(
        self, subject: Subject, call: Callable[..., Any] | None = None, *, every: bool = False
    ):
        self.subject = subject
        self.call = call
        self.every = every
        self.kinks = 0
        self.last: Slope | None = None
        self._columns: dict[Any, tuple[Measured, bool]] = {}
        moving = zip(subject.values, subject.moving, strict=True)
        self.size = sum(x.size * (2 if x.dtype.kind == "c" else 1) for x, m in moving if m)

    @property
    def full(self) -> bool:
        """Whether there are so few inputs that each is varied by itself."""
        return self.size <= AXES

    def closer(self) -> ByDifferences:
        """Returns the same with every step taken."""
        return ByDifferences(self.subject, self.call, every=True)

    def along(self, dots: Sequence[Any]) -> Slope:
        """Returns the slope of all outputs, one flat array, along these tangents."""
        found = self._slope(dots)
        if np.any(found.still):
            unseen = 4 * self._hidden / found.steps[1]
            found = found._replace(
                error=np.where(found.still, np.maximum(found.error, unseen), found.error)
            )
        self.kinks += int(np.sum(found.kink))
        self.last = found
        return found

    def _slope(self, dots: Sequence[Any]) -> Slope:
        values = self.subject.values

        @functools.cache
        def at(h: float) -> np.ndarray:
            if not h:
                return self._here
            moved = zip(values, dots, strict=True)
            return self._flat([x if d is None else x + h * d for x, d in moved])

        take = functools.partial(slope, at, self.subject.epsilon, self._noise, every=self.every)
        found = take()
        if np.any(found.quantised):  # or what little is left of large numbers shows few digits
            found = take(elsewhere=self._far)
        return found

    def _flat(self, values: Values) -> np.ndarray:
        """Returns all outputs that have a derivative, one after the other."""
        subject, steady = self.subject, self._steady
        try:
            with subject.session():
                outs = subject.numpy(steady(*subject.arrays(values)))
        except Exception:
            # It may end nearby, as for a matrix on the verge of definiteness: no fault of its own.
            outs = [np.full(np.shape(o), np.nan) for o in subject.outputs]
        flat = [np.ravel(o) for o, f in zip(outs, subject.free, strict=True) if f]
        wide = [x.astype(np.result_type(x, np.float64)) for x in flat]
        return np.concatenate(wide or [np.zeros(0)])

    @cached_property
    def _steady(self) -> Callable[..., Any]:
        """The function, compiled if a call takes so long that something compiles in it."""
        subject = self.subject
        function = subject.function(self.call)
        run = lambda *xs: subject.prober.value(function, xs)  # noqa: E731
        with subject.session():
            for _ in range(2):  # the first call may compile something
                started = time.perf_counter()
                run(*subject.arrays())
                if time.perf_counter() - started <= SLOW:
                    return run
        return subject.prober.steady(function)

    @cached_property
    def _here(self) -> np.ndarray:
        """The values at the point, where every line crosses it."""
        return self._flat(self.subject.values)

    @cached_property
    def _noise(self) -> np.ndarray:
        """How much rounding of the arguments changes each value."""
        rng, here = np.random.default_rng(3), self._here
        with np.errstate(all="ignore"):
            moved = [np.abs(self._flat(nudged(rng, self.subject)) - here) for _ in range(NUDGES)]
            return np.nan_to_num(np.max(moved, axis=0), nan=0.0, posinf=0.0)

    @cached_property
    def _hidden(self) -> np.ndarray:
        """How much each value is rounded inside, as it shows where all arguments vary, and more.

        An argument that changes nothing may have a slope that rounding hides: the weights behind a
        gate that is shut.
        """
        subject = self.subject
        found = self._slope(subject.dots(np.random.default_rng(29)))
        # What nothing near moves may have run into a limit: a loss of zero.
        far = self._far if np.any(found.still) else 0.0
        return np.maximum(found.rounding, np.where(found.still, 4 * subject.epsilon * far, 0.0))

    @cached_property
    def _far(self) -> np.ndarray:
        """How large values are far from the point, where they are larger."""
        sizes = [np.abs(self._flat(_scaled(self.subject, s))) for s in (0.5, 0.1)]
        with np.errstate(all="ignore"):
            return np.nan_to_num(np.max(sizes, axis=0), nan=0.0, posinf=0.0)

    def push(self, dots: Sequence[Any]) -> Measured:
        """Returns the tangents of the outputs along one direction."""
        return self._apart(self._judged(dots))

    def _judged(self, dots: Sequence[Any]) -> Slope:
        """Returns the slope along these tangents; its error is infinite where no derivative is.

        Where entries have kinks or jumps, others may have none along this very direction, and
        still no derivative: that of a sum of tangents is then not the sum of theirs (sorting
        equal numbers).
        """
        found = self.along(dots)
        if not np.any(found.kink | ~np.isfinite(found.error)):
            return found
        rng = np.random.default_rng(13)
        torn = np.zeros(found.value.shape, bool)
        # Parts of which less is known show nothing, and are none of a smooth function.
        blind = 1e-3 * np.max(np.abs(found.value), where=np.isfinite(found.value), initial=0.0)
        for _ in range(_SPLITS):  # which of two equal numbers comes first is the same by chance
            one, two = map(self.along, split(rng, dots))
            off = np.abs(one.value + two.value - found.value)
            unsure = np.where(found.kink, 0.0, one.error + two.error + found.error)
            torn |= ~(off <= 1e-5 * np.abs(found.value) + unsure) | ~(unsure <= blind)
        return found._replace(error=np.where(torn, np.inf, found.error))

    def _apart(self, found: Slope) -> Measured:
        """Returns a slope's entries as one array for each output."""
        values: list[Any] = []
        errors: list[Any] = []
        start = 0
        for out, free in zip(self.subject.outputs, self.subject.free, strict=True):
            if not free:
                values.append(None)
                errors.append(None)
                continue
            part = slice(start, start + out.size)
            start += out.size
            values.append(found.value[part].reshape(out.shape))
            errors.append(found.error[part].reshape(out.shape))
        return Measured(values, errors)

    def pull(self, bars: Sequence[Any]) -> Measured:
        """Returns the cotangents, entry by entry."""
        return by_entries(self.subject, bars, self._column)

    def _column(self, i: int, index: tuple[int, ...], dots: Sequence[Any]) -> tuple[Measured, bool]:
        """Returns the tangents along one entry, measured once, and whether there is a kink."""
        key = (i, index, complex(dots[i][index]))
        if key not in self._columns:
            here = self.along(dots)
            self._columns[key] = self._apart(here), bool(np.any(here.kink))
        return self._columns[key]


Column = Callable[[int, tuple[int, ...], Sequence[Any]], tuple[Measured, bool]]


def by_entries(subject: Subject, bars: Sequence[Any], column: Column) -> Measured:
    """Returns the cotangents of the inputs, each entry of each varied by itself.

    Args:
        subject: the point.
        bars: the cotangents of the outputs.
        column: the tangents along one entry, and whether there is a kink: then it is unknown.
    """
    values: list[Any] = []
    errors: list[Any] = []
    for i, (x, moves) in enumerate(zip(subject.values, subject.moving, strict=True)):
        if not moves:
            values.append(None)
            errors.append(None)
            continue
        size = np.abs(direction(np.random.default_rng(0), x))
        bar, error = np.zeros_like(x), np.zeros(x.shape)
        for index in np.ndindex(x.shape):
            for unit in (1.0, 1j) if x.dtype.kind == "c" else (1.0,):
                dots: list[Any] = [None] * len(subject.values)
                dots[i] = np.zeros_like(x)
                dots[i][index] = unit * size[index]
                got, kinked = column(i, index, dots)
                bar[index] += unit * inner(bars, got.values) / size[index]
                error[index] += np.inf if kinked else inner_size(bars, got.errors) / size[index]
        values.append(bar)
        errors.append(error)
    return Measured(values, errors)


def _scaled(subject: Subject, s: float) -> Values:
    """Returns the arrays that have a derivative, times a number, and the others."""
    each = zip(subject.values, subject.moving, strict=True)
    return [np.asarray(s * x, x.dtype) if moves else x for x, moves in each]


def nudged(rng: np.random.Generator, subject: Subject) -> Values:
    """Returns the arrays changed by a few units in the last place."""
    step = 8 * subject.epsilon
    return [
        x if dot is None else x + step * dot
        for x, dot in zip(subject.values, subject.dots(rng), strict=True)
    ]


def spread(found: list[list[Any]]) -> Measured:
    """Returns the first of several, and how far the others, a rounding apart, are from it.

    Args:
        found: the arrays at one point, and at points that rounding alone tells apart.
    """
    first, *others = found
    errors = [
        None
        if x is None
        else 20 * np.max([np.abs(other[i] - x) for other in others], axis=0, initial=0.0)
        if np.shape(x)
        else 20 * np.max([np.abs(other[i] - x) for other in others])
        for i, x in enumerate(first)
    ]
    return Measured(first, errors)

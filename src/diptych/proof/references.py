"""What the derivative should be, from outside the rule: each reference with its own error.

In order of trust: a function whose derivative is meant, the framework's own AD of the plain body,
the complex step, extrapolated differences. AD of a body is believed only where differences along
one random direction agree with it: a body may cut the graph itself (`detach`, NumPy inside).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from diptych.proof.richardson import EVALUATIONS, Slope, slope
from diptych.proof.subject import Subject, Values, direction, inner

# So many entries are looked at one by one where the reference is a difference; more by random
# directions, of which each finds a wrong entry unless it cancels.
AXES = 24
DIRECTIONS = 4
_NUDGES = 2
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


class Reference(Protocol):
    """The derivative as it should be."""

    name: str

    @property
    def full(self) -> bool:
        """Whether it gives every entry of a VJP, at the cost of a few evaluations."""
        ...

    def push(self, dots: Sequence[Any]) -> Measured:
        """Returns the tangents of the outputs."""
        ...

    def pull(self, bars: Sequence[Any]) -> Measured:
        """Returns the cotangents of the inputs; only where `full`."""
        ...


class ByAD:
    """The framework's own AD of a function without custom derivatives.

    Args:
        subject: the point.
        body: the function.
        name: how the report calls it.
    """

    full = True

    def __init__(self, subject: Subject, body: Callable[..., Any], name: str):
        self.subject = subject
        self.body = body
        self.name = name

    @cached_property
    def _points(self) -> list[Subject]:
        """The point, and points so near that only rounding tells them apart."""
        rng = np.random.default_rng(7)
        nearby = [self.subject.at(nudged(rng, self.subject)) for _ in range(_NUDGES)]
        return [s.of(self.body) for s in (self.subject, *nearby)]

    @cached_property
    def _pullbacks(self) -> list[Any]:
        here, *near = self._points
        found = [here.vjp()]
        for s in near:
            with contextlib.suppress(Exception):  # the function may end here
                found.append(s.vjp())
        return found

    def pull(self, bars: Sequence[Any]) -> Measured:
        """Returns the cotangents, and how much they change where the point does by rounding."""
        found = [_filled(p.pull(bars), self.subject) for p in self._pullbacks]
        return _spread(found)

    def push(self, dots: Sequence[Any]) -> Measured:
        """Returns the tangents, by forward mode or by two pullbacks where there is none."""
        found = []
        for s in self._points:
            try:
                outs, got = s.jvp(dots)
            except Exception:
                got = _pushed_by_pulls(s, dots)
                outs = s.outputs
            found.append(
                [
                    np.zeros_like(o) if d is None and o.dtype.kind in "fc" else d
                    for o, d in zip(outs, got, strict=True)
                ]
            )
        return _spread(found)


class ByDifferences:
    """Extrapolated differences of the function's values.

    Args:
        subject: the point.
        call: the function; the target itself if it is not given.
    """

    name = "differences"

    def __init__(self, subject: Subject, call: Callable[..., Any] | None = None):
        self.subject = subject
        self.call = call
        self.kinks = 0
        self.last: Slope | None = None
        self._columns: dict[Any, tuple[Measured, bool]] = {}
        moving = zip(subject.values, subject.moving, strict=True)
        self.size = sum(x.size * (2 if x.dtype.kind == "c" else 1) for x, m in moving if m)

    @property
    def full(self) -> bool:
        """Whether there are so few inputs that each is varied by itself."""
        return self.size <= AXES

    def along(self, dots: Sequence[Any]) -> Slope:
        """Returns the slope of all outputs, one flat array, along these tangents."""
        subject = self.subject

        def at(h: float) -> np.ndarray:
            return self._flat(
                [x if d is None else x + h * d for x, d in zip(subject.values, dots, strict=True)]
            )

        found = slope(at, subject.epsilon, self._noise)
        self.kinks += int(np.sum(found.kink))
        self.last = found
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
            run(*subject.arrays())
            started = time.perf_counter()
            run(*subject.arrays())
            slow = time.perf_counter() - started > SLOW
        return subject.prober.steady(function) if slow else run

    @cached_property
    def _noise(self) -> np.ndarray:
        """How much rounding of the arguments changes each value."""
        rng = np.random.default_rng(3)
        here = self._flat(self.subject.values)
        with np.errstate(all="ignore"):
            moved = [np.abs(self._flat(nudged(rng, self.subject)) - here) for _ in range(_NUDGES)]
            return np.nan_to_num(np.max(moved, axis=0), nan=0.0, posinf=0.0)

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
            parts = [None if d is None else d * rng.uniform(-1, 2, d.shape) for d in dots]
            rest = [None if p is None else d - p for d, p in zip(dots, parts, strict=True)]
            one, two = self.along(parts), self.along(rest)
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
        subject = self.subject
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
                    step = size[index]
                    got, kinked = self._column(i, index, step * unit)
                    bar[index] += unit * inner(bars, got.values) / step
                    error[index] += _error_of(bars, got) / step
                    if kinked:
                        error[index] = np.inf
            values.append(bar)
            errors.append(error)
        return Measured(values, errors)

    def _column(self, i: int, index: tuple[int, ...], step: Any) -> tuple[Measured, bool]:
        """Returns the tangents along one entry, measured once, and whether there is a kink."""
        key = (i, index, step)
        if key not in self._columns:
            dots: list[Any] = [None] * len(self.subject.values)
            dots[i] = np.zeros_like(self.subject.values[i])
            dots[i][index] = step
            here = self.along(dots)
            self._columns[key] = self._apart(here), bool(np.any(here.kink))
        return self._columns[key]


def choose(
    subject: Subject, wanted: str | Callable[..., Any] = "auto"
) -> tuple[Reference, ByDifferences]:
    """Returns the best reference there is at this point, and differences beside it.

    Args:
        subject: the point.
        wanted: "auto", "body", "differences", "complex step", "mpmath", or a function whose
            derivative is meant.

    Raises:
        ValueError: for a reference that is not known, or that this function does not have.
    """
    target = subject.target
    # Where the derivative of another function is meant, differences are taken of that one.
    meant = wanted if callable(wanted) else None
    differences = ByDifferences(subject, meant)
    if meant is not None:
        return ByAD(subject, meant, "the function given"), differences
    if wanted == "differences":
        return differences, differences
    if wanted == "mpmath":
        from diptych.proof.multiprecision import ByMpmath

        return ByMpmath(subject, target.body or target.call), differences
    from diptych.proof.complex_step import ByComplexStep

    if wanted == "complex step":
        return ByComplexStep(subject, target.body or target.call), differences
    if wanted not in ("auto", "body"):
        raise ValueError(f"reference={wanted!r}: auto, body, differences, complex step, mpmath")
    body = target.body
    if body is not None:
        by_ad = ByAD(subject, body, "AD of the body")
        if wanted == "body" or believed(by_ad, differences):
            return by_ad, differences
        if all(x.dtype.kind != "c" for x in (*subject.values, *subject.outputs)):
            step = ByComplexStep(subject, body)
            if believed(step, differences):
                return step, differences
    return differences, differences


def believed(reference: Reference, differences: ByDifferences) -> bool:
    """Returns whether a reference is finite and agrees with differences along one direction."""
    rng = np.random.default_rng(11)
    dots = differences.subject.dots(rng)
    try:
        said = reference.push(dots)
        measured = differences.push(dots)
        if reference.full:
            bars = differences.subject.bars(rng)
            pulled = reference.pull(bars).values
            both = inner(bars, said.values), inner(pulled, dots)
            size = sum(abs(x) for x in both)
            if not np.isfinite(size) or abs(both[0] - both[1]) > 1e-6 * max(size, 1e-300):
                return False
    except Exception:
        return False
    if [np.shape(x) for x in said.values] != [np.shape(x) for x in measured.values]:
        return False  # the body has another value than the rule: `primal` says so
    for a, b, e, own in zip(
        said.values, measured.values, measured.errors, said.errors, strict=True
    ):
        if a is None or b is None:
            continue
        if not np.all(np.isfinite(a)):
            return False
        scale = float(np.max(np.abs(b), initial=0.0))
        allowed = 3 * e + own + 1e-6 * np.abs(b) + 1e-9 * scale
        if np.any(np.isfinite(e) & ~(np.abs(a - b) <= allowed)):
            return False
    return True


def nudged(rng: np.random.Generator, subject: Subject) -> Values:
    """Returns the arrays changed by a few units in the last place."""
    step = 8 * subject.epsilon
    return [
        x + step * direction(rng, x) if moves else x
        for x, moves in zip(subject.values, subject.moving, strict=True)
    ]


def _spread(found: list[list[Any]]) -> Measured:
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


def _filled(bars: Sequence[Any], subject: Subject) -> list[Any]:
    return [
        np.zeros_like(x) if bar is None and moves else bar
        for bar, x, moves in zip(bars, subject.values, subject.moving, strict=True)
    ]


def _pushed_by_pulls(subject: Subject, dots: Sequence[Any]) -> list[Any]:
    """Returns `J dots`: the pullback is linear in the cotangent, so its gradient is the JVP."""
    prober, free = subject.prober, subject.free
    moving = [d is not None for d in dots]
    zeros = [np.zeros_like(o) for o, f in zip(subject.outputs, free, strict=True) if f]
    with subject.session():
        xs, function = subject.arrays(), subject.function()

        def of_bars(*bars: Any) -> list[Any]:
            values = iter(bars)
            spread = [next(values) if f else None for f in free]
            return prober.gradient(function, spread, moving)(*xs)

        _, pull = prober.vjp(of_bars, subject.arrays(zeros), [True] * len(zeros))
        found = iter(subject.numpy(pull(subject.arrays([d for d in dots if d is not None]))))
        return [next(found) if f else None for f in free]


def _error_of(bars: Sequence[Any], got: Measured) -> float:
    return float(
        sum(
            np.sum(np.abs(b) * e)
            for b, e in zip(bars, got.errors, strict=True)
            if b is not None and e is not None
        )
    )


def evaluations(reference: Reference) -> int:
    """Returns how many evaluations of the function one direction takes."""
    return EVALUATIONS if isinstance(reference, ByDifferences) else 1 + _NUDGES

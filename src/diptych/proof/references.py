"""What the derivative should be, from outside the rule: each reference with its own error.

In order of trust: a function whose derivative is meant, the framework's own AD of the plain body,
the complex step, extrapolated differences. AD of a body is believed only where differences along
one random direction agree with it: a body may cut the graph itself (`detach`, NumPy inside).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from diptych.proof.differences import NUDGES, ByDifferences, Measured, nudged, spread
from diptych.proof.subject import Subject
from diptych.proof.vectors import inner

_VAGUE = 1e-3  # errors of this share of a derivative's size hide defects


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
        nearby = [self.subject.at(nudged(rng, self.subject)) for _ in range(NUDGES)]
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
        return spread(found)

    def push(self, dots: Sequence[Any]) -> Measured:
        """Returns the tangents, by forward mode or by two pullbacks where there is none."""
        found = []
        for s in self._points:
            try:
                outs, got = s.jvp(dots)
            except Exception:
                got = pushed_by_pulls(s, dots)
                outs = s.outputs
            found.append(
                [
                    np.zeros_like(o) if d is None and o.dtype.kind in "fc" else d
                    for o, d in zip(outs, got, strict=True)
                ]
            )
        return spread(found)


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
            if believed(step, differences, unmeasured=False):
                return step, differences
    return differences, differences


def believed(reference: Reference, differences: ByDifferences, *, unmeasured: bool = True) -> bool:
    """Returns whether a reference is finite and agrees with differences along one direction.

    Args:
        reference: what is in doubt.
        differences: of the same function.
        unmeasured: whether it is believed as well at entries of which differences say nothing; not
            the complex step, that leaves the real axis and may take other branches there.
    """
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
        # What rounding of the arguments turns about is worth less than differences that stand.
        if np.any((own > _VAGUE * scale) & (e < own / 10)):
            return False
        allowed = 3 * e + own + 1e-6 * np.abs(b) + 1e-9 * scale
        if not unmeasured and not np.all(np.isfinite(e)):
            return False
        if np.any(np.isfinite(e) & ~(np.abs(a - b) <= allowed)):
            return False
    return True


def _filled(bars: Sequence[Any], subject: Subject) -> list[Any]:
    return [
        np.zeros_like(x) if bar is None and moves else bar
        for bar, x, moves in zip(bars, subject.values, subject.moving, strict=True)
    ]


def pushed_by_pulls(subject: Subject, dots: Sequence[Any]) -> list[Any]:
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

"""Layouts and degenerate shapes: the same values in other memory, axes of length 0 and 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from diptych.proof.claims.alike import is_random
from diptych.proof.claims.trial import Skip, Trial
from diptych.proof.compare import Gap, gap, natural
from diptych.proof.differences import nudged
from diptych.proof.outcome import Finding, Outcome
from diptych.proof.subject import Subject, zeros_for


def shapes(trial: Trial) -> Outcome:
    """Values and cotangents depend on values alone: not on strides, offsets or shared memory.

    Axes of length 0 and 1, broadcast arguments and other sizes are the neighbours' affair, since
    they are other values.
    """
    subject = trial.subject
    if is_random(trial):
        raise Skip("random numbers are drawn in the order of memory")
    gaps: list[Gap] = []
    findings: list[Finding] = []
    tried = 0
    bars = trial.bars(70)
    with subject.session():
        arrays = subject.arrays()
        plain_bars = subject.arrays(bars)
    plain = _Due(subject, arrays, plain_bars)
    for i, x in enumerate(arrays):

        def with_argument(y: Any, i: int = i) -> _Due:
            return _Due(subject, [*arrays[:i], y, *arrays[i + 1 :]], plain_bars)

        in_order = plain if subject.values[i].flags.c_contiguous else None
        for how, other, due in _others(subject, x, with_argument, in_order):
            what = f"'{subject.names[i]}' with {how}"
            changed = with_argument(other).arrays
            tried += _compare(trial, what, changed, plain_bars, due, gaps, findings)
    for k, bar in enumerate(plain_bars):
        if bar is None:
            continue

        def with_bar(y: Any, k: int = k) -> _Due:
            return _Due(subject, arrays, [*plain_bars[:k], y, *plain_bars[k + 1 :]])

        in_order = plain if bars[k].flags.c_contiguous else None
        for how, other, due in _others(subject, bar, with_bar, in_order):
            what = f"the cotangent of output {k} with {how}"
            changed = with_bar(other).bars
            tried += _compare(trial, what, arrays, changed, due, gaps, findings)
    return trial.outcome("shapes", gaps, findings[:3], f"{tried} layouts")


class _Due:
    """What is due for arrays and cotangents in contiguous memory.

    Args:
        subject: the function.
        arrays, bars: the arrays.
    """

    def __init__(self, subject: Subject, arrays: Sequence[Any], bars: Sequence[Any]):
        self.subject, self.arrays, self.bars = subject, arrays, bars

    @cached_property
    def both(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The values and the cotangents."""
        return _both(self.subject, self.arrays, self.bars)

    @cached_property
    def sizes(self) -> tuple[list[float], list[float]]:
        """How large values and cotangents are if nothing cancels."""
        numbers = self.subject.numpy(self.arrays)
        weights = self.subject.numpy(self.bars)
        values = self.both[0]
        return (
            [float(np.max(np.abs(x), initial=0.0)) for x in values],
            [natural(values, weights, x) for x in numbers],
        )


def _others(
    subject: Subject, x: Any, due_for: Callable[[Any], _Due], in_order: _Due | None
) -> Iterator[tuple[str, Any, _Due]]:
    """Yields arrays in other memory: what is special, the array, and what is due for its values.

    Args:
        subject: the function.
        x: the array.
        due_for: gives what is due with another array in place of this one.
        in_order: what is due for `x` itself, if it is in contiguous memory.
    """
    with subject.session():
        layouts, expanded = subject.prober.layouts(x), subject.prober.expanded(x)
    if layouts:
        # These have the same values, all of them.
        shared = in_order or due_for(_compact(subject, x))
        for how, other in layouts.items():
            yield how, other, shared
    for how, other in expanded.items():
        yield how, other, due_for(_compact(subject, other))


def _compact(subject: Subject, x: Any) -> Any:
    """Returns the same values in memory of their own, in order."""
    with subject.session():
        return subject.prober.array(np.ascontiguousarray(subject.prober.numpy(x)))


def _compare(
    trial: Trial,
    what: str,
    arrays: Sequence[Any],
    bars: Sequence[Any],
    due: _Due,
    gaps: list[Gap],
    findings: list[Finding],
) -> int:
    """Compares value and cotangents of equal arguments; returns 1 if there was something to."""
    subject = trial.subject
    try:
        expected = due.both
    except Exception:  # the function has no value there: nothing to compare with
        return 0
    try:
        found = _both(subject, arrays, bars)
    except Exception as error:
        message = (
            f"{subject.target.name} raises {type(error).__name__} for {what}, and not for the same "
            "values in contiguous memory. Use `reshape` in place of `view`, or make it contiguous."
        )
        findings.append(trial.finding("shapes", "layout", message))
        return 1
    same = all(
        np.array_equal(a, b)
        for mine, theirs in zip(found, expected, strict=True)
        for a, b in zip(mine, theirs, strict=True)
    )
    if same:  # as nearly always: there is no rounding to be weighed
        gaps += [gap(a, a, epsilon=subject.epsilon, relative=1e-9) for a in found[0]]
        return 1
    # Other memory may mean another order of summation: what cancels differs by rounding.
    sizes, natural_sizes = due.sizes
    outputs = [f"output {k}" for k in range(len(sizes))]
    for said, mine, theirs, names, rounded in (
        ("value", found[0], expected[0], outputs, sizes),
        ("cotangent", found[1], expected[1], subject.names, natural_sizes),
    ):
        for k, (name, a, b, size) in enumerate(zip(names, mine, theirs, rounded, strict=True)):
            if a.shape != b.shape or not np.all(np.isfinite(b)):
                continue
            floor = subject.epsilon**0.8 * size
            g = gap(a, b, epsilon=subject.epsilon, relative=1e-9, floor=floor)
            if not g.ok and _explained(subject, due.arrays, due.bars, said == "value", k, a, b):
                continue
            gaps.append(g)
            if not g.ok:
                message = (
                    f"The {said} of '{name}' is {g.shown} at index {g.index} for {what}, and "
                    f"{g.due} for the same values in contiguous memory. Something reads "
                    "raw memory, or uses `view` or `as_strided`, as if it were contiguous."
                )
                findings.append(trial.finding("shapes", "layout", message, name, g))
                return 1
    return 1


def _explained(
    subject: Subject,
    arrays: Sequence[Any],
    bars: Sequence[Any],
    value: bool,
    k: int,
    found: np.ndarray,
    expected: np.ndarray,
) -> bool:
    """Returns whether rounding of the arguments moves entries as much: equal ones may cancel."""
    there = subject.at(subject.numpy(arrays))
    spread = np.zeros(expected.shape)
    for salt in range(3):
        near = there.at(nudged(np.random.default_rng(salt), there))
        try:
            moved = _both(there, there.arrays(near.values), bars)[0 if value else 1][k]
        except Exception:
            return False
        spread = np.maximum(spread, np.abs(moved - expected))
    largest = float(np.max(spread, initial=0.0))
    return bool(np.all(np.abs(found - expected) <= 20 * largest))


def _both(
    subject: Subject, arrays: Sequence[Any], bars: Sequence[Any]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    with subject.session():
        outs, pull = subject.prober.vjp(subject.function(), arrays, subject.moving)
        values = subject.numpy(outs)
        found = subject.numpy(pull(bars))
    return values, zeros_for(found, subject)

"""Second derivatives along random directions, by any nesting of the two modes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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

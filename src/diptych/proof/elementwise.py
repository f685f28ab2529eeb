"""An elementwise function at thousands of points in one call.

What such a function does to an entry it does whatever the others are, so that one long array holds
the points on both sides of every boundary at which it, or its derivative, may change branch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from diptych.proof.subject import Neighbour, Subject, Values

# Sizes grow by this factor from point to point: what a series is off by falls with a power of the
# distance to its boundary, and is nearly whole just below.
_FINE = 1.04
_COARSE = 1.12
_LARGEST = 50_000
_ULPS = 64


def sizes(largest: float) -> np.ndarray:
    """Returns positive numbers within several orders of magnitude of one, sorted.

    Just below and above those that people write as a boundary there is always one.
    """
    low, high = 1e-6 * min(1.0, largest), 1e4 * max(1.0, largest)
    decades = 10.0 ** np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    round_ones = np.ravel(np.outer([1.0, 2.0, 5.0], decades))
    found = [_geometric(low, high, _FINE), 0.997 * round_ones, 1.003 * round_ones]
    return np.unique(np.concatenate(found))


def sheets(subject: Subject, i: int, rng: np.random.Generator) -> Iterator[Subject]:
    """Yields the subject with points of all sizes in argument `i`, if it is elementwise there.

    They are to both sides of zero, of a few other places where formulas end, and of the other
    arguments. Arrays of the argument's shape are made as long as it, along the first axis.

    Args:
        subject: the function at its example.
        i: the argument.
        rng: draws the order, and the angles of complex numbers.
    """
    x = subject.values[i]
    if not x.size or x.size > _LARGEST or any(o.shape != x.shape for o in subject.outputs):
        return
    away = sizes(float(np.max(np.abs(x))) or 1.0)
    close = _geometric(1e-6, 0.5, _COARSE)
    parts = [away, -away]
    for centre in (1.0, math.pi / 2, math.pi):
        parts += [centre + close, centre - close, -centre + close, -centre - close]
    found = np.concatenate(parts)
    if x.dtype.kind == "c":
        turned = rng.uniform(size=found.shape) < 0.8
        found = found * np.where(turned, np.exp(2j * np.pi * rng.uniform(size=found.shape)), 1.0)
    found = rng.permutation(found)
    others = [
        k for k, other in enumerate(subject.values)
        if k != i and other.shape == x.shape and other.dtype == x.dtype
    ]  # fmt: skip
    for chosen in (found, found[np.real(found) > 0]):  # some take nothing else, and raise
        try:
            made = _sheet(subject, i, chosen, np.concatenate([close, -close]), others)
            if _is_elementwise(made, i):
                yield made
                return
        except Exception:  # it takes no such shape, or no such value
            continue
        if np.any(np.real(x) < 0):
            return


def _sheet(
    subject: Subject, i: int, found: np.ndarray, apart: np.ndarray, others: list[int]
) -> Subject:
    """Returns the subject with these points, and with ones a little apart from other arguments."""
    x = subject.values[i]
    rest = x.shape[1:]
    width = max(math.prod(rest), 1)
    length = -(-(len(found) + len(others) * len(apart)) // width)
    shape = (length, *rest)
    values: Values = [
        np.resize(other, shape) if other.shape == x.shape else other for other in subject.values
    ]
    filling = np.resize(found, shape).reshape(-1)
    for n, k in enumerate(others):
        part = slice(len(found) + n * len(apart), len(found) + (n + 1) * len(apart))
        filling[part] = values[k].reshape(-1)[part] * (1 + apart)
    values[i] = np.asarray(filling.reshape(shape), x.dtype)
    example = subject.example._replace(values=values)
    return Subject(subject.target, subject.prober, example, subject.seed)


def filled(subject: Subject, there: Subject, i: int, entry: int) -> Neighbour:
    """Returns the example with its arrays filled with what they are at one entry of a sheet."""
    values = list(subject.values)
    said = []
    for k, (x, long) in enumerate(zip(subject.values, there.values, strict=True)):
        if long.shape == there.values[i].shape:
            value = np.ravel(long)[entry]
            values[k] = np.full(x.shape, value, x.dtype)
            said.append(f"'{subject.names[k]}' filled with {value.item()!r}")
    return Neighbour(", ".join(said), subject.example._replace(values=values))


def _is_elementwise(there: Subject, i: int) -> bool:
    """Returns whether entries stay what they are where others change."""
    x = there.values[i]
    here = there.outputs
    if any(o.shape != x.shape for o in here):
        return False
    changed = np.random.default_rng(37).uniform(size=x.shape) < 0.5
    values = list(there.values)
    values[i] = np.where(changed, np.roll(np.flip(x), 1).reshape(x.shape), x)
    for before, after in zip(here, there.value(values=values), strict=True):
        a, b = before[~changed], after[~changed]
        if a.dtype.kind not in "fc":
            continue
        with np.errstate(all="ignore"):
            near = np.abs(a - b) <= _ULPS * there.epsilon * np.abs(a)
        if not np.all(near | (a == b) | (np.isnan(a) & np.isnan(b))):
            return False
    return True


def _geometric(low: float, high: float, ratio: float) -> np.ndarray:
    return np.geomspace(low, high, math.ceil(math.log(high / low) / math.log(ratio)))


def windows(x: np.ndarray, noise: np.ndarray, width: int = 3) -> np.ndarray:
    """Returns the largest of each entry's noise and that of the entries nearest to it in value.

    Args:
        x: the points.
        noise: one number for each.
        width: how many to each side.
    """
    order = np.argsort(x)
    padded = np.pad(noise[order], width, mode="edge")
    most = np.max(np.lib.stride_tricks.sliding_window_view(padded, 2 * width + 1), axis=-1)
    found = np.empty_like(noise)
    found[order] = most
    return found


def runs(x: np.ndarray, wrong: np.ndarray) -> Iterator[tuple[float, float]]:
    """Yields the ends of the stretches of neighbouring points that are all wrong."""
    order = np.argsort(x)
    marks = np.flatnonzero(np.diff(np.concatenate([[0], wrong[order], [0]])))
    for start, stop in marks.reshape(-1, 2):
        yield float(x[order][start]), float(x[order][stop - 1])

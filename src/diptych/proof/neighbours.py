"""Variations of an example: a third of the defects of real rules show only there.

A neighbour is the same call with other values, sizes, parameters or indices. Those at which
defects are commonest come first, since a budget ends the list. One that the function itself
rejects, by raising or by NaN, is no neighbour.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from diptych.proof.options import indices, parameters, tied
from diptych.proof.subject import Neighbour, Subject


def neighbours(subject: Subject) -> Iterator[Neighbour]:
    """Yields variations of the subject's example, the kinds taking turns."""
    kinds = (
        _values(subject),
        _sizes(subject),
        _single_sizes(subject),
        parameters(subject),
        indices(subject),
        _broadcast(subject),
    )
    for round_of in itertools.zip_longest(*kinds):
        for neighbour in round_of:
            if neighbour is not None:
                yield neighbour


def special_points(subject: Subject) -> Iterator[Neighbour]:
    """Yields the variations at which derivatives are most often not finite."""
    for how in ("all zero", "one entry zero", "all entries equal", "times 1e6", "times 1e-6"):
        yield from _with(subject, how, _VALUES[how])


def bending_points(subject: Subject) -> Iterator[Neighbour]:
    """Yields the variations at which second derivatives are most often wrong, the first right."""
    for how in ("one entry zero", "all zero", "signs flipped", "all entries equal", "times 30"):
        yield from _with(subject, how, _VALUES[how])


# Values.


def _rng() -> np.random.Generator:
    return np.random.default_rng(29)


def _one_zero(x: np.ndarray) -> np.ndarray:
    y = x.copy()
    y.reshape(-1)[y.size // 2] = 0
    return y


def _equal_rows(x: np.ndarray) -> np.ndarray:
    if x.ndim < 2 or x.shape[0] < 2:
        raise _DoesNotApply
    return np.broadcast_to(x[:1], x.shape).copy()


def _sorted(x: np.ndarray) -> np.ndarray:
    return np.sort(x, axis=-1) if x.ndim else x


def _symmetric(x: np.ndarray) -> np.ndarray:
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise _DoesNotApply
    turned = np.conj(np.swapaxes(x, -1, -2))
    return (x + turned) / 2


def _general(x: np.ndarray) -> np.ndarray:
    """A symmetric matrix made general."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2] or x.shape[-1] < 2:
        raise _DoesNotApply
    if not np.allclose(x, np.conj(np.swapaxes(x, -1, -2))):
        raise _DoesNotApply
    return x + 0.1 * np.triu(np.ones(x.shape[-2:]), 1) * np.abs(x).mean()


def _singular(x: np.ndarray) -> np.ndarray:
    if x.ndim < 2 or x.shape[-2] < 2:
        raise _DoesNotApply
    y = x.copy()
    y[..., -1, :] = y[..., 0, :]
    return y


def _turned(angle: complex) -> Callable[[np.ndarray], np.ndarray]:
    def turned(x: np.ndarray) -> np.ndarray:
        if x.dtype.kind != "c":
            raise _DoesNotApply
        return x * angle

    return turned


class _DoesNotApply(Exception):  # noqa: N818 - says that a variation is none for this array
    pass


_VALUES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "signs flipped": lambda x: -x,
    "one entry zero": _one_zero,
    "times 1e-3": lambda x: x * 1e-3,
    "times 30": lambda x: x * 30,
    "tied entries": tied,
    "all zero": np.zeros_like,
    "alternating signs": lambda x: np.where(np.arange(x.size).reshape(x.shape) % 2, -x, x),
    "sorted": _sorted,
    "all entries equal": lambda x: np.full_like(x, x.reshape(-1)[0]),
    "rounded to integers": lambda x: np.round(3 * x),
    "equal rows": _equal_rows,
    "times 1e-6": lambda x: x * 1e-6,
    "times 1e3": lambda x: x * 1e3,
    "shifted by 3": lambda x: x + 3,
    "shifted by -3": lambda x: x - 3,
    "sorted downwards": lambda x: _sorted(x)[..., ::-1].copy() if x.ndim else x,
    "made symmetric": _symmetric,
    "made general": _general,
    "made singular": _singular,
    "times i": _turned(1j),
    "times -1 + i": _turned(-1 + 1j),
    "times 1e6": lambda x: x * 1e6,
    "random, in [-1, 1]": lambda x: _rng().uniform(-1, 1, x.shape),
    "random, in [0, 1]": lambda x: _rng().uniform(0, 1, x.shape),
    "conjugated": lambda x: np.conj(x) if x.dtype.kind == "c" else -x,
}


def _values(subject: Subject) -> Iterator[Neighbour]:
    moving = [i for i, m in enumerate(subject.moving) if m]
    alike = _equal_arguments(subject, moving)
    for how, change in _VALUES.items():
        yield from _with(subject, how, change)
        if how == "times 1e-3":
            yield from alike


def _with(
    subject: Subject, how: str, change: Callable[[np.ndarray], np.ndarray]
) -> Iterator[Neighbour]:
    """Yields the example with the change made to each array by itself, and to all of them."""
    moving = [i for i, m in enumerate(subject.moving) if m and subject.values[i].size]
    changed: dict[int, np.ndarray] = {}
    for i in moving:
        x = subject.values[i]
        try:
            y = np.asarray(change(x), x.dtype)
        except _DoesNotApply:
            continue
        if not np.array_equal(x, y):
            changed[i] = y
    for i, y in changed.items():
        values = list(subject.values)
        values[i] = y
        yield Neighbour(f"'{subject.names[i]}': {how}", subject.example._replace(values=values))
    if len(changed) > 1:
        values = [changed.get(i, x) for i, x in enumerate(subject.values)]
        yield Neighbour(f"all arguments: {how}", subject.example._replace(values=values))


def _equal_arguments(subject: Subject, moving: Sequence[int]) -> Iterator[Neighbour]:
    for i, j in itertools.combinations(moving, 2):
        if subject.values[i].shape == subject.values[j].shape:
            values = list(subject.values)
            values[j] = values[i].astype(values[j].dtype)
            how = f"'{subject.names[j]}' equal to '{subject.names[i]}'"
            yield Neighbour(how, subject.example._replace(values=values))


# Sizes.

_LARGEST = 200_000


def _sizes(subject: Subject) -> Iterator[Neighbour]:
    """Yields other lengths; axes of one length, in all arguments, change together."""
    kept = _kept(subject)
    of_module = {n for i in kept for n in subject.values[i].shape}
    lengths = sorted({n for x in subject.values for n in x.shape if n > 0} - of_module)
    plans: list[list[tuple[int, int]]] = []
    for n in lengths:
        wanted = dict.fromkeys([1, n + 1, 65, 0, 129, 2, n - 1, 5, 257, 7, 300])
        plans.append([(n, m) for m in wanted if m >= 0 and m != n])
    first = True
    for step in itertools.zip_longest(*plans):
        for plan in step:
            if plan is None:
                continue
            n, m = plan
            values = [_resized(x, n, m) for x in subject.values]
            if sum(x.size for x in values) <= _LARGEST:
                how = f"axes of length {n} made {m} long"
                yield Neighbour(how, subject.example._replace(values=values))
        if first:
            yield from _batched(subject)
            first = False


def _single_sizes(subject: Subject) -> Iterator[Neighbour]:
    """Yields other lengths of one axis alone, of those that others are as long as.

    They may be equal by chance, as the lengths of queries and keys: the function itself says.
    """
    kept = _kept(subject)
    lengths = [n for x in subject.values for n in x.shape]
    for more in (1, -1):
        for i, x in enumerate(subject.values):
            for axis, n in enumerate(x.shape):
                if i in kept or n < 2 or lengths.count(n) < 2:
                    continue
                values = list(subject.values)
                longer = _repeated(x, axis, n + more)
                values[i] = _varied(longer) if x.dtype.kind in "fc" else longer
                how = f"axis {axis} of '{subject.names[i]}' made {n + more} long"
                yield Neighbour(how, subject.example._replace(values=values))


def _kept(subject: Subject) -> set[int]:
    """Returns which arrays keep their sizes: a module's parameters, which it was built for.

    Some of PyTorch's kernels do not look again, and read past the end of what they are given.
    """
    module = subject.target.kind == "torch.nn.Module"
    return {i for i, name in enumerate(subject.names) if module and name.startswith("parameters")}


def _broadcast(subject: Subject) -> Iterator[Neighbour]:
    """Yields calls in which one argument is broadcast: an axis of length 1, and the same outputs.

    The function itself says whether it takes that: its outputs must keep their shapes.
    """
    shapes = [o.shape for o in subject.outputs]
    for i, x in enumerate(subject.values):
        if not subject.moving[i] or sum(subject.moving) < 2 or i in _kept(subject):
            continue
        for axis, length in enumerate(x.shape):
            if length < 2:
                continue
            values = list(subject.values)
            values[i] = np.take(x, [0], axis=axis)
            try:
                same = [o.shape for o in subject.value(values=values)] == shapes
            except Exception:
                continue
            if same:
                how = f"'{subject.names[i]}' broadcast along axis {axis}"
                yield Neighbour(how, subject.example._replace(values=values))


def _resized(x: np.ndarray, n: int, m: int) -> np.ndarray:
    """Returns `x` with its axes of length `n` made `m` long: repeated, each time a little else.

    Integers that may count along such an axis stay within it.
    """
    for axis, length in enumerate(x.shape):
        if length == n:
            x = _repeated(x, axis, m)
    if x.dtype.kind in "fc":
        return _varied(x)
    if x.dtype.kind in "iu" and 0 < m < n and np.all(x < n) and np.all(x >= -n):
        x = np.where((x >= m) | (x < -m), x % m, x).astype(x.dtype)
    return x


def _repeated(x: np.ndarray, axis: int, m: int) -> np.ndarray:
    return np.take(x, np.arange(m) % x.shape[axis], axis=axis)


def _varied(x: np.ndarray) -> np.ndarray:
    """Returns an array each of whose entries is a little larger or smaller."""
    return np.asarray(x * (1 + 0.05 * _rng().uniform(-1, 1, x.shape)), x.dtype)


def _batched(subject: Subject) -> Iterator[Neighbour]:
    values = []
    for i, x in enumerate(subject.values):
        if i in _kept(subject):
            values.append(x)
            continue
        stacked = np.stack([x, x])
        if x.dtype.kind in "fc":
            stacked = _varied(stacked)
        elif x.dtype.kind in "iu":  # what counts along the first axis of another finds two there
            stacked = np.where((stacked >= 2) | (stacked < -2), stacked % 2, stacked)
        values.append(stacked)
    yield Neighbour("a leading batch axis added", subject.example._replace(values=values))

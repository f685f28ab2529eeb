"""Random states, global ones and a function's own: seeded for each call, put back at the end."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from diptych.proof.generators import Own, generators_in

# The generator of Python's global random numbers. Its own `seed` and `setstate` sort out every kind
# of seed and state first; and to put back a state takes half as long as to make it of a seed.
_PYTHON: Any = random.seed.__self__  # type: ignore[attr-defined]  # a bound method
_put_python = super(random.Random, _PYTHON).setstate  # pyright: ignore[reportAttributeAccessIssue]

_OWN: list[Own] = []


@contextlib.contextmanager
def own_generators(*held: Any) -> Iterator[None]:
    """Starts the generators that these values hold with each call, and puts them back at the end.

    Args:
        held: a function and its arguments.
    """
    outside: Sequence[Own] = list(_OWN)
    found = generators_in(held)
    _OWN[:] = [*outside, *found]
    try:
        yield
    finally:
        _OWN[:] = outside
        for one in found:
            one.restore()


class Chance:
    """Python's and NumPy's random numbers, and those of a framework.

    Only the outermost session saves and restores, which takes ten times as long as seeding.

    Args:
        seed, save, restore: what to do with the framework's own.
    """

    def __init__(
        self,
        seed: Callable[[int], Any] = lambda seed: None,
        save: Callable[[], Any] = lambda: None,
        restore: Callable[[Any], Any] = lambda state: None,
    ):
        self._seed = seed
        self._save = save
        self._restore = restore
        self._inside = False
        self._restarted: dict[int, _Restarted] = {}

    def fixed(self, seed: int) -> contextlib.AbstractContextManager[None]:
        """Returns a context in which all random numbers start from `seed`."""
        if not self._inside:
            return self._outermost(seed)
        if seed not in self._restarted:
            self._restarted[seed] = _Restarted(self, seed)
        return self._restarted[seed]

    @contextlib.contextmanager
    def _outermost(self, seed: int) -> Iterator[None]:
        before = self._save(), np.random.get_state(), random.getstate()  # noqa: NPY002
        self._inside = True
        try:
            self.start(seed)
            yield
        finally:
            self._inside = False
            self._restarted.clear()
            self._restore(before[0])
            np.random.set_state(before[1])  # noqa: NPY002
            random.setstate(before[2])

    def start(self, seed: int) -> None:
        """Starts all random numbers from `seed`, here and now."""
        self._seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the global state is what user code draws from
        _put_python(_seeded_python(seed))
        _PYTHON.gauss_next = None
        for one in _OWN:
            one.seed(seed)


@functools.lru_cache(maxsize=16)
def _seeded_python(seed: int) -> tuple[int, ...]:
    """Returns the state in which `seed` puts a generator of Python's."""
    return random.Random(seed).getstate()[1]


class _Restarted:
    """The context within another one: entered for each evaluation, so that it must cost little."""

    __slots__ = ("chance", "seed")

    def __init__(self, chance: Chance, seed: int):
        self.chance = chance
        self.seed = seed

    def __enter__(self) -> None:
        self.chance.start(self.seed)

    def __exit__(self, *error: object) -> None:
        pass

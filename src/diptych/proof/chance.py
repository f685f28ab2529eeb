"""Random states, global ones and a function's own: seeded for each call, put back at the end."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from diptych.proof.generators import Own, generators_in

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

    @contextlib.contextmanager
    def fixed(self, seed: int) -> Iterator[None]:
        """Returns a context in which all random numbers start from `seed`."""
        if self._inside:
            self._start(seed)
            yield
            return
        before = self._save(), np.random.get_state(), random.getstate()  # noqa: NPY002
        self._inside = True
        try:
            self._start(seed)
            yield
        finally:
            self._inside = False
            self._restore(before[0])
            np.random.set_state(before[1])  # noqa: NPY002
            random.setstate(before[2])

    def _start(self, seed: int) -> None:
        self._seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the global state is what user code draws from
        random.seed(seed)
        for one in _OWN:
            one.seed(seed)

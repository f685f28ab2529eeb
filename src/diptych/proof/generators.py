"""Generators of random numbers of a function's own, found among all that it holds.

PyTorch's, NumPy's and Python's are objects with a state; JAX has keys, which are values. Like the
global ones they start anew for each call, so that two calls differ only where the function does.
"""

from __future__ import annotations

import contextlib
import functools
import random
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from diptych.proof.reach import variables

_DEPTH = 6
_LIBRARIES = ("torch", "jax", "jaxlib", "numpy", "builtins", "diptych")


class Own(NamedTuple):
    """A generator.

    Args:
        seed: starts it from a number.
        restore: puts back the state in which it was found.
    """

    seed: Callable[[int], Any]
    restore: Callable[[], Any]


def generators_in(held: Sequence[Any]) -> list[Own]:
    """Returns the generators that these values are or hold: closures, globals, attributes."""
    found: list[Own] = []
    seen: dict[int, Any] = {}

    def look(value: Any, depth: int) -> None:
        if id(value) in seen or depth < 0 or isinstance(value, (str, int, float, np.ndarray)):
            return
        seen[id(value)] = value  # kept alive, so that no other takes its identity
        own = _own(value)
        if own is not None:
            found.append(own)
            return
        for part in _parts(value, top=depth == _DEPTH):
            look(part, depth - 1)

    for value in held:
        look(value, _DEPTH)
    return found


def _own(value: Any) -> Own | None:
    """Returns how to start and restore a generator; `None` for what is none."""
    if isinstance(value, np.random.Generator):
        bits: Any = value.bit_generator
        state = bits.state
        return Own(
            lambda seed: setattr(bits, "state", type(bits)(seed).state),
            lambda: setattr(bits, "state", state),
        )
    if isinstance(value, np.random.RandomState):
        before = value.get_state()
        return Own(value.seed, lambda: value.set_state(before))
    if isinstance(value, random.SystemRandom):
        return None  # it has no state
    if isinstance(value, random.Random):
        kept = value.getstate()
        return Own(value.seed, lambda: value.setstate(kept))
    kind = type(value)
    if kind.__name__ == "Generator" and kind.__module__.partition(".")[0] == "torch":
        there = value.get_state()
        return Own(value.manual_seed, lambda: value.set_state(there))
    return None


def _parts(value: Any, *, top: bool) -> Iterator[Any]:
    """Yields what a value holds or, where it is code of a user, reads."""
    if isinstance(value, (list, tuple, set, frozenset)):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, types.MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, (staticmethod, classmethod)):
        yield value.__func__
    elif isinstance(value, types.FunctionType):
        if _library(value.__module__) and not top:
            return
        yield from (held for _, held, _ in variables(value))
        yield from (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
        yield from (getattr(value, "__wrapped__", None),)
    elif isinstance(value, type):
        if not _library(value.__module__):
            yield from vars(value).values()
    elif not isinstance(value, types.ModuleType) and not hasattr(value, "dtype"):
        # A module of layers holds them; of other libraries' objects only the one handed in.
        if top or hasattr(value, "_modules") or not _library(type(value).__module__):
            with contextlib.suppress(TypeError):
                yield from vars(value).values()
            yield type(value)


def _library(module: str | None) -> bool:
    return str(module).partition(".")[0] in _LIBRARIES

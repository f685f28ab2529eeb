"""What a function reads from outside its arguments: closures, globals, attributes."""

from __future__ import annotations

import contextlib
import dis
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from diptych.rule import Rule

_DEPTH = 3


class Reached(NamedTuple):
    """One array that is read from outside.

    Args:
        name: as a user would write it.
        array: the array.
        cell: the closure cell that holds it, or what contains it.
    """

    name: str
    array: Any
    cell: types.CellType | None


def reached(
    thing: Any,
    parts: Callable[[Any], list[Any]],
    arrays_in: Callable[[Any], Iterator[tuple[str, Any]]],
) -> list[Reached]:
    """Returns the arrays that `thing` may read from outside its arguments.

    Args:
        thing: a function, a class of them, a rule, or an object with methods.
        parts: gives the functions that make up a framework's custom derivative, else nothing.
        arrays_in: yields the arrays that a value is or holds, each with the rest of its name.
    """
    found: dict[int, Reached] = {}
    seen: set[int] = set()

    def look(value: Any, depth: int) -> None:
        if id(value) in seen or depth < 0:
            return
        seen.add(id(value))
        for function in _functions(value, parts):
            if not isinstance(function, types.FunctionType):
                look(function, depth - 1)
                continue
            for name, held, cell in variables(function):
                for rest, array in arrays_in(held):
                    found.setdefault(id(array), Reached(name + rest, array, cell))
                if _worth(held, parts):
                    look(held, depth - 1)

    look(thing, _DEPTH)
    return list(found.values())


def _names(code: types.CodeType) -> Iterator[str]:
    """Yields the globals that code reads, that of inner functions included."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def variables(function: types.FunctionType) -> Iterator[tuple[str, Any, types.CellType | None]]:
    """Yields the name, the value and the closure cell of each variable read from outside."""
    code = function.__code__
    for name in sorted(set(_names(code)) & function.__globals__.keys()):
        yield name, function.__globals__[name], None
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not filled yet
            yield name, cell.cell_contents, cell


def _functions(value: Any, parts: Callable[[Any], list[Any]]) -> list[Any]:
    if isinstance(value, Rule):
        stated = value._statement
        whole = (stated.body, stated.fwd, stated.jvp, stated.vjp, stated.partials)
        return [f for f in whole if f is not None]
    if isinstance(value, functools.partial):
        return [value.func]
    own = parts(value)
    if own:
        return [getattr(f, "__func__", f) for f in own]
    value = getattr(value, "__func__", value)
    return [value] if isinstance(value, types.FunctionType) else []


def _worth(value: Any, parts: Callable[[Any], list[Any]]) -> bool:
    """Returns whether a value that is read is itself code of a user."""
    if isinstance(value, (Rule, functools.partial)) or parts(value):
        return True
    module = str(getattr(value, "__module__", "")).partition(".")[0]
    return isinstance(value, types.FunctionType) and module not in ("torch", "jax", "numpy")

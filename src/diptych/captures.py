"""What a rule's functions read from outside their arguments.

Read at every call anew: a rule whose surroundings changed must not run from a cache, and one that
reads an array being differentiated must say which.
"""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

_MISSING = object()
_NUMBERS = (bool, int, float, complex, str, bytes, type(None), type)
_LIBRARIES = frozenset(
    {"array_api_compat", "diptych", "jax", "math", "numpy", "optree", "scipy", "torch"}
)


class Captures:
    """The variables that functions read from closures and globals.

    Args:
        functions: the rule's functions.
    """

    def __init__(self, functions: Sequence[Callable[..., Any]]):
        self._functions = functions
        self._fixed: list[tuple[Callable[[], Any], Any]] | None = None
        self._sound = True

    @property
    def open(self) -> bool:
        """Whether a variable is read that is not certainly immutable, such as an array."""
        if self._fixed is None:
            self._look()
        return not self._sound

    def unchanged(self) -> bool:
        """Returns whether every variable that is read is immutable and the same as at first.

        Only then may a compiled version stand for the functions.
        """
        if self._fixed is None:
            self._look()
        if not self._sound:
            return False
        return all([read() is value for read, value in self._fixed])  # type: ignore[union-attr]

    def _look(self) -> None:
        self._fixed = []
        for _, read in _variables(self._functions, set()):
            value = read()
            if isinstance(value, (ModuleType, BuiltinFunctionType)) and _from_library(value):
                continue
            self._fixed.append((read, value))
            self._sound = self._sound and _immutable(value)

    def values(self) -> Iterator[tuple[str, Any]]:
        """Yields the name and present value of each variable that is read, arrays among them."""
        for name, read in _variables(self._functions, set()):
            yield name, read()


def _variables(
    functions: Sequence[Callable[..., Any]], seen: set[int]
) -> Iterator[tuple[str, Callable[[], Any]]]:
    for given in functions:
        function: Any = given
        if isinstance(function, functools.partial):
            for value in (*function.args, *function.keywords.values()):
                yield "partial", lambda value=value: value
            function = function.func
        owner = getattr(function, "__self__", None)
        if isinstance(function, MethodType):
            yield "self", lambda owner=owner: owner
        function = getattr(function, "__func__", function)
        if hasattr(function, "_statement"):  # a rule, called or stated by this one
            statement = function._statement
            parts = (statement.body, statement.fwd, statement.jvp, statement.vjp)
            yield from _variables([f for f in (*parts, statement.partials) if f], seen)
            continue
        code = getattr(function, "__code__", None)
        if code is None and not _from_library(function):
            # An object that can be called: what it is may change between calls.
            yield str(type(function).__name__), lambda function=function: function
        if code is None or id(function) in seen:
            continue
        seen.add(id(function))
        yield from _variables_of(function, code, seen)


def _variables_of(
    function: FunctionType, code: CodeType, seen: set[int]
) -> Iterator[tuple[str, Callable[[], Any]]]:
    names = set(_global_names(code))
    for name in sorted(names & function.__globals__.keys()):
        yield name, lambda name=name: function.__globals__.get(name, _MISSING)
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    pairs = [(name, cell) for name, cell in cells]
    for name, cell in pairs:
        yield name, lambda cell=cell: _contents(cell)
    found = [function.__globals__[name] for name in sorted(names & function.__globals__.keys())]
    found += [_contents(cell) for _, cell in pairs]
    yield from _variables([f for f in found if _is_user_function(f)], seen)


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


def _global_names(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _is_user_function(value: Any) -> bool:
    if hasattr(value, "_statement"):
        return True
    return isinstance(value, FunctionType) and not _from_library(value)


def _from_library(value: Any) -> bool:
    name = getattr(value, "__module__", None) or getattr(value, "__name__", "")
    if isinstance(value, ModuleType):
        name = value.__name__
    top = str(name).partition(".")[0]
    return top in _LIBRARIES or top in sys.stdlib_module_names


def _immutable(value: Any) -> bool:
    """Returns whether a value that is the same object is also the same value."""
    if isinstance(value, (tuple, frozenset)):
        return all(_immutable(item) for item in value)
    if isinstance(value, _NUMBERS) or hasattr(value, "_statement"):
        return True
    if isinstance(value, (FunctionType, BuiltinFunctionType)):
        return True
    if isinstance(value, ModuleType):
        return _from_library(value)
    jax = sys.modules.get("jax")
    return (
        jax is not None and isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)
    )

"""What a rule's functions read from outside their arguments.

Read at every call anew: a rule whose surroundings changed must not run from a cache, and one that
reads an array being differentiated must say which.
"""

from __future__ import annotations

import builtins
import dis
import enum
import functools
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

_MISSING = object()
GLOBALS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD")
_NUMBERS = (bool, int, float, complex, str, bytes, type(None), enum.Enum)
# What is read from these is the same at every call. Not so random, time or os.
_LIBRARIES = frozenset(
    "_operator abc array_api_compat builtins cmath collections dataclasses diptych enum functools"
    " itertools jax jaxlib math numbers numpy operator optree scipy torch types typing".split()
)
_CHANGING = ("numpy.random", "torch.random")
_COMPILED = ("PjitFunction", "custom_jvp", "custom_vjp")
_STORES = ("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR")
_FILLERS = ("CACHE", "COPY", "EXTENDED_ARG", "NOP", "PUSH_NULL")


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
        own = [getattr(f, "__code__", None) for f in self._functions]
        for name, read in _variables(self._functions, set()):
            value = read()
            if isinstance(value, (ModuleType, BuiltinFunctionType)) and _from_library(value):
                continue
            if any([value is code for code in own]):
                continue
            self._fixed.append((read, value))
            self._sound = self._sound and name is not None and immutable(value)

    def values(self) -> Iterator[tuple[str, Any]]:
        """Yields the name and present value of each variable that is read, arrays among them."""
        for name, read in _variables(self._functions, set()):
            if name is not None:
                yield name, read()


Read = tuple[str | None, Callable[[], Any]]  # without a name: what cannot be followed


def _variables(functions: Sequence[Callable[..., Any]], seen: set[int]) -> Iterator[Read]:
    for given in functions:
        function: Any = given
        if isinstance(function, MethodType):
            yield "self", functools.partial(_same, function.__self__)
        function = getattr(function, "__func__", function)
        if id(function) in seen:
            continue
        if hasattr(function, "_statement"):  # a rule, called or stated by this one
            seen.add(id(function))
            statement = function._statement
            yield statement.name, functools.partial(getattr, statement, "version")
            yield from _variables(statement.functions, seen)
            continue
        if isinstance(function, functools.partial):
            for value in (*function.args, *function.keywords.values()):
                yield "an argument of functools.partial", functools.partial(_same, value)
            yield from _variables([function.func], seen)
            continue
        code = getattr(function, "__code__", None)
        if code is None:
            if not _from_library(function):
                # An object that can be called: what it is may change between calls.
                yield str(type(function).__name__), functools.partial(_same, function)
            continue
        seen.add(id(function))
        yield from _variables_of(function, code, seen)


def _variables_of(function: Any, code: CodeType, seen: set[int]) -> Iterator[Read]:
    scope = function.__globals__
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    followed = list(defaults)
    yield code.co_name, lambda: function.__code__
    for value in defaults:
        yield f"a default of {code.co_name}", functools.partial(_same, value)
    for name, attributes in _reads(code, frozenset(cells)):
        if name in cells:
            read = functools.partial(_contents, cells[name])
        elif name in scope:
            read = functools.partial(scope.get, name, _MISSING)
        elif hasattr(builtins, name):
            continue
        else:
            name, read = None, _nothing
        yield name, read
        value = read()
        for attribute in attributes:
            if not isinstance(value, ModuleType):
                break
            value = getattr(value, attribute, _MISSING)
            if isinstance(value, ModuleType):
                yield f"{name}.{attribute}", functools.partial(_same, value)
        else:
            attributes = ()
        if attributes and not _keeps_attributes(value):
            yield None, _nothing
        followed.append(value)
    yield from _variables([f for f in _spread(followed) if _is_user_function(f)], seen)


def _spread(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        yield from _spread(value) if isinstance(value, tuple) else (value,)


def _nothing() -> None:
    """Stands for what cannot be followed."""


def _same(value: Any) -> Any:
    return value


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


@functools.lru_cache(maxsize=1024)
def _reads(code: CodeType, free: frozenset[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Returns the variables that code reads from outside, each with the attributes that follow.

    What changes the outside reads a variable that does not exist.
    """
    found: dict[tuple[str, tuple[str, ...]], None] = {}
    instructions = [i for i in dis.get_instructions(code) if i.opname not in _FILLERS]
    for position, here in enumerate(instructions):
        ours = here.argval in free if isinstance(here.argval, str) else False
        if here.opname in GLOBALS or (ours and "LOAD" in here.opname):
            after = instructions[position + 1 :]
            chain = list(itertools.takewhile(lambda i: i.opname in _ATTRIBUTES, after))
            found[here.argval, tuple([i.argval for i in chain])] = None
        stores = here.opname in _STORES or (ours and "STORE" in here.opname)
        if stores or (here.opname == "IMPORT_NAME" and not _is_library(here.argval)):
            found["", ()] = None
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = free & frozenset(constant.co_freevars)
            found.update(dict.fromkeys(_reads(constant, inner)))
    return tuple(found)


def _is_user_function(value: Any) -> bool:
    if hasattr(value, "_statement"):
        return True
    return isinstance(value, FunctionType) and not _from_library(value)


def _from_library(value: Any) -> bool:
    if isinstance(value, ModuleType):
        return _is_library(value.__name__)
    name = getattr(value, "__module__", None) or getattr(value, "__name__", "")
    return _is_library(str(name))


def _is_library(name: str) -> bool:
    return name.partition(".")[0] in _LIBRARIES and not name.startswith(_CHANGING)


def _keeps_attributes(value: Any) -> bool:
    """Returns whether attributes of a value stay what they are: not those of a user's class."""
    if isinstance(value, (FunctionType, type)):
        return _from_library(value) or (isinstance(value, type) and issubclass(value, enum.Enum))
    return not hasattr(value, "_statement")


def immutable(value: Any) -> bool:
    """Returns whether a value that is the same object is also the same value.

    Functions are: what they read from outside is a question of its own.
    """
    if isinstance(value, (tuple, frozenset)):
        return all(map(immutable, value))
    if isinstance(value, _NUMBERS) or hasattr(value, "_statement"):
        return True
    if isinstance(value, BuiltinFunctionType):
        owner = getattr(value, "__self__", None)  # such as the list of its `append`
        return owner is None or (isinstance(owner, ModuleType) and _from_library(owner))
    if isinstance(value, FunctionType):
        return _from_library(value) or value.__dict__.keys() <= {"__wrapped__"}
    if isinstance(value, ModuleType) or type(value).__name__ in _COMPILED:
        return _from_library(value)
    if isinstance(value, type):
        kinds = (tuple, enum.Enum)
        return _from_library(value) or (
            issubclass(value, kinds) and not hasattr(value, "__array__")
        )
    if isinstance(value, CodeType):
        return True
    jax = sys.modules.get("jax")
    if jax is None:
        return False
    return isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)

"""What a rule's functions read from outside their arguments.

Read at every call anew: a rule whose surroundings changed must not run from a cache, and one that
reads an array being differentiated must say which.
"""

from __future__ import annotations

import dis
import enum
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

_MISSING = object()
_CODES_KEPT = 1024
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
        for _, read, value in self._read():
            self._fixed.append((read, value))
            self._sound = self._sound and _immutable(value)

    def values(self) -> Iterator[tuple[str, Any]]:
        """Yields the name and present value of each variable that is read, arrays among them."""
        for name, _, value in self._read():
            yield name, value

    def _read(self) -> Iterator[tuple[str, Callable[[], Any], Any]]:
        for name, read in _variables(self._functions, set()):
            value = read()
            library = isinstance(value, (ModuleType, BuiltinFunctionType)) and from_library(value)
            if not library:
                yield name, read, value


def _variables(
    functions: Sequence[Callable[..., Any]], seen: set[int]
) -> Iterator[tuple[str, Callable[[], Any]]]:
    for function in functions:
        if not isinstance(function, FunctionType) and not hasattr(function, "_statement"):
            # Another callable, such as a partial: what it holds is outside as well.
            yield getattr(function, "__name__", "it"), lambda value=function: value
        for run in _functions_of(function, seen):
            yield from _variables_of(run, seen)


def _variables_of(
    function: FunctionType, seen: set[int]
) -> Iterator[tuple[str, Callable[[], Any]]]:
    names = _global_names(function.__code__) & function.__globals__.keys()
    read: dict[str, Callable[[], Any]] = {
        name: lambda name=name: function.__globals__.get(name, _MISSING) for name in sorted(names)
    }
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    read.update((name, lambda cell=cell: _contents(cell)) for name, cell in cells)
    yield from read.items()
    for name, look in read.items():
        value = look()
        attributes = _attribute_names(function.__code__)
        runs = list(_functions_of(value, seen))
        for run in runs:
            attributes |= _attribute_names(run.__code__)
            yield from _defaults(run)
        yield from _attributes(name, value, attributes)
        for run in runs:
            yield from _variables_of(run, seen)


def _functions_of(value: Any, seen: set[int]) -> Iterator[FunctionType]:
    """Yields the functions of the user's that a call of `value`, or of its methods, may run."""
    if id(value) in seen or isinstance(value, _NUMBERS[:-1]):
        return
    seen.add(id(value))
    if isinstance(value, FunctionType):
        if not from_library(value):
            yield value
        return
    if hasattr(value, "_statement"):  # a rule, called or stated by this one
        statement = value._statement
        inner: Sequence[Any] = (statement.body, statement.fwd, statement.jvp, statement.vjp)
        inner = (*inner, statement.partials)
    elif isinstance(value, type):
        inner = [x for c in value.__mro__ if not from_library(c) for x in vars(c).values()]
        inner = [x for x in inner if hasattr(x, "__get__")]
    elif isinstance(value, tuple):
        inner = value
    else:
        wraps = ("__func__", "__wrapped__", "func", "fget")
        inner = [vars_of for name in wraps if callable(vars_of := _plain_attribute(value, name))]
        inner = inner or ([] if from_library(type(value)) else [type(value)])
    for item in inner:
        yield from _functions_of(item, seen)


def _plain_attribute(value: Any, name: str) -> Any:
    try:
        return getattr(value, name, None)
    except Exception:  # a property of somebody's, that does what it likes
        return None


def _defaults(function: FunctionType) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yields the parameters of a function that is called whose defaults may be changed."""
    for name, parameter in inspect.signature(function, follow_wrapped=False).parameters.items():
        value = parameter.default
        if value is not parameter.empty and not _immutable(value):
            yield name, lambda value=value: value


def _attributes(
    name: str, value: Any, read: frozenset[str]
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yields what is read off a class or a function, whose attributes are variables as well."""
    if not isinstance(value, (type, FunctionType)) or from_library(value):
        return
    kinds = value.__mro__ if isinstance(value, type) else (value,)
    for attribute in sorted({key for kind in kinds for key in vars(kind)} & read):
        if not hasattr(getattr(value, attribute), "__get__"):
            yield f"{name}.{attribute}", lambda a=attribute: getattr(value, a, _MISSING)


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


@functools.lru_cache(_CODES_KEPT)
def _global_names(code: CodeType) -> frozenset[str]:
    loads = [i for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    return frozenset(i.argval for i in loads).union(*map(_global_names, _inner(code)))


@functools.lru_cache(_CODES_KEPT)
def _attribute_names(code: CodeType) -> frozenset[str]:
    return frozenset(code.co_names).union(*map(_attribute_names, _inner(code)))


def _inner(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def from_library(value: Any) -> bool:
    """Returns whether a module, function or type is a known library's."""
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
    if isinstance(value, BuiltinFunctionType):
        owner = value.__self__  # a module, or what a bound method is bound to
        return isinstance(owner, ModuleType) or _immutable(owner)
    if isinstance(value, (FunctionType, enum.Enum)):
        return True
    if type(value).__name__ in ("dtype", "device") and from_library(type(value)):
        return True
    if isinstance(value, ModuleType):
        return from_library(value)
    jax = sys.modules.get("jax")
    return (
        jax is not None and isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)
    )

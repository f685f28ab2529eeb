"""What functions may read from outside their arguments, sought as widely as it can be.

For the error that names an array whose gradient would be lost: closures, globals, defaults, class
and function attributes, and the same of every function of the user's that a call may run. Whether
surroundings are certain to stay as they are is another question: see `captures`.
"""

from __future__ import annotations

import dis
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from diptych.captures import GLOBALS

_MISSING = object()
_CODES_KEPT = 1024
_NUMBERS = (bool, int, float, complex, str, bytes, type(None), type)
_LIBRARIES = frozenset(
    {"array_api_compat", "diptych", "jax", "math", "numpy", "optree", "scipy", "torch"}
)


def values_read(functions: Sequence[Callable[..., Any]]) -> Iterator[tuple[str, Any]]:
    """Yields the name and present value of each variable that functions read, arrays among them.

    Args:
        functions: those of a rule.
    """
    for name, read in _variables(functions, set()):
        value = read()
        library = isinstance(value, (ModuleType, BuiltinFunctionType)) and from_library(value)
        if not library:
            yield name, value


def _variables(
    functions: Sequence[Callable[..., Any]], seen: set[int]
) -> Iterator[tuple[str, Callable[[], Any]]]:
    for function in functions:
        if not isinstance(function, FunctionType) and not hasattr(function, "_statement"):
            # Another callable, such as a partial: what it holds is outside as well.
            yield getattr(function, "__name__", "it"), lambda value=function: value
        for run in _stated_functions(function, seen):
            yield from _variables_of(run, seen)


def _stated_functions(function: Any, seen: set[int]) -> Iterator[FunctionType]:
    """Yields what `_functions_of` does, and a rule's own function though it is a library's.

    Such are those of `diptych.implicit`, which read the user's residual.
    """
    if isinstance(function, FunctionType) and id(function) not in seen:
        seen.add(id(function))
        yield function
    else:
        yield from _functions_of(function, seen)


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
        for item in (*inner, statement.partials):
            yield from _stated_functions(item, seen)
        return
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
        if value is not parameter.empty and not isinstance(value, _NUMBERS):
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
    loads = [i for i in dis.get_instructions(code) if i.opname in GLOBALS]
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

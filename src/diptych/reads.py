"""Which residuals a derivative reads, so that no other is kept.

A rule without `fwd` may read any argument and the output, most read one or two of them. Keeping
only these makes it cost what a hand-written `save_for_backward` costs.
"""

from __future__ import annotations

import dis
import inspect
import sys
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

_ATTRIBUTE_READS = ("LOAD_ATTR", "LOAD_METHOD")
_LOOKS_AT_VARIABLES = frozenset(("locals", "vars", "eval", "exec"))


def fields_read(function: Callable[..., Any]) -> frozenset[str] | None:
    """Returns the attributes that `function` reads of its first parameter.

    Args:
        function: a rule's `jvp`, `vjp` or `partials`.

    Returns:
        The names, or `None` where the parameter is used in any other way (unpacked, passed on,
        indexed), so that everything must be taken as read.
    """
    code = getattr(function, "__code__", None)
    first = 1 if inspect.ismethod(function) else 0  # a bound method's code starts with `self`
    if code is None or code.co_argcount <= first:
        return None
    parameter = code.co_varnames[first]
    names: set[str] = set()
    for part in _codes(code):
        if not _LOOKS_AT_VARIABLES.isdisjoint(part.co_names):
            return None
        if part is not code and parameter in part.co_varnames[: _argument_count(part)]:
            continue  # an inner function with a parameter of the same name
        instructions = [i for i in dis.get_instructions(part) if not _is_filler(i)]
        for here, after in zip(instructions, [*instructions[1:], None], strict=True):
            used = here.argval if isinstance(here.argval, tuple) else (here.argval,)
            if parameter not in used or not _touches_variable(here):
                continue
            if _loads_cell(here, parameter, part):
                continue  # captured by an inner function, whose code is looked at by itself
            loads = here.opname.startswith("LOAD") or here.opname == "STORE_FAST_LOAD_FAST"
            last_loaded = loads and used.index(parameter) == len(used) - 1
            if not last_loaded or after is None or after.opname not in _ATTRIBUTE_READS:
                return None
            names.add(str(after.argval))
    return frozenset(names)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _argument_count(code: CodeType) -> int:
    return (
        code.co_argcount
        + code.co_kwonlyargcount
        + bool(code.co_flags & 4)
        + bool(code.co_flags & 8)
    )


def _is_filler(instruction: dis.Instruction) -> bool:
    return instruction.opname in ("CACHE", "NOP", "EXTENDED_ARG", "COPY_FREE_VARS", "MAKE_CELL")


def _loads_cell(instruction: dis.Instruction, name: str, code: CodeType) -> bool:
    """Returns whether a variable's cell is loaded, for an inner function, and not its value.

    Since Python 3.13 cells are loaded like other variables, whereas their contents never are.
    """
    if instruction.opname == "LOAD_CLOSURE":
        return True
    plain = instruction.opname.startswith("LOAD_FAST") and sys.version_info >= (3, 13)
    return plain and name in (*code.co_cellvars, *code.co_freevars)


def _touches_variable(instruction: dis.Instruction) -> bool:
    return any(word in instruction.opname for word in ("FAST", "DEREF", "CLOSURE"))

"""Rules inside torch.compile and torch.export.

Dynamo looks through an autograd.Function inside torch.func transforms and drops its derivative with
no error (pytorch/pytorch#192985). It must therefore not see one: a rule's call is one opaque call
in its graph, which AOTAutograd traces with the transforms in place. What Dynamo does see here is
small: which arguments are static, and a number that stands for them.
"""

from __future__ import annotations

import itertools
import operator
import weakref
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import torch
from torch.autograd import forward_ad

from diptych.arguments import flatten
from diptych.backends.torch import packing, state
from diptych.errors import HostError, MissingDirectionError, StaticArgumentError, message
from diptych.rule import Rule, numbered

_AROUND = message(
    "a rule in compiled code under dual numbers",
    expected="forward mode inside of what is compiled",
    got="torch.autograd.forward_ad.dual_level() or torch.func.jvp around it, which PyTorch drops",
    mend="compile the whole: torch.compile(lambda x, t: torch.func.jvp(f, (x,), (t,)))",
)
_EXPORTED = message(
    "a rule under a torch.func transform or dual numbers in what torch.export traces",
    expected="the rule's value alone",
    got="a derivative, which an exported program could only take of the body's operators",
    mend="state the derivative's own code in the module, or compile instead of exporting",
)
_STRICT = message(
    "a host rule in torch.export with strict=True",
    expected="strict=False, where host code becomes one operator",
    got="strict=True, where Dynamo would look into NumPy code",
    mend="torch.export.export(module, args, strict=False)",
)
_TENSORS = message(
    "a rule in compiled code: a static argument holds tensors",
    expected="arguments that are declared static and hold none",
    got="a tensor, or a list, tuple or dictionary of tensors",
    mend="do not declare it static: arguments may be pytrees of tensors",
)
_UNREAD = (type, FunctionType, BuiltinFunctionType, ModuleType, dict, list, tuple, set, str)
_HEX = "\0float:"


class Called:
    """One call in compiled code; the rule keeps it, so that both are let go together.

    Args:
        rule: the rule.
        count: the number of positional arguments.
        keys: the names of the static arguments given by keyword.
        static: the static arguments' values, the positional ones first.
    """

    def __init__(self, rule: Rule, count: int, keys: tuple[str, ...], static: tuple[Any, ...]):
        self.rule = weakref.ref(rule)
        self.count = count
        self.keys = keys
        self.static = static
        self.looked_at = False
        self.failure: Exception | None = None


_numbers = itertools.count()
_called: weakref.WeakValueDictionary[int, Called] = weakref.WeakValueDictionary()


def call_compiled(rule: Rule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a rule inside what torch.compile traces."""
    if torch.compiler.is_exporting():
        return _call_exported(rule, args, kwargs)
    if not torch.compiler.is_dynamo_compiling():
        # A rule called by one that AOTAutograd is tracing: nobody looks into it.
        return rule._call(args, kwargs)
    # Reading the level makes Dynamo guard on it; but inside of what is compiled it sets the level
    # as well, so that what counts is asked of Dynamo itself.
    if forward_ad._current_level >= 0 and _outside() == "dual":
        raise MissingDirectionError(_AROUND)
    parameters = rule._parameters
    flags = parameters.static_flags(len(args))
    keys = [name for name in kwargs if parameters.takes_static(name)]
    static = [_fixed(x) for i, x in enumerate(args) if flags[i]]
    static += [_fixed(kwargs[name]) for name in keys]
    for value in static:
        items = value.values() if isinstance(value, dict) else value
        items = items if isinstance(value, (dict, list, tuple)) else (value,)
        for item in items:
            if isinstance(item, torch.Tensor):
                raise StaticArgumentError(_TENSORS)
    dynamic = [x for i, x in enumerate(args) if not flags[i]]
    named = {name: value for name, value in kwargs.items() if name not in keys}
    # The sum makes a constant of its own of what Dynamo knows only as a result that it may not
    # guard.
    handle = _handle(rule._index, str(len(args)), ",".join(keys), *static) + 0
    _watch(*_held(static))
    if not named:
        flat = True
        for x in dynamic:
            flat = flat and isinstance(x, torch.Tensor)
        if flat:
            arrays = _call_flat(handle, *dynamic)
            kind = _kind_of(handle) + 0
            if kind == _ONE:
                return arrays[0]
            if kind == _TUPLE:
                return arrays
    out = _call(handle, *packing.arguments(dynamic, named))
    _raise_failure(handle)
    return out


# The cheap door: Dynamo asks nothing about arguments and result but that they are tensors, where
# the general one flattens pytrees in Dynamo's eyes, 25 ms for each call in the program.
_ONE, _TUPLE, _OTHER = 1, 2, 0
_kinds: dict[int, int] = {}


@torch._dynamo.allow_in_graph
def _call_flat(handle: int, *dynamic: Any) -> tuple[Any, ...]:
    out = _run(handle, dynamic, {})
    if isinstance(out, torch.Tensor):
        _kinds[handle] = _ONE
        return (out,)
    plain = type(out) is tuple and all(isinstance(x, torch.Tensor) for x in out)
    _kinds[handle] = _TUPLE if plain else _OTHER
    return out if plain else tuple(x for x in flatten(out)[0] if isinstance(x, torch.Tensor))


@torch._dynamo.assume_constant_result
def _kind_of(handle: int) -> int:
    """Returns what the call gave when it was traced just now."""
    return _kinds[handle]


@torch._dynamo.assume_constant_result
def _differentiated() -> str:
    return "yes" if state.derivative_active() else "no"


@torch._dynamo.assume_constant_result
def _outside() -> str:
    """Returns whether dual numbers are around what is compiled; Dynamo guards on it by itself.

    Tried on torch 2.13.0. Levels entered inside of what is compiled do not count: they are traced.
    """
    tracer = torch._dynamo.symbolic_convert.InstructionTranslator.current_tx()
    return "dual" if tracer.output.dual_level >= 0 else "plain"


def _fixed(value: Any) -> Any:
    """Returns a static value as Dynamo passes it on: a number that changed is symbolic to it."""
    if type(value) is int:
        return operator.index(value)
    return _HEX + value.hex() if type(value) is float else value


def _held(static: list[Any]) -> list[Any]:
    """Returns the numbers and texts that static objects hold."""
    found = []
    for value in static:
        if not isinstance(value, _UNREAD) and hasattr(value, "__dict__"):
            for held in value.__dict__.values():
                if isinstance(held, (bool, int, float, str)):
                    found.append(_fixed(held))
    return found


@torch._dynamo.assume_constant_result
def _watch(*values: Any) -> bool:
    """Makes Dynamo guard on these values."""
    return bool(values)


def _as_given(value: Any) -> Any:
    if type(value) is str and value.startswith(_HEX):
        return float.fromhex(value.removeprefix(_HEX))
    return value


def _call_exported(rule: Rule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns the rule's value for torch.export.

    An exported program consists of operators; their derivative would be the body's. So it has none:
    asked for a gradient it raises.
    """
    if _differentiated() == "yes":
        raise MissingDirectionError(_EXPORTED)
    if rule._statement.host and torch.compiler.is_dynamo_compiling():
        raise HostError(_STRICT)
    with torch.no_grad():
        if rule._statement.host:
            return rule._call(args, kwargs)
        return rule._value(args, kwargs)


@torch._dynamo.assume_constant_result
def _handle(index: str, count: str, keys: str, *static: Any) -> int:
    """Returns a number for this rule with these static values; Dynamo guards on them."""
    names = tuple(keys.split(",")) if keys else ()
    rule = numbered(index)
    called = Called(rule, int(count), names, tuple(map(_as_given, static)))
    rule._compiled.append(called)
    number = next(_numbers)
    _called[number] = called
    return number


@torch._dynamo.nonstrict_trace
def _call(handle: int, dynamic: list[Any], named: dict[str, Any]) -> Any:
    called = _called[handle]
    first, called.looked_at = not called.looked_at, True
    try:
        return packing.output(_run(handle, dynamic, named))
    except Exception as error:
        if not first:
            raise
        # Dynamo looks at the call, and would tell of an output of a type that it does not know.
        called.failure = error
        return []


@torch._dynamo.assume_constant_result
def _raise_failure(handle: int) -> None:
    failure = _called[handle].failure
    if failure is not None:
        raise failure


def _run(handle: int, dynamic: Any, named: dict[str, Any]) -> Any:
    called = _called[handle]
    rule, count, keys, static = called.rule(), called.count, called.keys, called.static
    assert rule is not None, "a rule is called, so it is alive"
    values, fixed = iter(dynamic), iter(static)
    flags = rule._parameters.static_flags(count)
    args = tuple(next(fixed) if flag else next(values) for flag in flags)
    before, state.compiling = state.compiling, True
    try:
        with state.constants_allowed(args):
            return rule._call(args, {**named, **dict(zip(keys, fixed, strict=True))})
    finally:
        state.compiling = before

"""What a statement can be seen to get wrong before it is ever called."""

from __future__ import annotations

import ast
import dis
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from diptych.arguments import Parameters
from diptych.errors import KindError, StructureError, message

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check(part: str, function: Callable[..., Any], parameters: Parameters) -> None:
    """Raises if a rule's function cannot take what it will be called with, or never returns.

    Raises:
        StructureError: naming the signature that is expected.
    """
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return  # a built-in: it is seen when it is called
    expected = _expected(part, parameters)
    name = parameters.name if parameters.name.isidentifier() else "f"
    if not any(_takes(signature, names) for names in expected):
        raise StructureError(
            message(
                f"{part} of {parameters.name}",
                expected=f"a function of ({', '.join(expected[0])})",
                got=f"one of {signature}",
                mend=f"write def {name}_{part}({', '.join(expected[0])}): ...",
            )
        )
    if _never_returns(function):
        raise StructureError(
            message(
                f"{part} of {parameters.name}",
                expected="a function that returns its result",
                got=f"one without a return, {getattr(function, '__name__', function)}",
                mend="return the result; for a derivative that is zero write `return None`",
            )
        )


def no_statement(name: str, part: str, given: tuple[Any, ...]) -> KindError:
    """Returns the error for a decorator that was called as if it were the transform."""
    transform = f"diptych.{part if part in ('jvp', 'vjp') else 'grad'}"
    kinds = [f"{type(x).__module__}.{type(x).__qualname__}" for x in given]
    return KindError(
        message(
            f"@{name}.{part} states the derivative of {name}",
            expected="a function",
            got=", ".join(kinds),
            mend=f"to differentiate {name} at some arguments use {transform}({name}, ...)",
        )
    )


def _expected(part: str, parameters: Parameters) -> list[list[str]]:
    """Returns the names of the arguments that the function may be called with."""
    if part == "vjp":
        return [["res", "out_bar"]]
    if part == "partials":
        return [["res"]]
    if part == "fwd":
        variadic = any(kind in _VARIADIC for kind in parameters.kinds.values())
        return [[]] if variadic else [list(parameters.names)]
    if any(parameters.kinds[name] in _VARIADIC for name in parameters.dynamic_names):
        return [["res", "*tangents"]]
    tangents = [f"{name}_dot" for name in parameters.dynamic_names]
    # In a class the first parameter is static unless the object is a pytree.
    return [["res", *tangents], ["res", *tangents[1:]]][: 2 if parameters.may_be_method else 1]


def _takes(signature: inspect.Signature, names: list[str]) -> bool:
    """Returns whether a function takes that many arguments; without names nothing is known."""
    if not names:
        return True
    if names[-1].startswith("*"):  # any number of tangents, but the residuals first
        kinds = [p.kind for p in signature.parameters.values()]
        return any(k not in (_VARIADIC[1], inspect.Parameter.KEYWORD_ONLY) for k in kinds)
    keywords = {
        n: None for n, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY and n in names
    }
    try:
        signature.bind(*[None] * (len(names) - len(keywords)), **keywords)
    except TypeError:
        return False
    return True


def _never_returns(function: Callable[..., Any]) -> bool:
    """Returns whether a function's code has no `return`: what it computes is then lost."""
    code = getattr(function, "__code__", None)
    if code is None or code.co_flags & inspect.CO_GENERATOR or code.co_name == "<lambda>":
        return False
    instructions = list(dis.get_instructions(code))
    before = None
    for instruction in instructions:
        if instruction.opname == "RETURN_CONST" and instruction.argval is not None:
            return False
        if instruction.opname == "RETURN_VALUE" and not (
            before is not None and before.opname == "LOAD_CONST" and before.argval is None
        ):
            return False
        before = instruction
    # It returns None wherever it ends: on purpose?
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return False
    return not any(isinstance(node, (ast.Return, ast.Raise)) for node in ast.walk(tree))

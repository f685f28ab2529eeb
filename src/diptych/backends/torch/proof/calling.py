"""How functions that are checked are called: where autograd or Dynamo would mind the plain way."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

from diptych.proof.probes import Arrays, Function


def called(f: Function, leaves: Sequence[Any]) -> Arrays:
    """Returns `f(*leaves)`, by copies of them where it works in place, which leaves forbid."""
    try:
        return f(*leaves)
    except RuntimeError as error:
        if "leaf Variable that requires grad" not in str(error):
            raise
        return f(*[x.clone() if x.requires_grad else x for x in leaves])


def own_code(f: Any) -> Any:
    """Returns the function with a code object of its own.

    Dynamo counts compilations by code object, and falls back to eager, without a word, where a
    limit is passed; all functions that the proof makes in one place share one.
    """
    code = getattr(f, "__code__", None)
    if code is None:
        return f
    copy = types.FunctionType(
        code.replace(), f.__globals__, f.__name__, f.__defaults__, f.__closure__
    )
    copy.__dict__.update(f.__dict__)
    return copy

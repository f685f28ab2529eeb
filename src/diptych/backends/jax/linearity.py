"""Whether a traced function is linear, as far as its operations tell.

A JVP that is not linear in its tangents has no transpose; JAX then fails with an empty assertion
or, differentiating at zero, gives a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from diptych.backends.jax.at_zero import nonzero_at_zero
from diptych.checks import not_linear

_NEVER = frozenset(
    "abs acos acosh asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp cos cosh"
    " digamma erf erf_inv erfc exp exp2 expm1 floor is_finite lgamma log log1p logistic max min"
    " nextafter pow reduce_max reduce_min rem round rsqrt sign sin sinh sort sqrt square tan"
    " tanh".split()
)
_BILINEAR = frozenset(("mul", "dot_general", "conv_general_dilated"))
_CALLS = frozenset("jit pjit closed_call checkpoint remat2 custom_jvp_call custom_vjp_call".split())
_COMPARISONS = frozenset(("eq", "ne", "lt", "le", "gt", "ge"))


def check_linear(f: Callable[..., Any], zeros: Sequence[Any], where: str) -> None:
    """Raises if an operation of `f` is not linear in its arguments.

    Args:
        f: the function, of arrays.
        zeros: arguments to trace it with.
        where: "jvp of f" or "vjp of f", for the message.

    Raises:
        LinearityError: naming the operation.
    """
    closed = jax.make_jaxpr(f)(*zeros)
    found, _ = _first_nonlinear(closed.jaxpr, [True] * len(zeros))
    if found is not None:
        raise not_linear(where, f"the operation `{found}` applied to them")
    if nonzero_at_zero(closed):
        raise not_linear(where, "a result other than zero where they are zero")


def _first_nonlinear(jaxpr: Any, flags: Sequence[bool]) -> tuple[str | None, list[bool]]:
    """Returns the first operation that is not linear in the inputs that move, and what moves."""
    moving = {id(v) for v, flag in zip(jaxpr.invars, flags, strict=True) if flag}
    for equation in jaxpr.eqns:
        flags = [id(v) in moving for v in equation.invars]
        if not any(flags):
            continue
        name = equation.primitive.name
        squares = name == "integer_pow" and equation.params["y"] != 1
        twice = name in _BILINEAR and all(flags[:2])
        below = name == "div" and flags[1]
        chooses = name in ("select_n", "cond") and flags[0]
        # Of comparisons only a choice made by them matters, but they serve nothing else.
        if name in _NEVER or name in _COMPARISONS or squares or twice or below or chooses:
            return name, []
        found, outs = _inside(equation, flags)
        if found is not None:
            return found, []
        moving.update(id(v) for v, out in zip(equation.outvars, outs, strict=True) if out)
    return None, [id(v) in moving for v in jaxpr.outvars]


def _inside(equation: Any, flags: list[bool]) -> tuple[str | None, list[bool]]:
    """Returns the same of the functions that an operation calls."""
    name, params = equation.primitive.name, equation.params
    if name == "scan":
        # What moves in a step's carry moves in the next: look until nothing more does.
        first, count = params["num_consts"], params["num_carry"]
        while True:
            found, outs = _first_nonlinear(params["jaxpr"].jaxpr, flags)
            carry = flags[first : first + count]
            if found is not None or all(c or not o for c, o in zip(carry, outs, strict=False)):
                return found, [c or o for c, o in zip(carry, outs, strict=False)] + outs[count:]
            flags[first : first + count] = [c or o for c, o in zip(carry, outs, strict=False)]
    calls, inputs = [params.get("jaxpr") or params.get("call_jaxpr")], flags
    if name == "cond":
        calls, inputs = params["branches"], flags[1:]
    elif name not in _CALLS:
        calls = []
    moves = [False] * len(equation.outvars) if calls else [True] * len(equation.outvars)
    for called in calls:
        found, outs = _first_nonlinear(getattr(called, "jaxpr", called), inputs)
        if found is not None:
            return found, []
        moves = [a or b for a, b in zip(moves, outs, strict=True)]
    return None, moves

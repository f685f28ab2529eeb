"""Whether a traced function is linear, as far as its operations tell.

A JVP that is not linear in its tangents has no transpose; JAX then fails with an empty assertion
or, differentiating at zero, gives a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from diptych.errors import LinearityError, message

_NEVER = frozenset(
    "abs acos acosh asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp cos cosh"
    " digamma erf erf_inv erfc exp exp2 expm1 floor is_finite lgamma log log1p logistic max min"
    " nextafter pow reduce_max reduce_min rem round rsqrt sign sin sinh sort sqrt square tan"
    " tanh".split()
)
_BILINEAR = frozenset(("mul", "dot_general", "conv_general_dilated"))
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
    jaxpr = jax.make_jaxpr(f)(*zeros).jaxpr
    found = _first_nonlinear(jaxpr, [True] * len(zeros))
    if found is not None:
        vector = "tangents" if where.startswith("jvp") else "cotangent"
        raise LinearityError(
            message(
                f"{where} is not linear in its {vector}",
                expected=f"linear operations on the {vector}: sums, and products with residuals",
                got=f"the operation `{found}` applied to them",
                mend=f"compute with residuals whatever is not linear, then multiply the {vector}",
            )
        )


def _first_nonlinear(jaxpr: Any, moving_inputs: Sequence[bool]) -> str | None:
    moving = {id(v) for v, m in zip(jaxpr.invars, moving_inputs, strict=True) if m}
    for equation in jaxpr.eqns:
        flags = [id(v) in moving for v in equation.invars]
        if not any(flags):
            continue
        name = equation.primitive.name
        squares = name == "integer_pow" and equation.params["y"] != 1
        twice = name in _BILINEAR and all(flags[:2])
        below = name == "div" and flags[1]
        chooses = name == "select_n" and flags[0]
        if name in _NEVER or squares or twice or below or chooses:
            return name
        if name in _COMPARISONS:
            # Only a choice made by it matters, but nothing else is done with a truth value.
            return name
        inner = equation.params.get("jaxpr") if name in ("jit", "pjit") else None
        if inner is not None:
            found = _first_nonlinear(inner.jaxpr, flags)
            if found is not None:
                return found
        moving.update(id(v) for v in equation.outvars)
    return None

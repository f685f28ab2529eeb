"""What a traced function gives at zero: a linear one zero.

Known zeros are followed through the operations. Whatever else an output is made of is evaluated,
where its values are there; where they are traced nothing is known.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.extend import core

_SUMS = frozenset(("add", "add_any", "sub"))
_PRODUCTS = frozenset(("mul", "dot_general", "conv_general_dilated"))
_CALLS = frozenset("jit pjit closed_call checkpoint remat2 custom_jvp_call custom_vjp_call".split())
_ONLY_FIRST = frozenset(
    "neg convert_element_type broadcast_in_dim reshape reduce_sum transpose squeeze div real imag"
    " conj copy slice cumsum rev expand_dims".split()
)

Value = Callable[[], Any] | None  # `None`: zero


def nonzero_at_zero(closed: Any) -> bool:
    """Returns whether an output of a closed jaxpr is certainly not zero where its inputs are.

    NaN, as of an infinite residual times zero, does not count.
    """
    constants = [functools.partial(_known, x) for x in closed.consts]
    inputs: list[Value] = [None] * len(closed.jaxpr.invars)
    for value in _outputs(closed.jaxpr, constants, inputs):
        found = None if value is None else value()
        if found is not None and bool(np.any((found != 0) & (found == found))):
            return True
    return False


def _known(x: Any) -> Any:
    return None if isinstance(x, jax.core.Tracer) else np.asarray(x)


def _outputs(jaxpr: Any, constants: Sequence[Value], inputs: Sequence[Value]) -> list[Value]:
    found: dict[Any, Value] = dict(zip(jaxpr.constvars, constants, strict=True))
    found.update(zip(jaxpr.invars, inputs, strict=True))

    def read(v: Any) -> Value:
        return functools.partial(_known, v.val) if isinstance(v, core.Literal) else found[v]

    for equation in jaxpr.eqns:
        values = [read(v) for v in equation.invars]
        found.update(zip(equation.outvars, _apply(equation, values), strict=True))
    return [read(v) for v in jaxpr.outvars]


def _apply(equation: Any, values: list[Value]) -> list[Value]:
    name, zero = equation.primitive.name, [value is None for value in values]
    if any(zero):
        first_zero = name in _ONLY_FIRST and zero[0]
        if first_zero or (name in _PRODUCTS and any(zero[:2])) or (name in _SUMS and all(zero)):
            return [None]
        if name in _SUMS:
            return [values[0] or values[1]]  # of the other sign, which does not matter here
        if name == "select_n" and all(zero[1:]):
            return [None]
    if name in _CALLS:
        called = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
        constants = [functools.partial(_known, x) for x in getattr(called, "consts", ())]
        return _outputs(getattr(called, "jaxpr", called), constants, values)
    evaluated = functools.cache(lambda: _evaluate(equation, values))
    return [functools.partial(_item, evaluated, i) for i in range(len(equation.outvars))]


def _item(evaluated: Callable[[], Any], i: int) -> Any:
    found = evaluated()
    return None if found is None else found[i]


def _evaluate(equation: Any, values: Sequence[Value]) -> Any:
    """Returns what an operation gives, or `None` where its arguments are not known."""
    arguments = []
    for v, value in zip(equation.invars, values, strict=True):
        known = np.zeros(v.aval.shape, v.aval.dtype) if value is None else value()
        if known is None:
            return None
        arguments.append(known)
    with jax.ensure_compile_time_eval():
        try:
            found = equation.primitive.bind(*map(jnp.asarray, arguments), **equation.params)
        except Exception:  # an axis of a mesh or of vmap, say, is not known here
            return None
    outs = found if equation.primitive.multiple_results else [found]
    return (
        None if any(isinstance(x, jax.core.Tracer) for x in outs) else list(map(np.asarray, outs))
    )

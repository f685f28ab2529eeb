"""Arrays that are read from outside the arguments of a JAX function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from diptych.proof.probes import Function, Lost
from diptych.proof.reach import reached


def parts(thing: Any) -> list[Any]:
    """Returns the functions of a custom_vjp or custom_jvp."""
    if not isinstance(thing, (jax.custom_vjp, jax.custom_jvp)):
        return []
    whole = [getattr(thing, name, None) for name in ("fun", "fwd", "bwd", "jvp")]
    return [f for f in whole if f is not None]


def _arrays_in(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.inexact):
        yield "", value


def lost(target: Any, f: Function, xs: Sequence[Any], wanted: Sequence[bool]) -> list[Lost]:
    """Differentiates with respect to each array in a closure, by putting a tracer in its place."""
    found = []
    for name, array, cell in reached(target.thing, parts, _arrays_in):
        if cell is None:  # a global is not traced
            continue

        def of(value: Any, cell: Any = cell, array: Any = array) -> Any:
            cell.cell_contents = value
            try:
                outs = f(*xs)
            finally:
                cell.cell_contents = array
            return [jnp.real(o) for o in outs if jnp.issubdtype(o.dtype, jnp.inexact)]

        try:
            dots = jax.jvp(of, (array,), (jnp.ones_like(array),))[1]
        except Exception as error:
            found.append(Lost(name, False, type(error).__name__))
            continue
        zero = not any(bool(jnp.any(dot != 0)) for dot in dots)
        # A plain function that cuts its own gradient does so on purpose.
        lost = zero and target.custom and _changes(of, array)
        found.append(Lost(name, lost, ""))
    return found


def _changes(of: Callable[..., Any], array: Any) -> bool:
    moved = of(array + 1e-3 * (1 + jnp.abs(array)))
    return any(bool(jnp.any(a != b)) for a, b in zip(of(array), moved, strict=True))

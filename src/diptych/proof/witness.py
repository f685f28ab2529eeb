"""A copy of a rule whose derivative is deliberately another one: who honours it shows the factor.

The VJP is doubled and the JVP tripled, so that a number tells which direction a transform took, or
that it took none and differentiated the body.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from diptych.arguments import flatten, is_node, unflatten
from diptych.rule import Rule
from diptych.statement import Statement

PULL, PUSH = 2, 3


def of_rule(rule: Rule) -> tuple[Callable[..., Any], int | None, int | None] | None:
    """Returns the witness of a rule, and the factors due in reverse and in forward mode.

    `None` for a rule that states nothing that could be scaled: a linear one is its own JVP.
    """
    stated = rule._statement
    if stated.vjp is None and stated.jvp is None and stated.partials is None:
        return None
    statement = Statement(
        stated.body,
        rule._parameters,
        linear=stated.linear,
        host=stated.host,
        out=stated.out,
        vectorized=stated.vectorized,
    )
    copy = Rule(rule._function, rule._parameters, statement)
    statement.fwd_out = stated.fwd_out
    if stated.fwd is not None:
        copy._state("fwd", stated.fwd)
    for part, factor in (("vjp", PULL), ("partials", PULL), ("jvp", PUSH)):
        function = getattr(stated, part)
        if function is not None:
            copy._state(part, _scaled(function, factor))
    reverse = PUSH if stated.vjp is None and stated.partials is None else PULL
    if stated.jvp is not None:
        return copy, reverse, PUSH
    # Transposition passes on what is stated; a linear rule is pushed by its own body.
    return copy, reverse, None if stated.linear else PULL


def _scaled(function: Callable[..., Any], factor: int) -> Callable[..., Any]:
    def scaled(*args: Any) -> Any:
        return times(factor, function(*args))

    functools.update_wrapper(scaled, function)
    del scaled.__wrapped__  # what it reads is found by looking at itself
    return scaled


def times(factor: int, found: Any) -> Any:
    """Returns (co)tangents times a factor, whatever tree they make; what is lazy stays so."""
    x: Any = found
    if x is None:
        return None
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*[times(factor, part) for part in x])
    if isinstance(x, (tuple, list)):
        return type(x)([times(factor, part) for part in x])
    if isinstance(x, dict):
        return {key: times(factor, part) for key, part in x.items()}
    if callable(x) and not hasattr(x, "shape") and not is_node(x):
        return lambda: times(factor, found())
    if is_node(x):
        leaves, treedef = flatten(x)
        return unflatten(treedef, [times(factor, leaf) for leaf in leaves])
    return factor * found

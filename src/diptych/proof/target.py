"""What was handed in to be checked, and how it is called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from typing import Any

from diptych.errors import KindError, message
from diptych.proof.prober import Prober, Target
from diptych.rule import Rule


def target_of(f: Any, prober: Prober, args: Sequence[Any]) -> tuple[Target, tuple[Any, ...]]:
    """Returns what `f` is to this framework, and the arguments that it is called with.

    Args:
        f: what was handed in.
        prober: the framework.
        args: the arguments as given.

    Raises:
        KindError: if `f` is no function.
    """
    if isinstance(f, Rule):
        return _of_rule(f), tuple(args)
    found = prober.target(f)
    if found is not None:
        if found.kind == "torch.nn.Module":
            parameters = {name: p.detach() for name, p in f.named_parameters()}
            return found, (parameters, *args)
        return found, tuple(args)
    if not callable(f):
        raise KindError(
            message(
                "diptych.check",
                expected="a rule, a custom derivative of PyTorch or JAX, or a function",
                got=f"{type(f).__name__}",
                mend="pass the function itself: diptych.check(f, x), not its result",
            )
        )
    inner = getattr(f, "func", None) if isinstance(f, functools.partial) else None
    name = getattr(f, "__name__", None) or getattr(inner, "__name__", type(f).__name__)
    return Target(name, "function", f, thing=f, parameters=_parameters(f)), tuple(args)


def _of_rule(rule: Rule) -> Target:
    statement = rule._statement
    forward = None
    if statement.fwd is not None and not statement.host:
        fwd = statement.fwd
        forward = lambda *args, **kwargs: fwd(*args, **kwargs)[0]  # noqa: E731
    return Target(
        statement.name,
        "host rule" if statement.host else "rule",
        rule,
        None if statement.host else statement.body,
        True,
        None,
        forward,
        rule,
        rule._parameters.names,
        derived=_derived(statement),
    )


def _derived(statement: Any) -> str | None:
    """Returns which direction follows from the other, if one of them alone is stated."""
    if statement.partials is not None or (statement.jvp is None) == (statement.vjp is None):
        return None
    return "vjp" if statement.vjp is None else None if statement.linear else "jvp"


def _parameters(f: Any) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(p.name for p in parameters if p.kind in kinds)

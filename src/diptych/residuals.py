"""The residuals of a rule that states no `fwd`: a named tuple of its arguments and its output."""

from __future__ import annotations

import collections
import functools
import operator
import warnings
from typing import Any

import optree

from diptych.arguments import NAMESPACE, Parameters
from diptych.static import Static


def residuals_type(parameters: Parameters) -> type:
    """Returns the named tuple whose fields are a rule's parameters and `out`.

    In a pytree its static fields belong to the structure, not to the leaves: handed on to another
    rule they stay what they are.
    """
    name = parameters.name if parameters.name.isidentifier() else "rule"
    return _type(name, parameters.names, parameters.static)


def _missing(res: Any, name: str) -> Any:
    listed = ", ".join(f"res.{field}" for field in type(res)._fields)
    raise AttributeError(
        f"residuals have no '{name}'; without `fwd` they are the arguments and the output: {listed}"
    )


@functools.cache  # optree holds what is registered for ever: rules alike share one type
def _type(name: str, names: tuple[str, ...], statics: frozenset[str]) -> type:
    fields = [*("out_" if n == "out" else n for n in names), "out"]
    base = collections.namedtuple(f"{name}_residuals", fields, rename=True)  # type: ignore[misc]
    members: dict[str, Any] = {"__slots__": (), "__module__": __name__, "__getattr__": _missing}
    # No field's name may begin with an underscore, a parameter's may.
    members.update(
        (given, property(operator.itemgetter(i)))
        for i, (given, field) in enumerate(zip(fields, base._fields, strict=True))
        if given != field and given.startswith("_") and not hasattr(base, given)
    )
    kind = type(base.__name__, (base,), members)
    if not statics:
        return kind
    static = [i for i, n in enumerate(names) if n in statics]
    dynamic = [i for i in range(len(fields)) if i not in static]
    entries = tuple(base._fields[i] for i in dynamic)

    def flatten(res: Any) -> tuple[tuple[Any, ...], Static, tuple[str, ...]]:
        return tuple(res[i] for i in dynamic), Static(tuple(res[i] for i in static)), entries

    def unflatten(values: Any, children: Any) -> Any:
        found = dict(zip(dynamic, children, strict=True))
        found.update(zip(static, values.values, strict=True))
        return kind(*[found[i] for i in range(len(fields))])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optree warns that named tuples are nodes already
        optree.register_pytree_node(kind, flatten, unflatten, namespace=NAMESPACE)
    return kind

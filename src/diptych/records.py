"""Dataclasses as pytree nodes: arrays are their children, all else belongs to the structure."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import optree

from diptych.static import Static

_FIXED = (str, bytes, enum.Enum, np.dtype, type(Ellipsis), slice, range, type)


def dataclass_node(
    record: Any, is_node: Callable[[Any], bool]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns how dataclasses of this type are taken apart, and made again.

    Args:
        record: one of them.
        is_node: tells a pytree node from a leaf.
    """
    kind = type(record)
    fields = dataclasses.fields(record)
    declared = frozenset(f.name for f in fields if f.metadata.get("static"))

    def children_of(x: Any) -> tuple[tuple[Any, ...], Static, tuple[str, ...]]:
        children, names, fixed = [], [], []
        for field in fields:
            name, value = field.name, getattr(x, field.name)
            if name in declared or _is_fixed(value, is_node):
                fixed.append((name, value))
            else:
                children.append(value)
                names.append(name)
        return tuple(children), Fixed(fixed), tuple(names)

    def rebuild(fixed: Fixed, children: Iterable[Any]) -> Any:
        # Not through __init__, which may convert or refuse what is no array (a tracer, None).
        new = object.__new__(kind)
        values = dict(zip(fixed.names, fixed.values, strict=True))
        rest = iter(children)
        for field in fields:
            name = field.name
            value = values[name] if name in values else next(rest)
            object.__setattr__(new, name, value)
        return new

    return children_of, rebuild


class Fixed(Static):
    """Fields of a dataclass that belong to the structure: they are no arrays.

    Args:
        fields: their names and values.
    """

    __slots__ = ("names",)

    def __init__(self, fields: Sequence[tuple[str, Any]]):
        self.names = tuple([name for name, _ in fields])
        super().__init__(tuple([value for _, value in fields]))

    __hash__ = Static.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and self.names == other.names and super().__eq__(other)

    def __repr__(self) -> str:
        pairs = zip(self.names, self.values, strict=True)
        return ", ".join(f"{name}={value!r}" for name, value in pairs)


def _is_fixed(value: Any, is_node: Callable[[Any], bool]) -> bool:
    """Returns whether a dataclass's field is certainly no array: text, an enum, a function."""
    if isinstance(value, _FIXED):
        return True
    if type(value).__module__ == "torch" and type(value).__name__ in ("dtype", "device"):
        return True
    # A callable node is a node; a module holds parameters, which must be arguments of their own.
    return callable(value) and not (
        hasattr(value, "dtype") or hasattr(value, "state_dict") or is_node(value)
    )


def fixed_in(treedef: optree.PyTreeSpec) -> list[tuple[str, Any]]:
    """Returns what the dataclasses of a structure hold beside arrays, with the fields' names."""
    found: list[tuple[str, Any]] = []

    def look(kind: type, data: Any, children: Any) -> None:
        if isinstance(data, Fixed):
            found.extend(zip(data.names, data.values, strict=True))

    treedef.walk(range(treedef.num_leaves), look, lambda leaf: None)
    return found

"""Arguments and outputs of a rule as torch.compile takes them.

Dynamo flattens both by PyTorch's pytrees, which know no dataclass that is not registered, and takes
neither `None` nor, coming out, constants and named tuples. These travel as nodes of our own.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree


class Constant:
    """Stands for what is no array; unpacked it is that again."""

    def __init__(self, value: Any):
        self.value = value


class _Kinds:
    """The types of named tuples and dataclasses that were met, each an attribute.

    Here Dynamo finds them again when it makes one that leaves the compiled code.
    """


_names: dict[type, str] = {}


@torch._dynamo.assume_constant_result
def _name_of(kind: type) -> str:
    name = _names.setdefault(kind, f"kind{len(_names)}")
    setattr(_Kinds, name, kind)
    return name


class Node:
    """Stands for a named tuple or a dataclass; unpacked it is that again.

    Args:
        kind: the name of its type.
        fields: a dataclass's fields; none for a named tuple.
        children: its parts, packed.
    """

    def __init__(self, kind: str, fields: tuple[str, ...], children: list[Any]):
        self.kind = kind
        self.fields = fields
        self.children = children


def _unpack(children: Any, context: tuple[str, tuple[str, ...]]) -> Any:
    kind, fields = getattr(_Kinds, context[0]), context[1]
    if not fields:
        return kind(*children)
    # Not through __init__, which may convert or refuse what is no array.
    new = object.__new__(kind)
    for name, child in zip(fields, children, strict=True):
        object.__setattr__(new, name, child)
    return new


pytree.register_pytree_node(Constant, lambda x: ([], x.value), lambda _, value: value)
pytree.register_pytree_node(Node, lambda x: (x.children, (x.kind, x.fields)), _unpack)


def arguments(dynamic: list[Any], named: dict[str, Any]) -> tuple[Any, Any]:
    """Returns arguments as Dynamo hands them on."""
    device = None
    for x in pytree.tree_leaves((dynamic, named)):
        device = x.device if isinstance(x, torch.Tensor) else device
    return _packed((dynamic, named), (type(None),), device)


def output(out: Any) -> Any:
    """Returns an output that Dynamo unpacks to what it was."""
    return _packed(out, (type(None), bool, int, float, complex, str, bytes), None)


def _packed(tree: Any, constants: tuple[type, ...], device: Any) -> Any:
    if isinstance(tree, torch.Tensor):
        return tree
    if isinstance(tree, np.ndarray):
        return torch.as_tensor(tree, device=device)
    kind = type(tree)
    if kind in constants:
        return Constant(tree)
    if kind is dict:
        return {key: _packed(item, constants, device) for key, item in tree.items()}
    if kind is list:
        return [_packed(item, constants, device) for item in tree]
    if kind is tuple:
        return tuple([_packed(item, constants, device) for item in tree])
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return Node(_name_of(kind), (), [_packed(item, constants, device) for item in tree])
    if dataclasses.is_dataclass(tree):
        names, children = [], []
        for field in dataclasses.fields(tree):
            value = getattr(tree, field.name)
            fixed = field.metadata.get("static") or _is_fixed(value)
            names.append(field.name)
            children.append(Constant(value) if fixed else _packed(value, constants, device))
        return Node(_name_of(kind), tuple(names), children)
    return tree


def _is_fixed(value: Any) -> bool:
    """Returns what `records._is_fixed` does, in terms that Dynamo traces."""
    if isinstance(value, (str, bytes, enum.Enum, type, torch.dtype, torch.device)):
        return True
    if isinstance(value, (torch.Tensor, np.ndarray, torch.nn.Module)):
        return False
    return callable(value) and not dataclasses.is_dataclass(value)

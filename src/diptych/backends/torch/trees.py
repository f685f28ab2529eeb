"""Functions of any pytree as functions of tensors alone, as torch.func differentiates them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from diptych.arguments import flatten, unflatten
from diptych.call import partition


class Opened:
    """A function of floating-point tensors that returns a tuple of tensors.

    What else is among its arguments, its output or `aux` (`None`, integers, text) passes by.

    Args:
        f: the function of pytrees.
        primals: its arguments.
        has_aux: whether it returns `(output, aux)`.
    """

    def __init__(self, f: Callable[..., Any], primals: tuple[Any, ...], *, has_aux: bool):
        self.f = f
        self.has_aux = has_aux
        self.leaves, self.treedef = flatten(primals)
        self.moving = [i for i, x in enumerate(self.leaves) if _moves(x)]
        self.primals = tuple(self.leaves[i] for i in self.moving)
        self.out_parts: list[Any] = []
        self.aux_parts: list[Any] = []

    def __call__(self, *moved: torch.Tensor) -> Any:
        """Returns the tensors of the output, and beside them those of `aux` if there is any."""
        full = list(self.leaves)
        for i, value in zip(self.moving, moved, strict=True):
            full[i] = value
        out = self.f(*unflatten(self.treedef, full))
        if not self.has_aux:
            return self._close(out)
        out, aux = out
        arrays, *self.aux_parts = partition(aux, _is_tensor)
        return self._close(out), tuple(arrays)

    def _close(self, out: Any) -> tuple[Any, ...]:
        arrays, *self.out_parts = partition(out, _is_tensor)
        return tuple(arrays)

    def moving_of(self, vectors: tuple[Any, ...]) -> tuple[Any, ...]:
        """Returns the tangents of what moves."""
        found = flatten(vectors)[0]
        return tuple(found[i] for i in self.moving)

    def bars_of(self, bar: Any) -> tuple[Any, ...]:
        """Returns the cotangents of the output's tensors."""
        return tuple(x for x in flatten(bar)[0] if _is_tensor(x))

    def output(self, arrays: Sequence[Any], *, fixed: bool = True) -> Any:
        """Returns the output of its tensors; as a tangent it has `None` for what is fixed."""
        return _rebuild(self.out_parts, arrays, fixed)

    def aux(self, arrays: Sequence[Any]) -> Any:
        """Returns `aux` of its tensors."""
        return _rebuild(self.aux_parts, arrays, True)

    def cotangents(self, found: Sequence[Any]) -> tuple[Any, ...]:
        """Returns the cotangents in the structure of the arguments; `None` for what is fixed."""
        full: list[Any] = [None] * len(self.leaves)
        for i, value in zip(self.moving, found, strict=True):
            full[i] = value
        return unflatten(self.treedef, full)


def _rebuild(parts: Any, arrays: Sequence[Any], fixed: bool) -> Any:
    treedef, others = parts
    leaves = list(arrays)
    for position, value in others.values:
        leaves.insert(position, value if fixed else None)
    return unflatten(treedef, leaves)


def _is_tensor(x: Any) -> bool:
    return isinstance(x, torch.Tensor)


def _moves(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex())

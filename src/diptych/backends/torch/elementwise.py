"""Partial derivatives times a cotangent, made cheap: real tensors of one framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def times_partials(partials: Any, bar: Tensor, metas: Sequence[Any]) -> Any:
    """Returns each real partial times the cotangent, or `None` where more than that is needed."""
    if bar.is_complex():
        return None
    single = len(metas) == 1
    parts = (partials,) if single else partials
    if type(parts) is not tuple or len(parts) != len(metas):
        return None
    full = bar.shape
    found: list[Any] = []
    for partial, (shape, _, _) in zip(parts, metas, strict=True):
        if type(partial) is not Tensor or partial.is_complex():
            return None
        try:
            value = partial * bar
        except RuntimeError:  # of a shape that does not fit, which the general way names
            return None
        if value.shape != full:
            return None
        if shape != full:
            value = value.sum_to_size(shape)
        found.append(value)
    return found[0] if single else tuple(found)

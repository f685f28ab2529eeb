"""Partial derivatives times a cotangent, made cheap: real tensors of one framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_COMPLEX = frozenset({torch.complex32, torch.complex64, torch.complex128})


def times_partials(partials: Any, bar: Tensor, metas: Sequence[Any]) -> Any:
    """Returns each real partial times the cotangent, or `None` where more than that is needed."""
    if bar.dtype in _COMPLEX:
        return None
    if len(metas) == 1:
        return _times(partials, bar, metas[0][0])
    if type(partials) is not tuple or len(partials) != len(metas):
        return None
    found = []
    for partial, (shape, _, _) in zip(partials, metas, strict=True):
        value = _times(partial, bar, shape)
        if value is None:
            return None
        found.append(value)
    return tuple(found)


def _times(partial: Any, bar: Tensor, shape: Any) -> Any:
    if type(partial) is not Tensor:
        return None
    try:
        value = partial * bar
    except RuntimeError:  # of a shape that does not fit, which the general way names
        return None
    full = bar.shape
    if value.shape != full or value.dtype is not bar.dtype:  # broadcast, or complex
        return None
    return value if shape == full else value.sum_to_size(shape)

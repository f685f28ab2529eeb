"""Partial derivatives times a cotangent, made cheap: real tensors of one framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diptych.checks import broadcasts


def times_partials(partials: Any, bar: Any, metas: Sequence[Any]) -> Any:
    """Returns each real partial times the cotangent, or `None` where more than that is needed."""
    if bar.is_complex():
        return None
    full = bar.shape
    if len(metas) == 1:
        if type(partials) is not Tensor or not _fits(partials, full):
            return None
        return _sum_to(partials * bar, metas[0][0])
    if type(partials) is not tuple or len(partials) != len(metas):
        return None
    found: list[Any] = []
    for partial, (shape, _, _) in zip(partials, metas, strict=True):
        if type(partial) is Tensor and _fits(partial, full):
            found.append(_sum_to(partial * bar, shape))
        else:
            return None
    return tuple(found)


def _fits(partial: Tensor, full: torch.Size) -> bool:
    fits = partial.shape == full or broadcasts(partial.shape, full)
    return fits and not partial.is_complex()


def _sum_to(x: Tensor, shape: torch.Size) -> Tensor:
    if x.shape == shape:
        return x
    return x.expand(torch.broadcast_shapes(x.shape, shape)).sum_to_size(shape)

"""The same values in other memory: what code that reads raw pointers or `view`s gets wrong."""

from __future__ import annotations

import torch


def layouts(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Returns tensors equal to `x` whose strides, offset or format are others."""
    found: dict[str, torch.Tensor] = {}
    if x.ndim == 0 or x.numel() == 0:
        return found
    spread = x.new_full((*x.shape[:-1], 2 * x.shape[-1]), float("nan")) if _fills(x) else None
    if spread is not None:
        spread[..., ::2] = x
        found["every second entry of its memory"] = spread[..., ::2]
        padded = x.new_full((x.numel() + 3,), float("nan"))
        padded[3:] = x.reshape(-1)
        found["an offset into its memory"] = padded[3:].view(x.shape)
    if x.ndim >= 2:
        if spread is not None:
            wide = x.new_full((*x.shape[:-1], x.shape[-1] + 3), float("nan"))
            wide[..., : x.shape[-1]] = x
            found["gaps between its rows"] = wide[..., : x.shape[-1]]
        turned = x.transpose(-1, -2).contiguous().transpose(-1, -2)
        found["transposed memory"] = turned
    if x.ndim == 4:
        found["channels-last memory"] = x.contiguous(memory_format=torch.channels_last)
    return found


def expanded(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Returns tensors with stride 0 along an axis, or all; their values repeat."""
    found: dict[str, torch.Tensor] = {}
    if x.numel() == 0:
        return found
    if x.ndim:
        first = x.reshape(-1)[:1].reshape((1,) * x.ndim)
        found["stride 0 along every axis"] = first.expand(x.shape)
    if x.ndim >= 2:
        found["stride 0 along the first axis"] = x[:1].expand(x.shape)
        found["stride 0 along the last axis"] = x[..., :1].expand(x.shape)
    return found


def _fills(x: torch.Tensor) -> bool:
    return x.is_floating_point() or x.is_complex()

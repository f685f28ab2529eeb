"""Whether a direction is linear, by its values: PyTorch transposes anything without a word."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from diptych.backends import Meta
from diptych.backends.torch import state
from diptych.checks import not_linear

_TOLERANCE = 1e-3  # iterative solves are linear to their tolerance only


def check_linear(
    function: Callable[[Sequence[Any]], list[Any]], metas: Sequence[Meta], where: str
) -> bool:
    """Raises if `function` is not linear; returns whether values were there to tell.

    Of a linear function the value at -2 t is -2 times that at t, exactly but for iterations. Of
    what is merely affine, positively homogeneous or curved it is not.

    Args:
        function: a rule's direction, of lists of tensors.
        metas: the shapes and dtypes of its arguments.
        where: "jvp of f" or "vjp of f", for the message.

    Raises:
        LinearityError: saying what differs.
    """
    vectors = [_vector(meta) for meta in metas]
    if state.old_vmap_active() or state.traced(vectors):
        return False
    with torch.no_grad(), state.random_numbers_kept() as again:
        once = function(vectors)
        again()
        scaled = function([-2 * v for v in vectors])
    for one, other in zip(once, scaled, strict=True):
        difference = (other + 2 * one).abs()
        wrong = difference > _TOLERANCE * one.abs().max() if one.numel() else difference > 0
        found = state.peek(wrong)
        if found is None:
            return False
        if found.any():
            raise not_linear(where, "for -2 times them other than -2 times the result")
    return True


def _vector(meta: Meta) -> torch.Tensor:
    values = torch.arange(1, math.prod(meta.shape) + 1, dtype=torch.float64, device=meta.device)
    return (values * 2.4).sin().reshape(meta.shape).to(meta.dtype)

"""Autocast: a rule's derivative runs under the autocast under which its value was computed.

What a rule returns then has the dtypes that autocast chose and the rule's author did not: it is
cast to its primal's. Everywhere else a wrong dtype is an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

any_enabled = torch._C._is_any_autocast_enabled
State = tuple[tuple[str, torch.dtype], ...]

_nothing = contextlib.nullcontext()


def now() -> State:
    """Returns for which devices autocast is on, and its dtype there."""
    if not any_enabled():
        return ()
    devices = torch._C._autocast_supported_devices()
    return tuple((d, torch.get_autocast_dtype(d)) for d in devices if torch.is_autocast_enabled(d))


def as_it_was(before: State) -> Any:
    """Returns a context with the autocast of `before`."""
    return _as_it_was(before) if before or any_enabled() else _nothing


@contextlib.contextmanager
def _as_it_was(before: State) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        on = dict(before)
        for device, dtype in now():
            if device not in on:
                stack.enter_context(torch.autocast(device, dtype, enabled=False))
        for device, dtype in before:
            stack.enter_context(torch.autocast(device, dtype))
        yield


def recast(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Returns `x` in this dtype if autocast is on and may have chosen another."""
    floats = x.is_floating_point() and dtype.is_floating_point
    return x.to(dtype) if floats and any_enabled() else x

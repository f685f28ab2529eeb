"""A module as a function of its parameters, for the proof."""

from __future__ import annotations

from typing import Any

import torch

from diptych.proof.prober import Target


def of_module(module: torch.nn.Module) -> Target:
    """Returns a module as a function of its parameters first; its buffers stay as they are."""
    buffers = dict(module.named_buffers())

    def call(parameters: dict[str, Any], *args: Any) -> Any:
        # Buffers as they were for each call, a copy, as running statistics change; and in the
        # precision in which the rest computes.
        floats = [x for x in (*parameters.values(), *args) if isinstance(x, torch.Tensor)]
        dtype = next((x.dtype for x in floats if x.is_floating_point()), None)
        copies = {
            name: b.to(dtype, copy=True) if b.is_floating_point() else b.clone()
            for name, b in buffers.items()
        }
        return torch.func.functional_call(module, {**parameters, **copies}, args)

    return Target(
        type(module).__name__, "torch.nn.Module", call, None, False, "torch", thing=module,
        parameters=("parameters",),
    )  # fmt: skip

"""PyTorch behind diptych's backend protocol."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import array_api_compat.torch
import numpy as np
import torch

from diptych import backends, krylov, opened
from diptych.arguments import Spec
from diptych.backends import Meta
from diptych.backends.torch import autocast, flat, host, rules, state
from diptych.backends.torch import compile as compiled
from diptych.backends.torch.linearity import check_linear
from diptych.call import Call
from diptych.checks import as_plain


class TorchBackend:
    """The protocol of `diptych.backends` for PyTorch tensors."""

    name = "torch"
    array_name = "torch.Tensor"

    def is_array(self, x: Any) -> bool:
        return isinstance(x, torch.Tensor)

    def is_differentiable(self, x: Any) -> bool:
        return rules.is_differentiable(x)

    def moves(self, x: Any) -> bool:
        return rules.is_differentiable(x)

    def meta(self, x: Any) -> Meta:
        return Meta(x.shape, x.dtype, x.device)

    def spec(self, x: Any) -> Spec:
        return host.spec_of(x)

    def namespace(self) -> ModuleType:
        return array_api_compat.torch

    def zeros(self, meta: Meta) -> Any:
        if meta is rules.NUMBER:
            return 0.0
        return torch.zeros(meta.shape, dtype=meta.dtype, device=meta.device)

    def from_number(self, x: Any, meta: Meta) -> Any:
        return torch.as_tensor(x, dtype=meta.dtype, device=meta.device)

    def conj(self, x: Any) -> Any:
        return x.conj() if isinstance(x, torch.Tensor) and x.is_complex() else _conj_number(x)

    def as_dtype(self, x: Any, meta: Meta) -> Any:
        x = x.real if x.is_complex() and not meta.dtype.is_complex else x
        return x if x.dtype == meta.dtype else x.to(meta.dtype)

    def recast(self, x: Any, meta: Meta) -> Any:
        return autocast.recast(x, meta.dtype)

    def sum_to(self, x: Any, meta: Meta) -> Any:
        if x.shape == meta.shape:
            return x
        return x.expand(torch.broadcast_shapes(x.shape, meta.shape)).sum_to_size(meta.shape)

    def broadcast_to(self, x: Any, meta: Meta) -> Any:
        return x if x.shape == meta.shape else x.expand(meta.shape)

    def basis(self, meta: Meta) -> Any:
        n = math.prod(meta.shape)
        return torch.eye(n, dtype=meta.dtype, device=meta.device).reshape(n, *meta.shape)

    def map_rows(self, f: Callable[..., tuple], rows: Any) -> tuple:
        return torch.vmap(f)(rows) if len(rows) else _no_rows(f, rows)

    def peek(self, truth: Any) -> Any:
        return state.peek(truth)

    def inverse(self, matrix: Any) -> Any:
        return torch.linalg.inv_ex(matrix).inverse

    def krylov(
        self, method: str, apply: Callable, b: Any, aim: float, restart: int, limit: int
    ) -> Any:
        return krylov.krylov(self, method, apply, b, aim, restart, limit)

    def apply(self, call: Call, leaves: Sequence[Any]) -> Any:
        for leaf in leaves:
            if isinstance(leaf, (np.ndarray, np.generic)):
                leaves = _as_tensors(call, leaves)
                break
        return rules.apply(call, leaves)

    def planned(self, call: Call, kinds: Sequence[type]) -> Callable[..., Any] | None:
        """Returns a cheap way to make this call with leaves of these types, if there is one."""
        return flat.plan(call, kinds)

    def transpose(
        self,
        function: Callable,
        metas: Sequence[Meta],
        covectors: Sequence[Any],
        where: str,
        known: set[str],
    ) -> list[Any]:
        if where not in known and check_linear(function, metas, where):
            known.add(where)
        zeros = [self.zeros(meta) for meta in metas]
        _, pullback = state.vjp(lambda *xs: tuple(function(xs)), *zeros)
        return list(pullback(tuple(covectors)))

    def jvp(self, f: Callable, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
        return opened.jvp(self, _jvp, f, primals, tangents)

    def vjp(self, f: Callable, primals: Sequence[Any], has_aux: bool) -> tuple:
        return opened.vjp(self, _vjp, f, primals, has_aux)

    def vmap(self, f: Callable, in_axes: Any, out_axes: Any) -> Callable:
        return torch.vmap(f, in_axes, out_axes)


def _jvp(f: Callable, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
    return torch.func.jvp(f, tuple(primals), tuple(tangents), has_aux=True)


def _vjp(f: Callable, primals: Sequence[Any]) -> tuple:
    return state.vjp(f, *primals, has_aux=True)


def _no_rows(f: Callable[..., tuple], rows: torch.Tensor) -> tuple:
    # torch.vmap refuses a batch of nothing; one row of zeros tells the shapes.
    found = torch.vmap(f)(rows.new_zeros(1, *rows.shape[1:]))
    return tuple(x[:0] for x in found)


def _conj_number(x: Any) -> Any:
    return x if isinstance(x, torch.Tensor) else x.conjugate()


def _as_tensors(call: Call, leaves: Sequence[Any]) -> list[Any]:
    # Copies: a residual must not change with the user's array, which nothing here would notice.
    device = next(x.device for x in leaves if isinstance(x, torch.Tensor))
    return [
        torch.from_numpy(
            as_plain(x, lambda i=i: f"{call.statement.name}: argument '{call.leaf_names[i]}'")
        ).to(device)
        if isinstance(x, (np.ndarray, np.generic))
        else x
        for i, x in enumerate(leaves)
    ]


backend = TorchBackend()
backends.compiling = torch.compiler.is_compiling
backends.call_compiled = compiled.call_compiled
# Dynamo, tracing diptych's own transforms, may look the owner of a type up but not enter it anew.
for kind in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer):
    backends.owner(kind)

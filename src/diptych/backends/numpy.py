"""NumPy: runs the body, and gives a derivative only where the rule itself states it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import array_api_compat.numpy
import numpy as np

from diptych import krylov
from diptych.arguments import Spec, flatten, unflatten
from diptych.backends import Meta
from diptych.errors import MissingDirectionError, message
from diptych.linear import LinearMap, Side
from diptych.opened import fit, name_of

_OTHER = {"vjp": "jvp", "jvp": "vjp"}


class NumpyBackend:
    """The protocol of `diptych.backends` for NumPy arrays."""

    name = "numpy"
    array_name = "numpy.ndarray"

    def is_array(self, x: Any) -> bool:
        return isinstance(x, (np.ndarray, np.generic, float, complex, int))

    def is_differentiable(self, x: Any) -> bool:
        return np.asarray(x).dtype.kind in "fcV"  # V: bfloat16 and its like from ml_dtypes

    def moves(self, x: Any) -> bool:
        return self.is_array(x) and self.is_differentiable(x)

    def meta(self, x: Any) -> Meta:
        return Meta(np.shape(x), np.asarray(x).dtype)

    def spec(self, x: Any) -> Spec:
        return Spec(np.shape(x), np.asarray(x).dtype)

    def namespace(self) -> ModuleType:
        return array_api_compat.numpy

    def zeros(self, meta: Meta) -> Any:
        return np.zeros(meta.shape, meta.dtype)

    def from_number(self, x: Any, meta: Meta) -> Any:
        return np.asarray(x, meta.dtype)

    def conj(self, x: Any) -> Any:
        return np.conj(x)

    def as_dtype(self, x: Any, meta: Meta) -> Any:
        x = x.real if np.iscomplexobj(x) and meta.dtype.kind != "c" else x
        return np.asarray(x, meta.dtype)

    def recast(self, x: Any, meta: Meta) -> Any:
        return x

    def sum_to(self, x: Any, meta: Meta) -> Any:
        x = np.broadcast_to(x, np.broadcast_shapes(np.shape(x), meta.shape))
        extra = x.ndim - len(meta.shape)
        axes = [i + extra for i, n in enumerate(meta.shape) if n == 1 != x.shape[i + extra]]
        return x.sum(axis=(*range(extra), *axes), keepdims=True).reshape(meta.shape)

    def broadcast_to(self, x: Any, meta: Meta) -> Any:
        return np.broadcast_to(x, meta.shape)

    def apply(self, call: Any, leaves: Sequence[Any]) -> Any:
        return call.primal(leaves)

    def transpose(
        self,
        function: Callable,
        metas: Sequence[Meta],
        covectors: Sequence[Any],
        where: str,
        known: set[str],
    ) -> list[Any]:
        raise MissingDirectionError(
            message(
                f"the transpose of the {where} on NumPy arrays",
                expected="a rule that states this direction itself: NumPy cannot transpose",
                got="a rule that states only the other one",
                mend=f"state @{where.partition(' of ')[2]}.{_OTHER[where.partition(' ')[0]]} too "
                "(or, if it is no host rule, pass torch tensors or JAX arrays)",
            )
        )

    def basis(self, meta: Meta) -> Any:
        n = math.prod(meta.shape)
        return np.eye(n, dtype=meta.dtype).reshape(n, *meta.shape)

    def map_rows(self, f: Callable[..., tuple], rows: Any) -> tuple:
        return tuple(np.stack(column) for column in zip(*map(f, rows), strict=True))

    def peek(self, truth: Any) -> Any:
        return np.asarray(truth)

    def inverse(self, matrix: Any) -> Any:
        return np.linalg.inv(matrix)

    def krylov(
        self, method: str, apply: Callable, b: Any, aim: float, restart: int, limit: int
    ) -> Any:
        return krylov.krylov(self, method, apply, b, aim, restart, limit)

    def jvp(self, f: Callable, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
        linear_map, res, out, positions = linearize(f, primals)
        leaves, treedef = flatten(tuple(primals))
        where = f"jvp of {name_of(f)}"
        dots = fit(self, leaves, treedef, tuple(tangents), where, "tangent")
        given: list[Any] = [None] * len(linear_map.inputs.metas)
        for i, tangent in zip(positions, dots, strict=True):
            given[i] = tangent
        pushed = linear_map.outputs.zeros(self, linear_map.push(res, given))
        return _as_called(f, out), _as_called(f, unflatten(flatten(out)[1], pushed))

    def vjp(self, f: Callable, primals: Sequence[Any], has_aux: bool) -> tuple:
        if has_aux:
            raise _only_rules("has_aux=True")
        linear_map, res, out, positions = linearize(f, primals)
        treedef = flatten(tuple(primals))[1]
        out_leaves, out_treedef = flatten(_as_called(f, out))

        def pullback(bar: Any) -> tuple[Any, ...]:
            metas = linear_map.inputs.metas
            wanted = [i in positions and meta is not None for i, meta in enumerate(metas)]
            where = f"pullback of {name_of(f)}"
            bars = fit(self, out_leaves, out_treedef, bar, where, "cotangent")
            found = linear_map.inputs.zeros(self, linear_map.pull(res, bars, wanted))
            return unflatten(treedef, [found[i] for i in positions])

        return _as_called(f, out), pullback

    def vmap(self, f: Callable, in_axes: Any, out_axes: Any) -> Callable:
        raise _only_rules("vmap")


def _as_called(f: Any, out: Any) -> Any:
    return tuple(flatten(out)[0]) if getattr(f, "flat", False) else out


def linearize(f: Any, primals: Sequence[Any]) -> tuple[LinearMap, Any, Any, list[int]]:
    """Returns a rule's linear map, residuals and output, and which leaves the primals are.

    A function that `diptych.transforms` made of a rule carries `rule_call`; `flat` on it says that
    it takes and returns leaves.
    """
    from diptych.rule import Rule

    rule, numbers, args, kwargs = getattr(
        f, "rule_call", (f, tuple(range(len(primals))), tuple(primals), {})
    )
    if not isinstance(rule, Rule):
        raise _only_rules("the derivative of a function that is no rule")
    full = list(args)
    if not getattr(f, "flat", False):
        for n, value in zip(numbers, primals, strict=True):
            full[n] = value
    dynamic, static = rule._parameters.bind(full, kwargs)
    leaves, treedef = flatten(dynamic)
    call = rule.call_of(treedef, static)
    out, res = call.forward(leaves, call.statement.reads_any(), backend)
    layout, outputs, kept = call.lay_out(leaves, out, res, backend.is_array)
    res = layout.residuals(layout.gather(leaves, outputs, kept))
    linear_map = LinearMap(
        call,
        layout,
        backend,
        Side([backend.meta(x) if backend.is_differentiable(x) else None for x in leaves]),
        Side([backend.meta(x) if backend.is_differentiable(x) else None for x in outputs]),
    )
    chosen = {rule._parameters.argument_name(n) for n in numbers}
    positions = [i for a in call.arguments if a.name in chosen for i in range(a.start, a.stop)]
    return linear_map, res, out, positions


def _only_rules(what: str) -> MissingDirectionError:
    return MissingDirectionError(
        message(
            f"{what} on NumPy arrays",
            expected="a diptych rule, whose stated derivative is then used",
            got="NumPy arrays, which cannot be differentiated",
            mend="pass torch tensors or JAX arrays",
        )
    )


backend = NumpyBackend()

"""Host rules on JAX: NumPy code behind one primitive.

Called with values it runs at once, so that an exception is the user's own; traced it becomes a
`jax.pure_callback`; batched it loops, or runs once if the rule is vectorized.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from diptych import host as neutral
from diptych.arguments import Spec
from diptych.backends.jax.avals import batch_in_front, result_type_of
from diptych.call import Call
from diptych.host import HostFunction, runs_on_host
from diptych.linear import LinearMap

__all__ = ["forward", "primal", "pull", "push", "runs_on_host"]

host_p = core.Primitive("diptych_host")
host_p.multiple_results = True


def _spec(x: Any) -> Spec:
    aval = jax.typeof(x)
    return Spec(tuple(aval.shape), np.dtype(aval.dtype))


def run(function: HostFunction, leaves: Sequence[Any]) -> list[Any]:
    """Returns the arrays that a host function gives for these arrays."""
    return host_p.bind(*leaves, function=function, batch=())


def primal(call: Call, leaves: Sequence[Any]) -> Any:
    """Returns the output of a host rule."""
    return neutral.primal(call, leaves, run, _spec)


def forward(call: Call, leaves: Sequence[Any], reads: Any) -> tuple[Any, Any]:
    """Returns the output and the residuals of a host rule."""
    return neutral.forward(call, leaves, reads, run, _spec)


def push(linear_map: LinearMap, res: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """Returns the output tangents of a host rule's own JVP."""
    return neutral.push(linear_map, res, tangents, run)


def pull(
    linear_map: LinearMap, res: Sequence[Any], bars: Sequence[Any], wanted: Sequence[bool]
) -> list[Any]:
    """Returns the cotangents of a host rule's own VJP."""
    return neutral.pull(linear_map, res, bars, wanted, run)


@host_p.def_impl
def _impl(*args: Any, function: HostFunction, batch: tuple[Any, ...]) -> list[Any]:
    arrays = [np.asarray(x) for x in args]
    return [jax.numpy.asarray(x) for x in _run_batched(function, batch, arrays)]


def _run_batched(function: HostFunction, batch: tuple[Any, ...], arrays: list[Any]) -> list[Any]:
    return neutral.run_batched(function, batch, arrays)


@host_p.def_abstract_eval
def _abstract(*avals: Any, function: HostFunction, batch: tuple[Any, ...]) -> list[Any]:
    specs = function.specs()
    sizes = tuple(size for size, _ in batch)[::-1]
    found = []
    for spec in specs:
        dtype = jax.dtypes.canonicalize_dtype(spec.dtype)
        found.append(result_type_of(avals, (*sizes, *spec.shape), dtype))
    return found


def _lower(*args: Any, function: HostFunction, batch: tuple[Any, ...]) -> list[Any]:
    avals = _abstract_of(args, function, batch)
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]

    def callback(*values: Any) -> list[Any]:
        # Host bodies get NumPy arrays and nothing else: JAX calls in a callback can hang
        # (jax-ml/jax#24255).
        arrays = [np.asarray(x) for x in values]
        found = _run_batched(function, batch, arrays)
        return [np.asarray(x, s.dtype) for x, s in zip(found, shapes, strict=True)]

    return jax.pure_callback(callback, shapes, *args, vmap_method="sequential")


def _abstract_of(args: Sequence[Any], function: HostFunction, batch: tuple[Any, ...]) -> list[Any]:
    return _abstract(*[jax.typeof(x) for x in args], function=function, batch=batch)


mlir.register_lowering(host_p, mlir.lower_fun(_lower, multiple_results=True))


def _batch(axis: Any, args: Sequence[Any], dims: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    if all(dim is None for dim in dims):
        outs = host_p.bind(*args, **params)
        return outs, [None] * len(outs)
    moved = [
        x if dim is None else batch_in_front(x, dim, axis)
        for x, dim in zip(args, dims, strict=True)
    ]
    level = (axis.size, tuple(dim is not None for dim in dims))
    outs = host_p.bind(*moved, function=params["function"], batch=(*params["batch"], level))
    return outs, [0] * len(outs)


batching.fancy_primitive_batchers[host_p] = _batch


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    raise neutral.cannot_differentiate(params["function"])


ad.primitive_jvps[host_p] = _jvp

"""The one JAX primitive: a linear map with two directions.

`jax.custom_vjp` refuses forward mode and `jax.custom_jvp` lets JAX transpose the JVP, so neither
can carry a rule that states both (jax-ml/jax#3996). This primitive can: evaluated it runs `push`,
its transpose is itself with push and pull exchanged, its JVP is itself on the tangents plus the
derivative of the direction's own code in the residuals, and its batching maps both.

Tried on jax 0.10.2; uses only `jax.extend.core` and `jax.interpreters`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from diptych.backends.jax.avals import (
    axis_name,
    batch_in_front,
    to_cotangent,
    vary_like,
    with_batch,
)
from diptych.call import Call, Layout
from diptych.linear import LinearMap, Side


@dataclass(frozen=True)
class Map:
    """What the two directions of a call are made of; hashable, so that JAX's caches find it.

    Args:
        call, layout: the call and the layout of its output and residuals.
        inputs, outputs: the shape and dtype of each leaf, `None` where it has no derivative.
        given: which leaves carry a tangent: the map's own inputs.
    """

    call: Call
    layout: Layout
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    given: tuple[bool, ...]

    @property
    def two_maps(self) -> bool:
        """Whether the directions are stated apart."""
        return self.call.statement.two_maps

    def _linear_map(self) -> LinearMap:
        from diptych.backends.jax import backend

        return LinearMap(
            self.call, self.layout, backend, Side(list(self.inputs)), Side(list(self.outputs))
        )

    def push(self, res: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        """Returns the tangents of the differentiable outputs."""
        from diptych.backends.jax import backend, host

        values = iter(tangents)
        spread = [next(values) if given else None for given in self.given]
        linear_map = self._linear_map()
        if host.runs_on_host(self.call, "push"):
            found = host.push(linear_map, res, spread)
        else:
            found = linear_map.push(self.layout.residuals(res), spread)
        found = linear_map.outputs.zeros(backend, found)
        return [x for x, meta in zip(found, self.outputs, strict=True) if meta is not None]

    def pull(self, res: Sequence[Any], bars: Sequence[Any]) -> list[Any]:
        """Returns the cotangents of the leaves that carry a tangent.

        JAX transposes without conjugating; a rule's VJP is the adjoint. Hence both conjugations.
        """
        from diptych.backends.jax import backend, host

        values = iter(bars)
        spread = [None if meta is None else backend.conj(next(values)) for meta in self.outputs]
        linear_map = self._linear_map()
        if host.runs_on_host(self.call, "pull"):
            found = host.pull(linear_map, res, spread, self.given)
        else:
            found = linear_map.pull(self.layout.residuals(res), spread, self.given)
        found = linear_map.inputs.zeros(backend, found)
        return [backend.conj(x) for x, given in zip(found, self.given, strict=True) if given]

    def run(self, transposed: bool, res: Sequence[Any], vectors: Sequence[Any]) -> list[Any]:
        """Returns what one direction gives."""
        return self.pull(res, vectors) if transposed else self.push(res, vectors)


@dataclass(frozen=True)
class Batched:
    """A map under `vmap`: every vector that comes out has its batch axis in front.

    Args:
        map: the map of one example.
        axis: the name and size of the axis, as `jax.vmap` takes them.
        res_axes: the batch axis of each residual, `None` where it has none.
    """

    map: Map | Batched
    axis: tuple[Any, int, Any]
    res_axes: tuple[int | None, ...]

    @property
    def two_maps(self) -> bool:
        """Whether the map of one example states its directions apart."""
        return self.map.two_maps

    def run(self, transposed: bool, res: Sequence[Any], vectors: Sequence[Any]) -> list[Any]:
        """Returns the map of each example applied to its vectors."""
        name, size, spmd_name = self.axis
        mapped = jax.vmap(
            lambda res, vectors: self.map.run(transposed, res, vectors),
            in_axes=(list(self.res_axes), 0),
            axis_name=name,
            axis_size=size,
            spmd_axis_name=spmd_name,
        )
        return mapped(list(res), list(vectors))


linear_p = core.Primitive("diptych_linear")
linear_p.multiple_results = True


def bind(map: Map, res: Sequence[Any], tangents: Sequence[Any], out_avals: Sequence[Any]) -> list:
    """Returns the tangents of the outputs: the primitive at these residuals and tangents."""
    return linear_p.bind(
        *res,
        *tangents,
        map=map,
        transposed=False,
        res_count=len(res),
        out_avals=tuple(out_avals),
    )


@linear_p.def_impl
def _impl(*args: Any, map: Any, transposed: bool, res_count: int, out_avals: Any) -> list[Any]:
    return map.run(transposed, args[:res_count], args[res_count:])


@linear_p.def_abstract_eval
def _abstract(*args: Any, map: Any, transposed: bool, res_count: int, out_avals: Any) -> Any:
    return list(out_avals)


def _lower(*args: Any, out_avals: Any, **params: Any) -> list[Any]:
    found = _impl(*args, out_avals=out_avals, **params)
    return [vary_like(x, aval) for x, aval in zip(found, out_avals, strict=True)]


mlir.register_lowering(linear_p, mlir.lower_fun(_lower, multiple_results=True))


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    count, map, transposed = params["res_count"], params["map"], params["transposed"]
    res, vectors = primals[:count], primals[count:]
    res_dots, vector_dots = tangents[:count], tangents[count:]
    outs = linear_p.bind(*primals, **params)
    dots: list[Any] = [ad.Zero(aval.to_tangent_aval()) for aval in params["out_avals"]]
    if any(type(dot) is not ad.Zero for dot in vector_dots):
        along = linear_p.bind(*res, *[ad.instantiate_zeros(d) for d in vector_dots], **params)
        dots = [ad.add_tangents(a, b) for a, b in zip(dots, along, strict=True)]
    moving = [i for i, dot in enumerate(res_dots) if type(dot) is not ad.Zero]
    if moving:

        def at(*moved: Any) -> list[Any]:
            full = list(res)
            for i, value in zip(moving, moved, strict=True):
                full[i] = value
            return map.run(transposed, full, vectors)

        _, across = jax.jvp(at, [res[i] for i in moving], [res_dots[i] for i in moving])
        across = [vary_like(x, a) for x, a in zip(across, params["out_avals"], strict=True)]
        dots = [ad.add_tangents(a, b) for a, b in zip(dots, across, strict=True)]
    return outs, dots


ad.primitive_jvps[linear_p] = _jvp


def _transpose(bars: Sequence[Any], *args: Any, **params: Any) -> list[Any]:
    count = params["res_count"]
    vectors = args[count:]
    unknown = [ad.is_undefined_primal(v) for v in vectors]
    if all(type(bar) is ad.Zero for bar in bars):
        return [ad.Zero(to_cotangent(a.aval)) if ad.is_undefined_primal(a) else None for a in args]
    avals = tuple(v.aval if u else jax.typeof(v) for v, u in zip(vectors, unknown, strict=True))
    bars = [ad.instantiate_zeros(bar) for bar in bars]
    avals = tuple(to_cotangent(aval) for aval in avals)
    if params["map"].two_maps:
        found = linear_p.bind(
            *args[:count],
            *bars,
            map=params["map"],
            transposed=not params["transposed"],
            res_count=count,
            out_avals=avals,
        )
    else:
        # Its transpose would only be derived from the same code: one staged equation less.
        found = params["map"].run(not params["transposed"], args[:count], bars)
        found = [vary_like(x, aval) for x, aval in zip(found, avals, strict=True)]
    # A vector that is known is a constant of the map: it gets no cotangent.
    return [None] * count + [x if u else None for x, u in zip(found, unknown, strict=True)]


ad.primitive_transposes[linear_p] = _transpose


def _batch(axis: Any, args: Sequence[Any], dims: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    name = axis_name(axis)
    if name is None and all(dim is None for dim in dims):
        return linear_p.bind(*args, **params), [None] * len(params["out_avals"])
    count = params["res_count"]
    vectors = [
        batch_in_front(x, dim, axis) for x, dim in zip(args[count:], dims[count:], strict=True)
    ]
    spmd_name = getattr(axis, "spmd_name", None)
    map = Batched(params["map"], (name, axis.size, spmd_name), tuple(dims[:count]))
    out_avals = tuple(with_batch(aval, axis) for aval in params["out_avals"])
    outs = linear_p.bind(*args[:count], *vectors, **{**params, "map": map, "out_avals": out_avals})
    return outs, [0] * len(outs)


batching.fancy_primitive_batchers[linear_p] = _batch

"""Rules under JAX's transforms: a primitive for the value, whose JVP is the linear primitive.

At the first order the primal is the rule's value and its tangent comes from the linear map. At
higher orders the residuals move as well: arguments and outputs carry the tangents they have (an
output's is again the rule's own), and only what `fwd` keeps beside them is differentiated as code.

Why not `jax.custom_jvp`: the second derivative of a `scan` over one silently uses the body in place
of the rule (partial evaluation drops it), and `jax.linear_transpose` looks through it. Tried on jax
0.10.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from diptych.arguments import flatten
from diptych.backends import Meta
from diptych.backends.jax import host
from diptych.backends.jax.avals import axis_name
from diptych.backends.jax.linear import Map, bind
from diptych.call import Call, Layout, partition
from diptych.captures import Captures
from diptych.errors import ClosureError, KindError, MissingDirectionError, message
from diptych.linear import no_derivative
from diptych.static import Static

_ARRAYS = (jax.Array, np.ndarray, np.generic)
_NUMBERS = (bool, int, float, complex)
_LEAF = flatten(0)[1]
_REMEMBERED = 64


def is_array(x: Any) -> bool:
    """Returns whether `x` is an array to JAX; Python numbers are kept as they are."""
    return isinstance(x, _ARRAYS)


def is_differentiable(x: Any) -> bool:
    """Returns whether `x` is a floating-point or complex array."""
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def meta(x: Any) -> Meta:
    """Returns the shape and dtype of an array."""
    aval = jax.typeof(x)
    return Meta(aval.shape, aval.dtype, aval, getattr(aval, "weak_type", False))


@dataclass(frozen=True)
class Value:
    """What the primitive computes: a rule's value, with or without what `fwd` keeps.

    Args:
        call: the call.
        keeping: whether the kept residuals follow the outputs.
    """

    call: Call
    keeping: bool

    def run(self, leaves: Sequence[Any]) -> list[Any]:
        """Returns the arrays, by plainly running what the user wrote."""
        call = self.call
        if self.keeping:
            layout, outputs, kept = _run_forward(call, leaves)
            arrays = [*outputs, *[jnp.asarray(x) for x in kept]]
        else:
            out = host.primal(call, leaves) if call.statement.host else call.primal(leaves)
            arrays, treedef, others = _as_output(out)
            if others.values:
                call.check_others(leaves, others, len(arrays))
            layout = Layout(treedef, others, len(arrays), _LEAF, Static(()), ())
        if len(call.layouts) >= _REMEMBERED:
            call.layouts.clear()
        call.layouts[self._key(leaves)] = layout
        return arrays

    def layout(self, leaves: Sequence[Any]) -> Layout:
        """Returns how the arrays that `run` gave for such leaves are laid out."""
        key = self._key(leaves)
        if key not in self.call.layouts:
            # JAX remembers the types of results, of an equal call, longer than that call lives.
            jax.make_jaxpr(lambda *xs: self.run(xs))(*leaves)
        return self.call.layouts[key]

    def _key(self, leaves: Sequence[Any]) -> Any:
        return self.keeping, tuple([jax.typeof(x) for x in leaves])

    def jvp(
        self, primals: Sequence[Any], given: Sequence[bool], tangents: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        """Returns the arrays, and the tangents of those that have one."""
        call = self.call
        layout, outputs, kept = forward(call, primals)
        dots = _push(call, layout, primals, outputs, kept, given, tangents)
        if not self.keeping:
            return outputs, dots
        dots += _kept_tangents(call, primals, given, tangents)
        return [*outputs, *kept], dots


@dataclass(frozen=True)
class Batched:
    """A value under `vmap`; its arrays have their batch axis in front.

    Args:
        value: the value of one example.
        axis: the name and size of the axis, as `jax.vmap` takes them.
        dims: the batch axis of each leaf, `None` where it has none.
    """

    value: Value | Batched
    axis: tuple[Any, int, Any]
    dims: tuple[int | None, ...]

    def run(self, leaves: Sequence[Any]) -> list[Any]:
        """Returns the arrays of the value, batched."""
        return self._map(self.value.run, (list(self.dims),))(list(leaves))

    def jvp(
        self, primals: Sequence[Any], given: Sequence[bool], tangents: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        """Returns the arrays of the value and their tangents, batched."""
        dims = [dim for dim, flag in zip(self.dims, given, strict=True) if flag]

        def one(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
            return self.value.jvp(primals, given, tangents)

        return self._map(one, (list(self.dims), dims))(list(primals), list(tangents))

    def _map(self, f: Any, in_axes: Any) -> Any:
        name, size, spmd_name = self.axis
        return jax.vmap(
            f, in_axes=in_axes, axis_name=name, axis_size=size, spmd_axis_name=spmd_name
        )


rule_p = core.Primitive("diptych_rule")
rule_p.multiple_results = True


@rule_p.def_impl
def _impl(*leaves: Any, value: Any) -> list[Any]:
    try:
        arrays = value.run(leaves)
    except jax.errors.UnexpectedTracerError as error:
        raise closed_over(value, None) from error
    traced = any(isinstance(x, jax.core.Tracer) for x in leaves)
    if not traced and any(isinstance(x, jax.core.Tracer) for x in arrays):
        raise closed_over(value, None)
    return arrays


@rule_p.def_abstract_eval
def _abstract(*avals: Any, value: Any) -> list[Any]:
    closed = jax.make_jaxpr(lambda *xs: value.run(xs))(*avals)
    if any(isinstance(x, jax.core.Tracer) for x in closed.consts):
        raise closed_over(value, None)
    return list(closed.out_avals)


def closed_over(value: Any, name: str | None) -> ClosureError:
    """Returns the error for a rule that reads a traced array from outside its arguments."""
    while isinstance(value, Batched):
        value = value.value
    call = value if isinstance(value, Call) else value.call
    what = "a traced array" if name is None else f"'{name}', a traced array,"
    return ClosureError(
        message(
            f"{call.statement.name} reads {what} from outside its arguments, and its gradient "
            "would be lost",
            expected="every array that is traced or differentiated as an argument of the rule",
            got="one that is read from a closure, a global or an attribute",
            mend="pass it as an argument",
        )
    )


mlir.register_lowering(rule_p, mlir.lower_fun(_impl, multiple_results=True))


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, value: Any) -> tuple[Any, Any]:
    given = [type(t) is not ad.Zero for t in tangents]
    arrays, dots = value.jvp(primals, given, [t for t, g in zip(tangents, given, strict=True) if g])
    found = iter(dots)
    return arrays, [
        next(found) if is_differentiable(x) else ad.Zero(jax.typeof(x).to_tangent_aval())
        for x in arrays
    ]


ad.primitive_jvps[rule_p] = _jvp


def _transpose(bars: Sequence[Any], *args: Any, value: Any) -> Any:
    while isinstance(value, Batched):
        value = value.value
    name = value.call.statement.name
    raise MissingDirectionError(
        message(
            f"jax.linear_transpose of {name}",
            expected="a rule that is declared linear",
            got="a rule that is not",
            mend=f"declare {name} with @diptych.rule(linear=True), or take its VJP with jax.vjp",
        )
    )


ad.primitive_transposes[rule_p] = _transpose


def _batch(axis: Any, args: Sequence[Any], dims: Sequence[Any], *, value: Any) -> tuple[Any, Any]:
    name = axis_name(axis)
    if name is None and all(dim is None for dim in dims):
        outs = rule_p.bind(*args, value=value)
        return outs, [None] * len(outs)
    batched = Batched(value, (name, axis.size, getattr(axis, "spmd_name", None)), tuple(dims))
    outs = rule_p.bind(*args, value=batched)
    return outs, [0] * len(outs)


batching.fancy_primitive_batchers[rule_p] = _batch


def apply(call: Call, leaves: Sequence[Any]) -> tuple[list[Any], Layout]:
    """Returns the arrays of the rule's output, and their layout."""
    leaves = tuple([jnp.asarray(x) for x in leaves])
    statement = call.statement
    if statement.linear and not statement.host and statement.fwd is None:
        found = _apply_linear(call, leaves)
        if found is not None:
            return found
    value = Value(call, False)
    return rule_p.bind(*leaves, value=value), value.layout(leaves)


def _apply_linear(call: Call, leaves: Sequence[Any]) -> tuple[list[Any], Layout] | None:
    """Returns a linear rule's output by the linear primitive itself: it has its transpose too.

    `None` where an output has no tangent.
    """
    given = tuple(is_differentiable(x) for x in leaves)
    value = Value(call, False)
    avals = jax.make_jaxpr(lambda *xs: value.run(xs))(*leaves).out_avals
    if not any(given) or not all(jnp.issubdtype(a.dtype, jnp.inexact) for a in avals):
        return None
    out = value.layout(leaves)
    fixed = tuple(x for x, g in zip(leaves, given, strict=True) if not g)
    res, res_treedef, res_others = partition((fixed, None), is_array)
    sources = tuple(("input", i) for i, g in enumerate(given) if not g)
    layout = Layout(
        out.out_treedef, out.out_constants, len(avals), res_treedef, res_others, sources
    )
    inputs = tuple(meta(x) if g else None for x, g in zip(leaves, given, strict=True))
    outputs = tuple(Meta(a.shape, a.dtype, a, a.weak_type) for a in avals)
    vectors = [x for x, g in zip(leaves, given, strict=True) if g]
    return bind(Map(call, layout, inputs, outputs, given), res, vectors, avals), layout


def forward(call: Call, leaves: Sequence[Any]) -> tuple[Layout, list[Any], list[Any]]:
    """Returns the layout, the outputs and the kept residuals, differentiable to any order."""
    statement = call.statement
    if statement.fwd is None:
        # The output is the rule's own, so that its tangent among the residuals is right too.
        value = Value(call, False)
        arrays = rule_p.bind(*leaves, value=value)
        out = value.layout(leaves).output(arrays)
        res = call.default_residuals(leaves, out, statement.reads_any())
        if statement.linear:
            res = (tuple(x for x in leaves if not is_differentiable(x)), res)
        return call.lay_out(leaves, out, res, is_array)
    value = Value(call, True)
    arrays = rule_p.bind(*leaves, value=value)
    layout = value.layout(leaves)
    return layout, list(arrays[: layout.out_count]), list(arrays[layout.out_count :])


def _run_forward(call: Call, leaves: Sequence[Any]) -> tuple[Layout, list[Any], list[Any]]:
    from diptych.backends.jax import backend

    if call.statement.host:
        out, res = host.forward(call, leaves, None)
    else:
        out, res = call.forward(leaves, None, backend)
    arrays, treedef, others = _as_output(out)
    out = Layout(treedef, others, len(arrays), _LEAF, Static(()), ()).output(arrays)
    layout, outputs, kept = call.lay_out(leaves, out, res, is_array)
    for _, value in layout.res_constants.values:
        if callable(value):
            _refuse_closure(call, value)
    return layout, outputs, kept


def _refuse_closure(call: Call, function: Callable[..., Any]) -> None:
    """Raises if a function among the residuals hides arrays of this very forward pass."""
    for name, value in Captures([function]).values():
        if any(isinstance(x, jax.core.Tracer) for x in flatten(value)[0]):
            raise KindError(
                message(
                    f"fwd of {call.statement.name}: a function among the residuals",
                    expected="arrays that are kept as residuals themselves, in any pytree",
                    got=f"a function that reads '{name}', a traced array, from outside",
                    mend=f"keep '{name}' and call the function with it in the derivative, or "
                    "keep jax.tree_util.Partial(function, *arrays)",
                )
            )


def _as_output(tree: Any) -> tuple[list[Any], Any, Static]:
    """Returns the arrays of an output, its structure and what is no array; numbers are arrays."""
    if isinstance(tree, jax.Array):
        return [tree], _LEAF, Static(())
    arrays, treedef, others = partition(tree, lambda x: is_array(x) or isinstance(x, _NUMBERS))
    return [jnp.asarray(x) for x in arrays], treedef, others


def _kept_tangents(
    call: Call, primals: Sequence[Any], given: Sequence[bool], tangents: Sequence[Any]
) -> list[Any]:
    """Returns the tangents of what `fwd` keeps beside arguments and outputs, by JAX's own AD."""
    moving = [i for i, g in enumerate(given) if g]

    def kept(*moved: Any) -> list[Any]:
        leaves = list(primals)
        for i, value in zip(moving, moved, strict=True):
            leaves[i] = value
        found = [jnp.asarray(x) for x in _run_forward(call, leaves)[2]]
        return [x for x in found if is_differentiable(x)]

    return jax.jvp(kept, [primals[i] for i in moving], list(tangents))[1]


def _push(
    call: Call,
    layout: Layout,
    primals: Sequence[Any],
    outputs: Sequence[Any],
    kept: Sequence[Any],
    given: Sequence[bool],
    tangents: Sequence[Any],
) -> list[Any]:
    """Returns one tangent per output array that has one."""
    free = [is_differentiable(x) for x in outputs]
    if not any(free):
        return []
    if not call.statement.differentiable:
        raise no_derivative(call, "a derivative")
    map = Map(
        call,
        layout,
        tuple(meta(x) if is_differentiable(x) else None for x in primals),
        tuple(meta(x) if f else None for x, f in zip(outputs, free, strict=True)),
        tuple(given),
    )
    res = layout.gather(primals, outputs, kept)
    avals = [jax.typeof(x).to_tangent_aval() for x, f in zip(outputs, free, strict=True) if f]
    return bind(map, res, tangents, avals)

"""Host rules: NumPy bodies that no framework can trace, as functions of arrays alone.

A backend supplies `run(HostFunction, arrays)`, which gets the arrays to NumPy and back. Everything
else about a host rule, what it is called with and what its results must look like, is here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.arguments import Spec, describe, flatten, unflatten
from diptych.call import Call, Layout
from diptych.errors import HostError, KindError, StructureError, message
from diptych.host_errors import cannot_differentiate, line_for_out
from diptych.linear import LinearMap, Side

if TYPE_CHECKING:
    from diptych.backends import Meta

__all__ = ["cannot_differentiate"]

Run = Callable[["HostFunction", Sequence[Any]], list[Any]]


def runs_on_host(call: Call, direction: str) -> bool:
    """Returns whether this direction of a rule is NumPy code, and no rule of its own."""
    statement = call.statement
    if not statement.host:
        return False
    from diptych.rule import Rule

    stated = {
        "push": statement.jvp or statement.partials,
        "pull": statement.vjp or statement.partials,
    }[direction]
    if stated is None and direction == "push" and statement.linear:
        return True
    if stated is None:
        # The other direction would be transposed, which only traceable code can be.
        other = statement.vjp if direction == "push" else statement.jvp
        return not isinstance(other, Rule)
    return not isinstance(stated, Rule)


class HostFunction:
    """NumPy code as a function of a list of arrays; hashable by what it does.

    Args:
        kind: "primal", "fwd", "jvp" or "vjp", for messages.
        call: the call of the host rule.
        key: what else distinguishes it.
        function: takes and returns lists of NumPy arrays.
        declared: the specs of its results, or `None` where nobody declared them.
    """

    def __init__(
        self,
        kind: str,
        call: Call,
        key: tuple[Any, ...],
        function: Callable[[list[Any]], list[Any]],
        declared: Sequence[Spec] | None,
    ):
        self.kind = kind
        self.call = call
        self.key = (kind, call, key, None if declared is None else tuple(declared))
        self.function = function
        self.declared = declared

    @property
    def name(self) -> str:
        """The rule's name."""
        return self.call.statement.name

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HostFunction) and self.key == other.key

    def __call__(self, arrays: list[Any]) -> list[Any]:
        """Returns what the user's function gives, in the declared shapes and dtypes."""
        found = self.results(arrays)
        if self.declared is not None:
            for value, spec in zip(found, self.declared, strict=True):
                if tuple(value.shape) != tuple(spec.shape):
                    raise StructureError(
                        message(
                            f"{self.kind} of host rule {self.name} returned another shape",
                            expected=f"shape {tuple(spec.shape)}, as `out` declares",
                            got=f"shape {tuple(value.shape)}",
                            mend="correct `out=`, or what the function returns",
                        )
                    )
                if not np.can_cast(value.dtype, spec.dtype, "same_kind"):
                    raise StructureError(
                        message(
                            f"{self.kind} of host rule {self.name} returned another dtype",
                            expected=f"{np.dtype(spec.dtype)}"
                            + (", as `out` declares" if self.kind in ("primal", "fwd") else ""),
                            got=f"{value.dtype}",
                            mend="correct `out=`, or cast what the function returns",
                        )
                    )
            # NumPy and SciPy raise precision as they go (float32 to float64); the kind stays.
            found = [np.asarray(x, s.dtype) for x, s in zip(found, self.declared, strict=True)]
        return found

    def results(self, arrays: list[Any]) -> list[Any]:
        """Returns what the user's function gives for arrays that are its own.

        They are copies: what it gets is the user's memory, or read-only, or strided as C code does
        not expect, and it may well write there. What it returns is copied too, since it may be a
        workspace that the next call writes to.
        """
        own = [np.array(x, order="C") for x in arrays]
        return [np.array(x, order="C") for x in self.function(own)]

    def specs(self) -> Sequence[Spec]:
        """Returns the specs of the results, for a framework that must know them beforehand.

        Raises:
            HostError: if nobody declared them.
        """
        if self.declared is not None:
            return self.declared
        name, line = self.name, line_for_out(self)
        raise HostError(
            message(
                f"{self.kind} of host rule {name} is traced (jit, vmap, compile or export)",
                expected="`out`, which tells the shape and dtype of the result beforehand",
                got="a host rule without `out`",
                mend=f"add it, for example {line}",
            )
        )


def run_batched(
    function: HostFunction, batch: tuple[tuple[int, tuple[bool, ...]], ...], arrays: list[Any]
) -> list[Any]:
    """Returns what a host function gives under `vmap`: a loop, or one call if it is vectorized.

    Args:
        function: the function of one example.
        batch: from the innermost level out, its size and which arrays have its axis in front.
        arrays: the arrays, with the batch axes of all levels in front.
    """
    if not batch:
        return function(arrays)
    *inner, (size, mapped) = batch
    if function.call.statement.vectorized:
        sizes = tuple(level for level, _ in batch)[::-1]
        flags = [level for _, level in batch][::-1]
        spread = []
        for i, array in enumerate(arrays):
            has = [level[i] for level in flags]
            rest = array.shape[sum(has) :]
            lead = iter(array.shape[: sum(has)])
            shape = tuple(next(lead) if h else 1 for h in has)
            spread.append(np.broadcast_to(array.reshape(*shape, *rest), (*sizes, *rest)))
        found = function.results(spread)
        for i, value in enumerate(found):
            spec = None if function.declared is None else function.declared[i]
            shape = sizes if spec is None else (*sizes, *spec.shape)
            if value.shape[: len(sizes)] != sizes or (spec and value.shape != shape):
                raise StructureError(
                    message(
                        f"{function.kind} of vectorized host rule {function.name} under vmap",
                        expected=f"shape {shape}"
                        + ("" if spec else " and more axes")
                        + f": the batch {sizes} in front",
                        got=f"shape {value.shape}",
                        mend="keep the leading axes, or leave vectorized=True out",
                    )
                )
            if spec is not None:
                found[i] = np.asarray(value, spec.dtype)
        return found
    if size == 0:
        sizes = tuple(level for level, _ in batch)[::-1]
        return [np.zeros((*sizes, *spec.shape), spec.dtype) for spec in function.specs()]
    rows = [
        run_batched(
            function,
            tuple(inner),
            [x[i] if has else x for x, has in zip(arrays, mapped, strict=True)],
        )
        for i in range(size)
    ]
    return [np.stack(column) for column in zip(*rows, strict=True)]


def declared_out(call: Call, leaves: Sequence[Any], spec: Callable[[Any], Spec]) -> Any:
    """Returns the pytree of specs that `out` gives for these arguments, or `None` without `out`."""
    if call.statement.out is None:
        return None
    return _specs_of(call, call.statement.out, leaves, spec)


def _specs_of(call: Call, out: Callable[..., Any], leaves: Sequence[Any], spec: Any) -> Any:
    given = call.invoke(out, [spec(leaf) for leaf in leaves])
    found, treedef = flatten(given)
    for leaf in found:
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise KindError(
                message(
                    f"out of host rule {call.statement.name}",
                    expected="diptych.Spec(shape, dtype) for each array of the result",
                    got=f"{type(leaf).__name__}",
                    mend="for example out=lambda x: diptych.Spec(x.shape, x.dtype)",
                )
            )
    return unflatten(treedef, [Spec(_lengths(x.shape), np.dtype(x.dtype)) for x in found])


def _lengths(shape: Any) -> tuple[int, ...]:
    return (int(shape),) if hasattr(shape, "__index__") else tuple(shape)


def primal(call: Call, leaves: Sequence[Any], run: Run, spec: Callable[[Any], Spec]) -> Any:
    """Returns the output of a host rule, its leaves arrays of the framework."""
    specs = declared_out(call, leaves, spec)
    return _run_tree("primal", call, (), lambda arrays: call.primal(arrays), specs, leaves, run)


def forward(
    call: Call,
    leaves: Sequence[Any],
    reads: frozenset[str] | None,
    run: Run,
    spec: Callable[[Any], Spec],
) -> tuple[Any, Any]:
    """Returns the output and the residuals of a host rule, arrays of the framework."""
    statement = call.statement
    if statement.fwd is None:
        out = primal(call, leaves, run, spec)
        res = call.default_residuals(leaves, out, reads)
    else:
        specs = None
        if statement.fwd_out is not None:
            specs = _specs_of(call, statement.fwd_out, leaves, spec)
        out, res = _run_tree(
            "fwd", call, (), lambda arrays: call._forward(arrays), specs, leaves, run
        )
    if statement.linear:
        fixed = tuple(x for x in leaves if np.dtype(spec(x).dtype).kind not in "fcV")
        res = (fixed, res)
    return out, res


def _run_tree(
    kind: str,
    call: Call,
    key: tuple[Any, ...],
    function: Callable[[list[Any]], Any],
    specs: Any,
    leaves: Sequence[Any],
    run: Run,
) -> Any:
    """Runs a host function that returns a pytree; its structure comes from `specs` or the run."""
    structure = None if specs is None else flatten(specs)[1]
    seen: list[Any] = [structure]

    def of_arrays(arrays: list[Any]) -> list[Any]:
        found, treedef = flatten(function(arrays))
        if structure is not None and treedef != structure:
            raise StructureError(
                message(
                    f"{kind} of host rule {call.statement.name} returned another structure",
                    expected=describe(structure),
                    got=describe(treedef),
                    mend="correct `out=`, or what the function returns",
                )
            )
        seen[0] = treedef
        return found

    declared = None if specs is None else flatten(specs)[0]
    found = run(HostFunction(kind, call, key, of_arrays, declared), leaves)
    return unflatten(seen[0], found)


def push(linear_map: LinearMap, res: Sequence[Any], tangents: Sequence[Any], run: Run) -> list[Any]:
    """Returns the output tangents from a host rule's JVP: NumPy code."""
    given = tuple(t is not None for t in tangents)

    def of_arrays(host_map: LinearMap, host_res: Any, vectors: list[Any]) -> list[Any]:
        return host_map.outputs.zeros(
            host_map.backend, host_map.push(host_res, _spread(vectors, given))
        )

    return _direction("jvp", linear_map, res, tangents, given, of_arrays, linear_map.outputs, run)


def pull(
    linear_map: LinearMap,
    res: Sequence[Any],
    bars: Sequence[Any],
    wanted: Sequence[bool],
    run: Run,
) -> list[Any]:
    """Returns the cotangents from a host rule's VJP: NumPy code."""
    given = tuple(bar is not None for bar in bars)
    wanted = tuple(
        want and meta is not None
        for want, meta in zip(wanted, linear_map.inputs.metas, strict=True)
    )

    def of_arrays(host_map: LinearMap, host_res: Any, vectors: list[Any]) -> list[Any]:
        found = host_map.pull(host_res, _spread(vectors, given), wanted)
        return host_map.inputs.zeros(host_map.backend, found)

    result = Side(
        [m if want else None for m, want in zip(linear_map.inputs.metas, wanted, strict=True)]
    )
    return _direction("vjp", linear_map, res, bars, (given, wanted), of_arrays, result, run)


def _direction(
    kind: str,
    linear_map: LinearMap,
    res: Sequence[Any],
    vectors: Sequence[Any],
    key: Any,
    of_arrays: Callable[[LinearMap, Any, list[Any]], list[Any]],
    result: Side,
    run: Run,
) -> list[Any]:
    layout: Layout = linear_map.layout
    host_map = _on_numpy(linear_map)
    count = len(res)
    positions = [i for i, meta in enumerate(result.metas) if meta is not None]

    def function(arrays: list[Any]) -> list[Any]:
        found = of_arrays(host_map, layout.residuals(arrays[:count]), arrays[count:])
        return [found[i] for i in positions]

    specs = [_meta_spec(result.metas[i]) for i in positions]
    metas = (tuple(linear_map.inputs.metas), tuple(linear_map.outputs.metas))
    host = HostFunction(kind, linear_map.call, (layout, key, metas), function, specs)
    found: list[Any] = [None] * len(result.metas)
    values = run(host, [*res, *[v for v in vectors if v is not None]])
    for i, value in zip(positions, values, strict=True):
        found[i] = value
    return found


def _on_numpy(linear_map: LinearMap) -> LinearMap:
    from diptych.backends.numpy import backend

    def side(of: Side) -> Side:
        return Side([None if meta is None else _numpy_meta(meta) for meta in of.metas])

    return LinearMap(
        linear_map.call,
        linear_map.layout,
        backend,
        side(linear_map.inputs),
        side(linear_map.outputs),
    )


def _meta_spec(meta: Any) -> Spec:
    return Spec(tuple(meta.shape), numpy_dtype(meta.dtype))


def _numpy_meta(meta: Meta) -> Meta:
    from diptych.backends import Meta as MetaType

    return MetaType(tuple(meta.shape), numpy_dtype(meta.dtype))


def numpy_dtype(dtype: Any) -> np.dtype:
    """Returns the NumPy dtype of a framework's dtype; bfloat16, unknown to NumPy, as float32."""
    try:
        return np.dtype(dtype)
    except TypeError:
        name = str(dtype).removeprefix("torch.")
        return np.dtype("float32" if name == "bfloat16" else name)


def _spread(vectors: list[Any], given: Sequence[bool]) -> list[Any]:
    values = iter(vectors)
    return [next(values) if flag else None for flag in given]

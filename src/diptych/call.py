"""One way to call a rule: which pytree of arguments, which static values.

A `Call` turns leaves into the arguments of what the user wrote and back. A `Layout` says how the
outputs and the residuals of a forward pass are made of leaves, and which residuals are simply an
input or an output, so that a backend keeps those as what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import optree

from diptych.arguments import Parameters, align, flatten, leaf_names, unflatten
from diptych.backends import backend_of
from diptych.captures import Captures
from diptych.checks import check_others
from diptych.errors import StructureError, kind_of, message
from diptych.records import fixed_in
from diptych.static import Static

if TYPE_CHECKING:
    from diptych.backends import Backend
    from diptych.statement import Statement


class Argument(NamedTuple):
    """One argument of a call and which of the call's leaves are its own."""

    name: str
    treedef: optree.PyTreeSpec
    start: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """How the outputs and residuals of a forward pass are made of arrays.

    Args:
        out_treedef: the structure of the output.
        out_constants: its leaves that are no arrays, `(position, value)`.
        out_count: the number of its leaves that are arrays.
        res_treedef: the structure of the residuals.
        res_constants: their leaves that are no arrays.
        sources: for each array among the residuals `("input" | "output" | "kept", position)`,
            where an output's position counts its arrays only.
    """

    out_treedef: optree.PyTreeSpec
    out_constants: Static
    out_count: int
    res_treedef: optree.PyTreeSpec
    res_constants: Static
    sources: tuple[tuple[str, int], ...]

    def output(self, arrays: Sequence[Any]) -> Any:
        """Returns the output, as a pytree, of its arrays."""
        return _rebuild(self.out_treedef, self.out_constants, arrays)

    def residuals(self, arrays: Sequence[Any]) -> Any:
        """Returns the residuals, as the user wrote them, of their arrays."""
        return _rebuild(self.res_treedef, self.res_constants, arrays)

    def gather(self, inputs: Sequence[Any], outputs: Sequence[Any], kept: Sequence[Any]) -> list:
        """Returns the residuals' arrays from where each comes from."""
        origin = {"input": inputs, "output": outputs, "kept": kept}
        return [origin[kind][i] for kind, i in self.sources]

    @cached_property
    def kept_count(self) -> int:
        """The number of residuals that are neither an input nor an output."""
        return sum(kind == "kept" for kind, _ in self.sources)

    @cached_property
    def single(self) -> bool:
        """Whether the output is one array and nothing else."""
        return self.out_count == 1 and self.out_treedef.is_leaf()


def _rebuild(treedef: optree.PyTreeSpec, constants: Static, arrays: Sequence[Any]) -> Any:
    leaves = list(arrays)
    for position, value in constants.values:
        leaves.insert(position, value)
    return unflatten(treedef, leaves)


def partition(
    tree: Any, is_array: Callable[[Any], bool]
) -> tuple[list[Any], optree.PyTreeSpec, Static]:
    """Returns a pytree's arrays, its structure, and its other leaves with their positions."""
    leaves, treedef = flatten(tree)
    arrays = [leaf for leaf in leaves if is_array(leaf)]
    if len(arrays) == len(leaves):
        return arrays, treedef, _NOTHING
    others = Static(tuple((i, leaf) for i, leaf in enumerate(leaves) if not is_array(leaf)))
    return arrays, treedef, others


_NOTHING = Static(())


class Call:
    """A rule's statement together with the structure of its arguments and its static values.

    Equal where all of these are, so that a framework's caches find it again.
    """

    def __init__(
        self,
        statement: Statement,
        parameters: Parameters,
        treedef: optree.PyTreeSpec,
        static: Static,
    ):
        self.statement = statement
        self.parameters = parameters
        self.treedef = treedef
        self.static = static
        self.key = (statement, statement.version, parameters, treedef, static)
        self._hash = hash(self.key)
        self.layouts: dict[Any, Layout] = {}  # what a backend found out, by the types of the leaves
        # Every argument is one leaf: leaves and arguments are then the same sequence.
        self.flat = self.parameters.plain and treedef.num_leaves == treedef.num_nodes - 1 == len(
            self.parameters.dynamic_names
        )
        self.bare = self.flat and not static.values

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Call) and self.key == other.key)

    def dynamic(self, leaves: Sequence[Any]) -> Sequence[Any]:
        """Returns the value of each dynamic parameter."""
        return leaves if self.flat else unflatten(self.treedef, leaves)

    def invoke(self, function: Callable[..., Any], leaves: Sequence[Any]) -> Any:
        """Returns what `function` gives for the arguments that these leaves make."""
        if self.bare:
            return function(*leaves)
        args, kwargs = self.parameters.merge(self.dynamic(leaves), self.static.values)
        return function(*args, **kwargs)

    @cached_property
    def named(self) -> list[tuple[str, Any]]:
        """The static values, and what dataclasses among the arguments hold beside arrays."""
        found = list(zip(self.parameters.static_names, self.static.values, strict=True))
        return found if self.flat else found + fixed_in(self.treedef)

    @cached_property
    def fixed(self) -> Static:
        """The values of `named`."""
        return self.static if self.flat else Static(tuple([value for _, value in self.named]))

    @cached_property
    def captures(self) -> Captures:
        """What the rule's functions, and those among its static values, read from outside."""
        functions = [value for value in self.fixed.values if callable(value)]
        if not functions:
            return self.statement.captures
        return Captures([*self.statement.functions, *functions])

    @cached_property
    def arguments(self) -> tuple[Argument, ...]:
        """The arguments, in order: one tangent and one cotangent belongs to each."""
        positions = unflatten(self.treedef, range(self.treedef.num_leaves))
        found, start = [], 0
        for name, tree in self.parameters.spread(positions):
            treedef = flatten(tree)[1]
            stop = start + treedef.num_leaves
            found.append(Argument(name, treedef, start, stop))
            start = stop
        return tuple(found)

    @cached_property
    def leaf_names(self) -> list[str]:
        """The name of each leaf as a user would write it."""
        return [name for a in self.arguments for name in leaf_names(a.name, a.treedef)]

    def primal(self, leaves: Sequence[Any]) -> Any:
        """Returns the value of the rule: that of `fwd` where it is stated."""
        if self.statement.fwd is None:
            return self.invoke(self.statement.body, leaves)
        return self._forward(leaves)[0]

    def forward(
        self, leaves: Sequence[Any], reads: frozenset[str] | None, backend: Backend
    ) -> tuple[Any, Any]:
        """Returns the output and the residuals.

        Args:
            leaves: the leaves of the arguments.
            reads: which fields the derivative reads, where the rule states no `fwd`; `None`: all.
            backend: the framework of the leaves.
        """
        statement = self.statement
        if statement.fwd is not None:
            out, res = self._forward(leaves)
        else:
            out = self.invoke(statement.body, leaves)
            res = self.default_residuals(leaves, out, reads)
        if statement.linear:
            # Its JVP is itself, at the tangents and at whatever has none, such as indices.
            fixed = tuple(leaf for leaf in leaves if not backend.is_differentiable(leaf))
            res = (fixed, res)
        return out, res

    def _forward(self, leaves: Sequence[Any]) -> tuple[Any, Any]:
        statement = self.statement
        return self.check_pair(self.invoke(cast(Callable[..., Any], statement.fwd), leaves))

    def check_pair(self, pair: Any) -> tuple[Any, Any]:
        """Returns what `fwd` returned, if it is a pair."""
        statement = self.statement
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise StructureError(
                message(
                    f"fwd of {statement.name}",
                    expected="a pair (output, residuals)",
                    got=kind_of(pair) + (f" of {len(pair)}" if isinstance(pair, tuple) else ""),
                    mend="return `out, res`; residuals of any structure, also a tuple or None",
                )
            )
        return pair

    def default_residuals(
        self, leaves: Sequence[Any], out: Any, reads: frozenset[str] | None
    ) -> Any:
        """Returns the named tuple of all arguments and `out`; what is not read is `None`."""
        fields = dict(zip(self.parameters.dynamic_names, self.dynamic(leaves), strict=True))
        fields.update(zip(self.parameters.static_names, self.static.values, strict=True))
        values = [
            fields[name] if reads is None or name in reads else None
            for name in self.parameters.names
        ]
        return self.statement.residuals(*values, out if reads is None or "out" in reads else None)

    def lay_out(
        self, leaves: Sequence[Any], out: Any, res: Any, is_array: Callable[[Any], bool]
    ) -> tuple[Layout, list[Any], list[Any]]:
        """Returns the layout, the output's arrays and the residuals that must be kept as such."""
        outputs, out_treedef, out_constants = partition(out, is_array)
        if out_constants.values:
            self.check_others(leaves, out_constants, len(outputs))
        arrays, res_treedef, res_constants = partition(res, is_array)
        origin = {id(x): ("output", i) for i, x in enumerate(outputs)}
        origin.update((id(x), ("input", i)) for i, x in enumerate(leaves))
        sources, kept = [], []
        for array in arrays:
            source = origin.get(id(array))
            if source is None:
                source = origin[id(array)] = ("kept", len(kept))
                kept.append(array)
            sources.append(source)
        layout = Layout(
            out_treedef, out_constants, len(outputs), res_treedef, res_constants, tuple(sources)
        )
        return layout, outputs, kept

    def check_others(self, leaves: Sequence[Any], constants: Static, count: int) -> None:
        """Raises if an output that is no array of the arguments' framework was meant to be one."""
        others = [value for _, value in constants.values]
        check_others(backend_of(leaves), self.statement.name, others, count)

    def align(self, argument: Argument, tree: Any, where: str) -> list[Any]:
        """Returns the parts of a cotangent at the leaves of its argument."""
        return align(
            argument.treedef,
            tree,
            f"{where}: '{argument.name}'",
            f"'{argument.name}'",
            f"return a cotangent for each leaf of '{argument.name}', or None for zero",
        )

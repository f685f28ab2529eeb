"""One linear map in two directions: what the rule states, and the missing direction derived.

`push` carries tangents forward (J), `pull` carries cotangents back (its adjoint J* under
`Re(sum(conj(a) * b))`). Both work on lists of leaves, where `None` stands for zero. What the user's
functions return is compared here with what the primal says, before a framework mends it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from diptych.arguments import SCALARS, align, is_node, unflatten
from diptych.call import Call, Layout
from diptych.checks import check_leaf, check_partial, wrong_count
from diptych.errors import MissingDirectionError, message

if TYPE_CHECKING:
    from diptych.backends import Backend, Meta


class Side(NamedTuple):
    """The arrays on one side of a linear map: what a (co)tangent there must look like.

    Args:
        metas: per leaf its shape and dtype, or `None` where no derivative exists (integers).
    """

    metas: Sequence[Meta | None]

    def zeros(self, backend: Backend, leaves: Sequence[Any]) -> list[Any]:
        """Returns the leaves with zeros in place of each `None` that has a derivative."""
        return [
            backend.zeros(meta) if leaf is None and meta is not None else leaf
            for leaf, meta in zip(leaves, self.metas, strict=True)
        ]


class LinearMap(NamedTuple):
    """The derivative of one call at given residuals.

    Args:
        call: the call that is differentiated.
        layout: the layout of its output and residuals.
        backend: the framework of the arrays.
        inputs: the leaves of the arguments.
        outputs: the arrays of the output.
    """

    call: Call
    layout: Layout
    backend: Backend
    inputs: Side
    outputs: Side

    def push(self, res: Any, tangents: Sequence[Any]) -> list[Any]:
        """Returns one tangent per output array (`None`: zero), of one tangent per leaf."""
        statement = self.call.statement
        if all(tangent is None for tangent in tangents):
            return [None] * len(self.outputs.metas)
        if statement.jvp is not None:
            return self._push_stated(statement.jvp, res, tangents)
        if statement.partials is not None:
            return self._push_partials(statement.partials, res, tangents)
        if statement.linear:
            return self._push_itself(res, tangents)
        if statement.vjp is not None:
            return self._push_transposed(res, tangents)
        raise no_derivative(self.call, "a JVP")

    def pull(self, res: Any, bars: Sequence[Any], wanted: Sequence[bool]) -> list[Any]:
        """Returns one cotangent per leaf (`None`: zero or not wanted), of one per output array."""
        statement = self.call.statement
        if all(bar is None for bar in bars):
            return [None] * len(self.inputs.metas)
        if statement.vjp is not None:
            return self._pull_stated(statement.vjp, res, bars, wanted)
        if statement.partials is not None:
            return self._pull_partials(statement.partials, res, bars, wanted)
        if statement.jvp is not None or statement.linear:
            return self._pull_transposed(res, bars, wanted)
        raise no_derivative(self.call, "a VJP")

    # What the user states.

    def _stated(self, res: Any) -> Any:
        return res[1] if self.call.statement.linear else res

    def _push_stated(self, jvp: Callable[..., Any], res: Any, tangents: Sequence[Any]) -> list:
        tangents = self.inputs.zeros(self.backend, tangents)
        call = self.call
        if not call.flat:
            tangents = [unflatten(a.treedef, tangents[a.start : a.stop]) for a in call.arguments]
        where = f"jvp of {call.statement.name}"
        result = jvp(self._stated(res), *tangents)
        return self._output_leaves(result, where, "return the tangent of the output")

    def _pull_stated(
        self, vjp: Callable[..., Any], res: Any, bars: Sequence[Any], wanted: Sequence[bool]
    ) -> list[Any]:
        bars = self.outputs.zeros(self.backend, bars)
        bar = bars[0] if self.layout.single else self._output_tree(bars)
        return self._argument_leaves(
            vjp(self._stated(res), bar), wanted, f"vjp of {self.call.statement.name}"
        )

    def _argument_leaves(self, result: Any, wanted: Sequence[bool], where: str) -> list[Any]:
        """Returns what a rule gave for each argument as checked leaves; the lazy is evaluated."""
        call = self.call
        arguments = call.arguments
        if len(arguments) == 1 and not (
            isinstance(result, tuple) and len(result) == 1 and arguments[0].treedef.is_leaf()
        ):
            parts: Sequence[Any] = (result,)
        elif isinstance(result, (tuple, list)) and len(result) == len(arguments):
            parts = result
        else:
            raise wrong_count(where, [a.name for a in arguments], result)
        found: list[Any] = [None] * len(wanted)
        for argument, part in zip(arguments, parts, strict=True):
            start, stop = argument.start, argument.stop
            if part is None or not any(wanted[start:stop]):
                continue
            if stop - start == 1 and argument.treedef.is_leaf():
                found[start] = self._cotangent(part, start, where)
            else:
                part = part() if _is_lazy(part) else part
                for i, leaf in enumerate(call.align(argument, part, where), start):
                    if leaf is not None and wanted[i]:
                        found[i] = self._cotangent(leaf, i, where)
        return found

    def _cotangent(self, value: Any, i: int, where: str) -> Any:
        meta = self.inputs.metas[i]
        if meta is None:
            return None
        if callable(value):
            value = value()
            if value is None:
                return None
        return check_leaf(
            self.backend, value, meta, lambda: f"{where}: '{self.call.leaf_names[i]}'", "cotangent"
        )

    def _output_leaves(self, result: Any, where: str, mend: str) -> list[Any]:
        metas = self.outputs.metas
        if self.layout.single:
            leaves, names = [result], ["output"]
        else:
            treedef = self.layout.out_treedef
            leaves = align(treedef, result, where, "the output", mend)
            constants = {i for i, _ in self.layout.out_constants.values}
            leaves = [leaf for i, leaf in enumerate(leaves) if i not in constants]
            names = [f"output {i}" for i in range(len(leaves))]
        return [
            None
            if leaf is None or meta is None
            else check_leaf(self.backend, leaf, meta, lambda n=name: f"{where}: {n}", "tangent")
            for leaf, meta, name in zip(leaves, metas, names, strict=True)
        ]

    def _output_tree(self, bars: Sequence[Any]) -> Any:
        leaves = list(bars)
        for position, _ in self.layout.out_constants.values:
            leaves.insert(position, None)
        return unflatten(self.layout.out_treedef, leaves)

    # Elementwise rules: both directions from the partial derivatives.

    def _partials(
        self, partials: Callable[..., Any], res: Any, wanted: Sequence[bool], out: Meta
    ) -> list[Any]:
        where = f"partials of {self.call.statement.name}"
        call = self.call
        result = partials(self._stated(res))
        arguments = call.arguments
        single = len(arguments) == 1
        parts = result if isinstance(result, (tuple, list)) and not single else (result,)
        if len(parts) != len(arguments):
            raise wrong_count(where, [a.name for a in arguments], result)
        found: list[Any] = [None] * len(wanted)
        for argument, part in zip(arguments, parts, strict=True):
            if not any(wanted[argument.start : argument.stop]):
                continue
            part = part() if _is_lazy(part) else part
            for i, leaf in enumerate(call.align(argument, part, where), argument.start):
                leaf = leaf() if wanted[i] and _is_lazy(leaf) else leaf
                if leaf is not None and wanted[i]:
                    name = f"{where}: '{call.leaf_names[i]}'"
                    found[i] = check_partial(self.backend, leaf, out, lambda n=name: n)
        return found

    def _push_partials(
        self, partials: Callable[..., Any], res: Any, tangents: Sequence[Any]
    ) -> list[Any]:
        (out,) = self._elementwise_output()
        total = None
        factors = self._partials(partials, res, [t is not None for t in tangents], out)
        for factor, tangent in zip(factors, tangents, strict=True):
            if factor is not None and tangent is not None:
                term = self.backend.as_dtype(factor * tangent, out)
                total = term if total is None else total + term
        if total is None:
            return [None]
        where = f"partials of {self.call.statement.name}"
        total = self.backend.broadcast_to(total, out)
        return [check_leaf(self.backend, total, out, lambda: f"{where}: output", "tangent")]

    def _pull_partials(
        self,
        partials: Callable[..., Any],
        res: Any,
        bars: Sequence[Any],
        wanted: Sequence[bool],
    ) -> list[Any]:
        (out,) = self._elementwise_output()
        backend, (bar,) = self.backend, bars
        where = f"partials of {self.call.statement.name}"
        found: list[Any] = []
        for i, factor in enumerate(self._partials(partials, res, wanted, out)):
            meta = self.inputs.metas[i]
            if factor is None or meta is None:
                found.append(None)
                continue
            value = backend.sum_to(backend.as_dtype(backend.conj(factor) * bar, meta), meta)
            found.append(
                check_leaf(
                    backend,
                    value,
                    meta,
                    lambda i=i: f"{where}: '{self.call.leaf_names[i]}'",
                    "partial times cotangent",
                )
            )
        return found

    def _elementwise_output(self) -> Sequence[Any]:
        if not self.layout.single:
            raise MissingDirectionError(
                message(
                    f"partials of {self.call.statement.name}",
                    expected="an elementwise function with one array as output",
                    got=f"an output of {self.layout.out_count} arrays",
                    mend=f"state @{self.call.statement.name}.vjp (or .jvp) instead",
                )
            )
        return self.outputs.metas

    # Rules that are their own JVP.

    def _push_itself(self, res: Any, tangents: Sequence[Any]) -> list[Any]:
        tangents = self.inputs.zeros(self.backend, tangents)
        constants = iter(res[0])
        leaves = [
            next(constants) if meta is None else tangent
            for tangent, meta in zip(tangents, self.inputs.metas, strict=True)
        ]
        call = self.call
        out = call.invoke(call.statement.body, leaves)
        return self._output_leaves(out, call.statement.name, "return the output")

    # The missing direction.

    def _push_transposed(self, res: Any, tangents: Sequence[Any]) -> list[Any]:
        """J is the adjoint of J*: transpose `cotangents -> pull(res, cotangents)`."""
        given = [t is not None for t in tangents]
        free = [i for i, meta in enumerate(self.outputs.metas) if meta is not None]

        def pull(bars: Sequence[Any]) -> list[Any]:
            spread: list[Any] = [None] * len(self.outputs.metas)
            for i, bar in zip(free, bars, strict=True):
                spread[i] = bar
            return _pick(self.inputs.zeros(self.backend, self.pull(res, spread, given)), given)

        metas = [meta for meta in self.outputs.metas if meta is not None]
        found = self._transpose("vjp", pull, metas, _pick(tangents, given))
        result: list[Any] = [None] * len(self.outputs.metas)
        for i, value in zip(free, found, strict=True):
            result[i] = value
        return result

    def _pull_transposed(self, res: Any, bars: Sequence[Any], wanted: Sequence[bool]) -> list[Any]:
        """J* is the adjoint of J: transpose `tangents -> push(res, tangents)`."""
        free = [i for i, want in enumerate(wanted) if want and self.inputs.metas[i] is not None]
        given = [bar is not None for bar in bars]

        def push(tangents: Sequence[Any]) -> list[Any]:
            spread: list[Any] = [None] * len(self.inputs.metas)
            for i, tangent in zip(free, tangents, strict=True):
                spread[i] = tangent
            return _pick(self.outputs.zeros(self.backend, self.push(res, spread)), given)

        metas = [meta for i in free if (meta := self.inputs.metas[i]) is not None]
        found = self._transpose("jvp", push, metas, _pick(bars, given))
        result: list[Any] = [None] * len(self.inputs.metas)
        for i, value in zip(free, found, strict=True):
            result[i] = value
        return result

    def _transpose(
        self,
        direction: str,
        function: Callable[[Sequence[Any]], list[Any]],
        metas: Sequence[Meta],
        covectors: Sequence[Any],
    ) -> list[Any]:
        statement = self.call.statement
        where = f"{direction} of {statement.name}"
        return self.backend.transpose(function, metas, covectors, where, statement.transposed)


def no_derivative(call: Call, wanted: str) -> MissingDirectionError:
    """Returns the error for a rule that states no derivative."""
    name = call.statement.name
    return MissingDirectionError(
        message(
            f"{name} is differentiated",
            expected=f"{wanted}, or a statement from which it is derived",
            got="a rule without any derivative",
            mend=f"state one of @{name}.vjp, @{name}.jvp, @{name}.partials, or rule(linear=True)",
        )
    )


def _pick(values: Sequence[Any], flags: Sequence[bool]) -> list[Any]:
    return [value for value, flag in zip(values, flags, strict=True) if flag]


def _is_lazy(part: Any) -> TypeGuard[Callable[[], Any]]:
    if not callable(part) or isinstance(part, SCALARS):
        return False
    return inspect.isroutine(part) or not is_node(part)

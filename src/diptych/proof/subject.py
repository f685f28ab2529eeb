"""A target at one point on one framework, with NumPy arrays going in and coming out.

Everything a claim asks of a function goes through here: values and derivatives in float64 (or the
example's own precision, where the function takes no other), the random state fixed for each call,
so that two calls differ only where the function does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from diptych.arguments import Parameters, flatten, leaf_names, unflatten
from diptych.proof.prober import Arrays, Function, Prober, Target
from diptych.proof.vectors import random_like, sizes

Values = list[np.ndarray]
_RAISED = {"f": np.dtype(np.float64), "c": np.dtype(np.complex128)}


class Example(NamedTuple):
    """The arguments of one call: NumPy arrays, and where they go.

    Args:
        treedef: the structure of the tuple of arguments.
        leaves: all leaves; those that are arrays are `None`.
        positions: which leaves are arrays.
        names: the name of each array, as a user would write it.
        values: the arrays.
        fixed: which of the arrays take no part in differentiation although they have a dtype that
            could (static arguments).
    """

    treedef: Any
    leaves: list[Any]
    positions: list[int]
    names: list[str]
    values: Values
    fixed: list[bool]

    def arguments(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """Returns the arguments with these arrays."""
        leaves = list(self.leaves)
        for position, array in zip(self.positions, arrays, strict=True):
            leaves[position] = array
        return unflatten(self.treedef, leaves)

    def raised(self) -> Example:
        """Returns the same example in float64 or complex128."""
        return self._replace(
            values=[x.astype(_RAISED.get(x.dtype.kind, x.dtype)) for x in self.values]
        )


class Neighbour(NamedTuple):
    """A variation of an example.

    Args:
        how: in words, so that it can be made again.
        example: the varied example.
    """

    how: str
    example: Example


def example_of(
    target: Target,
    args: Sequence[Any],
    to_numpy: Callable[[Any], np.ndarray],
    is_array: Callable[[Any], bool],
) -> Example:
    """Returns the example that these arguments make.

    Args:
        target: what they are arguments of.
        args: the arguments, arrays of a framework or of NumPy.
        to_numpy: gives an array's values.
        is_array: tells the framework's arrays.
    """
    leaves, treedef = flatten(tuple(args))
    names: list[str] = []
    static: list[bool] = []
    parameters = _stated_parameters(target)
    for i, arg in enumerate(args):
        name = _name_of(target, i)
        _, tree = flatten(arg)
        names += leaf_names(name, tree)
        is_static = parameters is not None and name in parameters.static
        static += [is_static] * tree.num_leaves
    positions = [
        i
        for i, x in enumerate(leaves)
        if is_array(x) or isinstance(x, (np.ndarray, np.generic))
        if not (static[i] and not is_array(x))
    ]
    values = [to_numpy(leaves[i]) for i in positions]
    rest = [None if i in positions else x for i, x in enumerate(leaves)]
    return Example(
        treedef,
        rest,
        positions,
        [names[i] for i in positions],
        values,
        [static[i] for i in positions],
    )


def _name_of(target: Target, position: int) -> str:
    parameters = _stated_parameters(target)
    if parameters is not None:
        return parameters.argument_name(position)
    if position < len(target.parameters):
        return target.parameters[position]
    return f"argument {position}"


def _stated_parameters(target: Target) -> Parameters | None:
    """Returns the parameters of a rule; an nn.Module has another thing by that name."""
    found = getattr(target.thing, "_parameters", None)
    return found if isinstance(found, Parameters) else None


class Pullback(NamedTuple):
    """The outputs of one forward pass and the way back.

    Args:
        outputs: the values.
        pull: cotangents of the outputs (`None`: undefined) to those of the inputs (`None`: the
            framework found no path).
    """

    outputs: Values
    pull: Callable[[Sequence[Any]], list[Any]]


class Subject:
    """A target at one point on one framework.

    Args:
        target: what is checked.
        prober: the framework.
        example: the point; its values may be replaced with `at`.
        seed: of the random state for each call.
    """

    def __init__(self, target: Target, prober: Prober, example: Example, seed: int = 0):
        self.target = target
        self.prober = prober
        self.example = example
        self.seed = seed
        self._functions: dict[Any, Function] = {}
        self._calls = [0]

    @property
    def framework(self) -> str:
        """The framework's name."""
        return self.prober.name

    @property
    def values(self) -> Values:
        """The arrays among the arguments."""
        return self.example.values

    @property
    def names(self) -> list[str]:
        """The name of each array."""
        return self.example.names

    @cached_property
    def moving(self) -> list[bool]:
        """Which arrays have a derivative."""
        return [
            x.dtype.kind in "fc" and not fixed
            for x, fixed in zip(self.values, self.example.fixed, strict=True)
        ]

    @cached_property
    def epsilon(self) -> float:
        """The precision of the arithmetic: that of the least precise of arguments and outputs."""
        kinds = [x.dtype for x, m in zip(self.values, self.moving, strict=True) if m]
        kinds += [o.dtype for o, f in zip(self.outputs, self.free, strict=True) if f]
        return max([float(np.finfo(k).eps) for k in kinds], default=2.0**-52)

    def at(self, values: Values) -> Subject:
        """Returns the same target at another point."""
        there = Subject(self.target, self.prober, self.example._replace(values=values), self.seed)
        # What the values are is nothing to the functions, nor to which of them move.
        there._functions, there._calls = self._functions, self._calls
        if "moving" in self.__dict__ and len(values) == len(self.values):
            there.__dict__["moving"] = self.moving
        return there

    def of(self, call: Callable[..., Any]) -> Subject:
        """Returns another function at the same point."""
        return Subject(self.target._replace(call=call), self.prober, self.example, self.seed)

    def function(self, call: Callable[..., Any] | None = None) -> Function:
        """Returns the target as a function of arrays that returns a list of arrays."""
        chosen = self.target.call if call is None else call
        if id(chosen) not in self._functions:
            self._functions[id(chosen)] = self._of_arrays(chosen)
        return self._functions[id(chosen)]

    def program(self, key: Any, make: Callable[[], Function]) -> Function:
        """Returns a function of arrays as one program, made once for all points taken from here.

        Args:
            key: what the program is made of: anything hashable that says all of it.
            make: makes the function.
        """
        if key not in self._functions:
            self._functions[key] = self.prober.at_once(make())
        return self._functions[key]

    def _of_arrays(self, chosen: Callable[..., Any]) -> Function:
        example, is_array = self.example, self.prober.is_array
        leaves, positions = list(example.leaves), tuple(example.positions)
        plain = example.treedef.num_nodes == example.treedef.num_leaves + 1

        # Where arguments are no trees this is plain Python, which torch.compile can trace.
        symmetric = self.target.symmetric

        def of_arrays(*arrays: Any) -> Arrays:
            if symmetric:
                arrays = _symmetrised(arrays, symmetric)
            if plain:
                args = list(leaves)
                for position, array in zip(positions, arrays, strict=True):
                    args[position] = array
                out = chosen(*args)
            else:
                out = chosen(*example.arguments(arrays))
            if is_array(out):
                return [out]
            if type(out) in (tuple, list) and all([is_array(x) for x in out]):
                return list(out)
            return [x for x in flatten(out)[0] if is_array(x)]

        return of_arrays

    def session(self) -> Any:
        """Returns the context in which the framework computes."""
        self._calls[0] += 1
        return self.prober.session(self.seed)

    def arrays(self, values: Sequence[Any] | None = None) -> Arrays:
        """Returns arrays of the framework; `None` stays."""
        chosen = self.values if values is None else values
        return [None if x is None else self.prober.array(x) for x in chosen]

    def numpy(self, arrays: Sequence[Any]) -> list[Any]:
        """Returns the values of arrays; `None` stays."""
        return [None if x is None else self.prober.numpy(x) for x in arrays]

    # What a claim asks.

    @property
    def calls(self) -> int:
        """About how often the function was called, here and at other points taken from here."""
        return self._calls[0]

    def value(self, call: Callable[..., Any] | None = None, values: Any = None) -> Values:
        """Returns the outputs, nothing differentiated."""
        with self.session():
            return self.numpy(self.prober.value(self.function(call), self.arrays(values)))

    @cached_property
    def outputs(self) -> Values:
        """The outputs at the point."""
        return self.value()

    @cached_property
    def free(self) -> list[bool]:
        """Which outputs have a derivative."""
        return [x.dtype.kind in "fc" for x in self.outputs]

    def vjp(
        self, call: Callable[..., Any] | None = None, wanted: Sequence[bool] | None = None
    ) -> Pullback:
        """Returns the outputs and their pullback, by reverse mode."""
        flags = self.moving if wanted is None else wanted
        with self.session():
            outs, pull = self.prober.vjp(self.function(call), self.arrays(), flags)

        def pulled(bars: Sequence[Any]) -> list[Any]:
            # Not the state in which the forward pass drew: what is drawn again here must differ.
            with self.prober.session(self.seed + 1):
                return self.numpy(pull(self.arrays(bars)))

        return Pullback(self.numpy(outs), pulled)

    def jvp(
        self, dots: Sequence[Any], call: Callable[..., Any] | None = None
    ) -> tuple[Values, list[Any]]:
        """Returns the outputs and their tangents, by forward mode."""
        with self.session():
            outs, found = self.prober.jvp(self.function(call), self.arrays(), self.arrays(dots))
            return self.numpy(outs), self.numpy(found)

    def pulled_at_once(self, f: Function, xs: Sequence[Any], bars: Sequence[Any]) -> Arrays:
        """Returns the cotangents of the inputs of a function of arrays, as one program.

        Args:
            f: the function, whose inputs move as those of the target do.
            xs: its inputs, as arrays of the framework.
            bars: the cotangents, likewise.
        """
        prober, n = self.prober, len(xs)

        def pulled(*arrays: Any) -> Arrays:
            return prober.vjp(f, arrays[:n], self.moving)[1](arrays[n:])

        return prober.at_once(pulled)(*xs, *bars)

    def bars(self, rng: np.random.Generator) -> list[Any]:
        """Returns a random cotangent for each output that has one."""
        return [
            random_like(rng, x) if free else None
            for x, free in zip(self.outputs, self.free, strict=True)
        ]

    def dots(self, rng: np.random.Generator) -> list[Any]:
        """Returns a random tangent for each array that has one, in proportion to its entries."""
        return [
            None if size is None else np.asarray(random_like(rng, x) * size, x.dtype)
            for x, size in zip(self.values, self._sizes, strict=True)
        ]

    @cached_property
    def _sizes(self) -> list[Any]:
        """How large a random tangent's entries are, for each array that has one."""
        each = zip(self.values, self.moving, strict=True)
        return [sizes(x) if moves else None for x, moves in each]


def _symmetrised(arrays: Sequence[Any], positions: Sequence[int]) -> tuple[Any, ...]:
    """Returns the arrays, of those at these positions the symmetric parts."""
    found = list(arrays)
    for i in positions:
        x = found[i]
        if x.ndim >= 2 and x.shape[-1] == x.shape[-2]:
            found[i] = (x + x.swapaxes(-1, -2).conj()) / 2
    return tuple(found)


def zeros_for(found: Sequence[Any], subject: Subject) -> list[Any]:
    """Returns cotangents with zeros in place of each `None`."""
    return [
        np.zeros_like(x) if bar is None else bar
        for bar, x in zip(found, subject.values, strict=True)
    ]

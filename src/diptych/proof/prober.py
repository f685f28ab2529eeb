"""What the proof asks of a framework: to differentiate anything, by the ways its users would.

The engine asks a backend to honour our rules; a prober is asked to take the derivative that a
function has, custom or not, right or wrong, and to say when the framework refuses. Functions here
take arrays and return a list of arrays; `None` among (co)tangents is zero. Complex numbers follow
diptych's convention (a VJP is the adjoint under `Re(sum(conj(a) * b))`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np

from diptych import backends
from diptych.proof.probes import Probes

Arrays = list[Any]
Function = Callable[..., Arrays]


class Target(NamedTuple):
    """What was handed in to be checked.

    Args:
        name: what it is called in messages.
        kind: what it is, in words: "diptych rule", "torch.autograd.Function", "function", ...
        call: the function that a user calls.
        body: the same function without its custom derivative, if there is such a thing.
        custom: whether its derivative is stated by somebody, so that it may be wrong.
        framework: the one that it belongs to; `None` if any.
        forward: the function that returns the value while keeping residuals, if it is stated apart.
        thing: what was handed in.
        parameters: the names of the arguments, as far as they are known.
        symmetric: which of the arrays are symmetric by contract.
        derived: the direction, "jvp" or "vjp", that a rule leaves to be derived of the other.
    """

    name: str
    kind: str
    call: Callable[..., Any]
    body: Callable[..., Any] | None = None
    custom: bool = False
    framework: str | None = None
    forward: Callable[..., Any] | None = None
    thing: Any = None
    parameters: tuple[str, ...] = ()
    symmetric: tuple[int, ...] = ()
    derived: str | None = None


class Prober(Probes, Protocol):
    """What the proof asks of a framework."""

    name: str

    def target(self, f: Any) -> Target | None:
        """Returns what `f` is, if it is of a kind that only this framework has."""
        ...

    def session(self, seed: int) -> AbstractContextManager[Any]:
        """Returns a context in which float64 is float64 and random numbers start from `seed`."""
        ...

    def is_array(self, x: Any) -> bool:
        """Returns whether `x` is an array of this framework."""
        ...

    def array(self, x: np.ndarray, like: Any = None) -> Any:
        """Returns a NumPy array as one of this framework, on the device of `like`."""
        ...

    def numpy(self, x: Any) -> np.ndarray:
        """Returns an array as NumPy's, in a dtype that NumPy has."""
        ...

    def dtype(self, x: Any) -> str:
        """Returns the name of the dtype of an array."""
        ...

    def cast(self, x: Any, dtype: str) -> Any:
        """Returns the array in another dtype, by its name."""
        ...

    def value(self, f: Function, xs: Sequence[Any]) -> Arrays:
        """Returns what `f` gives where nothing is differentiated."""
        ...

    def vjp(
        self, f: Function, xs: Sequence[Any], wanted: Sequence[bool]
    ) -> tuple[Arrays, Callable[[Sequence[Any]], Arrays]]:
        """Returns the outputs, and the pullback: one cotangent for each of `xs`, or `None`."""
        ...

    def jvp(self, f: Function, xs: Sequence[Any], dots: Sequence[Any]) -> tuple[Arrays, Arrays]:
        """Returns the outputs and their tangents, `None` for one that has none."""
        ...

    def gradient(self, f: Function, bars: Sequence[Any], wanted: Sequence[bool]) -> Function:
        """Returns the function that pulls `bars` back; it may be differentiated again."""
        ...

    def tangent(self, f: Function, dots: Sequence[Any]) -> Function:
        """Returns the function that pushes `dots` forward; it may be differentiated again."""
        ...

    def vmap(self, f: Function, in_axes: Sequence[int | None]) -> Function:
        """Returns `f` mapped over these axes; the outputs have theirs in front."""
        ...

    def compile(self, f: Function) -> Function:
        """Returns `f` compiled, derivatives through it included."""
        ...

    def steady(self, f: Function) -> Function:
        """Returns `f` for many calls at arrays of one kind: compiled, where each would compile."""
        ...

    def at_once(self, f: Function) -> Function:
        """Returns `f` for a few calls: one program, where each operation would be compiled.

        Where it cannot be one program it stays as it is.
        """
        ...

    def layouts(self, x: Any) -> dict[str, Any]:
        """Returns equal arrays in other memory, by what is special about them."""
        ...

    def expanded(self, x: Any) -> dict[str, Any]:
        """Returns arrays of this shape whose entries share memory, by what is special."""
        ...

    def contexts(self) -> dict[str, Callable[[], AbstractContextManager[Any]]]:
        """Returns settings that a program may change around a function, by what they are."""
        ...

    def returned(self, thing: Any) -> AbstractContextManager[list[list[str | None]]]:
        """Returns a context that lists the dtypes a stated VJP returns, before they are cast."""
        ...

    def refusal(self, error: BaseException) -> str | None:
        """Returns in a few words what a framework's or a rule's clear refusal says, else `None`."""
        ...


def prober_of(framework: str) -> Prober:
    """Returns the prober of a framework.

    Raises:
        MissingFrameworkError: if it is not installed.
    """
    backends.load(framework)
    import importlib

    return importlib.import_module(f"diptych.backends.{framework}.proof").prober

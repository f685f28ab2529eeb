"""What the claims beyond first and higher order ask of a framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Arrays = list[Any]
Function = Callable[..., Arrays]


class Probes(Protocol):
    """The part of a prober that looks at transforms, memory and what is read from outside."""

    integer_cotangents: bool
    """Whether cotangents of integers may be asked for, and are something."""

    def pulled(self, f: Function, wanted: Sequence[bool], free: Sequence[bool]) -> Function:
        """Returns the VJP as one function of arrays, made to be mapped or compiled.

        Args:
            f: takes as many arrays as there are flags in `wanted`.
            wanted: of which inputs there are cotangents to return.
            free: which outputs have a derivative.

        Returns:
            A function of all inputs, then one cotangent for each free output.
        """
        ...

    def pushed(self, f: Function, moving: Sequence[bool], free: Sequence[bool]) -> Function:
        """Returns the JVP as one function of all inputs, then one tangent for each moving one."""
        ...

    def pull_batched(
        self, f: Function, xs: Sequence[Any], wanted: Sequence[bool], bars: Sequence[Any]
    ) -> Arrays:
        """Returns the cotangents for a batch of cotangents (axis 0) at one point."""
        ...

    def compiling(self) -> AbstractContextManager[Any]:
        """Returns a context in which compiling leaves no logs, warnings or limits behind."""
        ...

    def declared(self, target: Any, f: Function, xs: Sequence[Any]) -> set[int]:
        """Calls `f`, and returns which arguments it declares to change in place."""
        ...

    def aliases(self, target: Any, f: Function, xs: Sequence[Any]) -> list[tuple[int, int]]:
        """Returns the outputs that share memory with an input behind the framework's back."""
        ...

    def untraceable(self, error: BaseException) -> str | None:
        """Returns in a few words why code could not be traced, if that is what an error says."""
        ...

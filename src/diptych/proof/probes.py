"""What the claims beyond first and higher order ask of a framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

Arrays = list[Any]
Function = Callable[..., Arrays]


class Pack(NamedTuple):
    """A function with all that its transforms are run on, in arrays of the framework.

    Args:
        f: the function.
        xs: the inputs.
        moving: the positions of those that have a derivative.
        dots: one tangent for each of these.
        free: which outputs have a derivative.
        bars: one cotangent for each of these.
    """

    f: Function
    xs: Sequence[Any]
    moving: Sequence[int]
    dots: Sequence[Any]
    free: Sequence[bool]
    bars: Sequence[Any]


class Transform(NamedTuple):
    """One way to differentiate.

    Args:
        name: as a user would write it.
        mode: "reverse": it gives `<vjp(bars), dots>`; "forward": `<bars, jvp(dots)>`; "second": the
            slope of these along `dots`.
        run: computes that number.
        compiles: whether it takes long for it.
    """

    name: str
    mode: str
    run: Callable[[Pack], Any]
    compiles: bool = False


class Kept(NamedTuple):
    """What calls leave behind.

    Args:
        alive: how many arrays, or graphs, calls leave beside what as many calls before them left.
        alive_bytes: their size.
        residuals: the bytes kept for the backward beside inputs and outputs.
        cycles: how many stay until the garbage collector runs.
    """

    alive: int
    alive_bytes: int
    residuals: int
    cycles: int = 0


class Lost(NamedTuple):
    """An array that is read from outside the arguments.

    Args:
        name: as it is read.
        lost: whether its gradient is lost without a word.
        refused: the error that the framework raises, where it says so.
    """

    name: str
    lost: bool
    refused: str


class Probes(Protocol):
    """The part of a prober that looks at transforms, memory and what is read from outside."""

    integer_cotangents: bool
    """Whether cotangents of integers may be asked for, and are something."""

    growth: tuple[int, ...]
    """By which factors an example may grow to be timed; each costs a compilation in JAX."""

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

    def witness(self, thing: Any) -> tuple[Callable[..., Any], int | None, int | None] | None:
        """Returns a copy of a custom derivative that is twice (VJP), three times (JVP) as large.

        Returns:
            The function, and the factor to expect in reverse and in forward mode (`None`: there is
            no such mode); `None` if this is no custom derivative.
        """
        ...

    def transforms(self) -> Sequence[Transform]:
        """Returns every transform that the framework has for one function."""
        ...

    def kept(
        self,
        f: Function,
        xs: Sequence[Any],
        wanted: Sequence[bool],
        bars: Sequence[Any],
        calls: int,
    ) -> Kept:
        """Returns what `calls` calls with a backward and as many without leave alive."""
        ...

    def timed(
        self,
        f: Function,
        xs: Sequence[Any],
        wanted: Sequence[bool],
        bars: Sequence[Any],
        dots: Sequence[Any],
        compiled: bool,
    ) -> dict[str, Callable[[], Any]]:
        """Returns "primal", "vjp" (the value included) and "jvp", to be timed.

        Empty where times mean nothing unless compiled, and nothing may be.
        """
        ...

    def flops(
        self, f: Function, xs: Sequence[Any], wanted: Sequence[bool], bars: Sequence[Any]
    ) -> dict[str, float]:
        """Returns the operations of "primal" and "vjp", where the framework counts them.

        "partial" is 1 where some of the value's are not counted.
        """
        ...

    def lost(
        self, target: Any, f: Function, xs: Sequence[Any], wanted: Sequence[bool]
    ) -> list[Lost]:
        """Returns what `f` reads from outside its arguments that has a derivative."""
        ...

    def untraceable(self, error: BaseException) -> str | None:
        """Returns in a few words why code could not be traced, if that is what an error says."""
        ...


def of_moving(f: Function, xs: Sequence[Any], moving: Sequence[int], free: Sequence[bool]) -> Any:
    """Returns `f` of the inputs that move alone, returning a tuple of the free outputs."""

    def of(*moved: Any) -> tuple[Any, ...]:
        full = list(xs)
        for i, x in zip(moving, moved, strict=True):
            full[i] = x
        return tuple([out for out, keep in zip(f(*full), free, strict=True) if keep])

    return of

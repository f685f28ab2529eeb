"""The corpus: small broken derivatives and sound ones, how they are declared and found.

A module of `broken/` or `sound/` is of one framework, and named after it: `torch_*.py`,
`jax_*.py`, and `rules_*.py` for diptych rules, which are given NumPy arrays and checked on every
framework installed. Each entry is declared by a decorator, `@broken(...)` or `@sound(...)`.

The defects are real ones: `seen` says where such a one was found or is typical.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
FRAMEWORKS = ("torch", "jax", "rules")

# Defects that no claim finds yet, each with the reason; the list is to be empty.
NOT_YET: dict[str, str] = {}


@dataclass(frozen=True)
class Entry:
    """One function of the corpus.

    Args:
        name: its name, unique.
        framework: "torch", "jax", or "rules" (both).
        sound: whether nothing is wrong with it.
        f: the function.
        make: gives the example's arguments, in NumPy, from a generator.
        claims: the claims of which one must find it.
        causes: the causes of which that finding must name one.
        seen: where such a defect was seen, or what makes a sound one tricky.
        options: how `diptych.check` is called in the tests.
    """

    name: str
    framework: str
    sound: bool
    f: Any
    make: Callable[[np.random.Generator], Sequence[Any]]
    claims: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    seen: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def args(self) -> tuple[Any, ...]:
        """Returns the example's arguments, as arrays of the framework."""
        import optree

        made = tuple(self.make(np.random.default_rng(5)))
        return optree.tree_map(_converter(self.framework), made, none_is_leaf=True)

    def matches(self, finding: Any) -> bool:
        """Returns whether a finding says what is wrong here."""
        return finding.claim in self.claims and finding.cause in self.causes


_ENTRIES: list[Entry] = []


def broken(
    claims: str | tuple[str, ...],
    causes: str | tuple[str, ...],
    make: Callable[[np.random.Generator], Sequence[Any]],
    seen: str,
    *,
    name: str = "",
    **options: Any,
) -> Callable[[Any], Any]:
    """Returns a decorator that declares a broken derivative.

    Args:
        claims: which claim, or one of which, must find it.
        causes: the cause, or one of the causes, that the finding must name.
        make: gives the example's arguments from a NumPy generator.
        seen: where such a defect was seen or is typical.
        name: its name, where the function's own will not do.
        options: of `diptych.check`.
    """
    claims = (claims,) if isinstance(claims, str) else claims
    causes = (causes,) if isinstance(causes, str) else causes

    def declare(f: Any) -> Any:
        _ENTRIES.append(
            Entry(
                name or f.__name__, _framework_of(f), False, f, make, claims, causes, seen, options
            )
        )
        return f

    return declare


def sound(
    make: Callable[[np.random.Generator], Sequence[Any]],
    seen: str,
    *,
    name: str = "",
    **options: Any,
) -> Callable[[Any], Any]:
    """Returns a decorator that declares a sound derivative, and what makes it tricky."""

    def declare(f: Any) -> Any:
        _ENTRIES.append(
            Entry(name or f.__name__, _framework_of(f), True, f, make, seen=seen, options=options)
        )
        return f

    return declare


def entries(sound: bool | None = None) -> list[Entry]:
    """Returns the entries of the frameworks that are installed."""
    for module in _modules():
        importlib.import_module(module)
    found = [e for e in _ENTRIES if sound is None or e.sound is sound]
    names = [e.name for e in found]
    twice = {n for n in names if names.count(n) > 1}
    if twice:
        raise ValueError(f"declared twice: {sorted(twice)}")
    return found


def _modules() -> Iterator[str]:
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    installed = {n for n in ("torch", "jax") if importlib.util.find_spec(n) is not None}
    for folder in ("broken", "sound"):
        for path in sorted((HERE / folder).glob("*.py")):
            framework = path.stem.split("_")[0]
            if framework in FRAMEWORKS and (framework == "rules" or framework in installed):
                yield f"{folder}.{path.stem}"


def _framework_of(f: Any) -> str:
    frame = sys._getframe(2)
    return frame.f_globals["__name__"].rsplit(".", 1)[-1].split("_")[0]


def _converter(framework: str) -> Callable[[Any], Any]:
    def convert(x: Any) -> Any:
        if not isinstance(x, (np.ndarray, np.generic)):
            return x
        if framework == "torch":
            import torch

            return torch.from_numpy(np.array(x))
        if framework == "jax":
            import jax

            return jax.numpy.asarray(x)
        return x

    return convert


# What examples are made of.


def normal(*shape: int) -> Callable[[np.random.Generator], Sequence[Any]]:
    """Returns a maker of one array of normal numbers."""
    return lambda rng: (rng.normal(size=shape),)


def normals(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], Sequence[Any]]:
    """Returns a maker of several arrays of normal numbers."""
    return lambda rng: [rng.normal(size=s) for s in shapes]


def positive(*shape: int) -> Callable[[np.random.Generator], Sequence[Any]]:
    """Returns a maker of one array of numbers between 1/2 and 2."""
    return lambda rng: (rng.uniform(0.5, 2.0, size=shape),)


def complexes(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], Sequence[Any]]:
    """Returns a maker of several arrays of complex numbers."""
    return lambda rng: [rng.normal(size=s) + 1j * rng.normal(size=s) for s in shapes]


def matrix(n: int) -> Callable[[np.random.Generator], Sequence[Any]]:
    """Returns a maker of a general matrix of good condition."""
    return lambda rng: (rng.normal(size=(n, n)) + n * np.eye(n),)


def spd(n: int) -> Callable[[np.random.Generator], Sequence[Any]]:
    """Returns a maker of a symmetric positive definite matrix."""

    def make(rng: np.random.Generator) -> Sequence[Any]:
        a = rng.normal(size=(n, n))
        return (a @ a.T + n * np.eye(n),)

    return make


def fixed(*values: Any) -> Callable[[np.random.Generator], Sequence[Any]]:
    """Returns a maker of these values: lists become arrays."""
    return lambda rng: [np.array(v) if isinstance(v, list) else v for v in values]

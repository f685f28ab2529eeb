"""How the proof looks at transforms of JAX functions: vmap, jit, what stays alive."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from diptych.backends.jax import backend
from diptych.backends.jax.proof import cost, outside, witness
from diptych.proof.probes import Arrays, Function, of_moving

conj = backend.conj


class JaxProbes:
    """The protocol of `diptych.proof.probes` for JAX."""

    growth = (8, 8, 8)
    integer_cotangents = True
    transforms = staticmethod(witness.transforms)
    witness = staticmethod(witness.witness)
    kept = staticmethod(cost.kept)
    timed = staticmethod(cost.timed)
    flops = staticmethod(cost.flops)
    lost = staticmethod(outside.lost)

    def pulled(self, f: Function, wanted: Sequence[bool], free: Sequence[bool]) -> Function:
        """By `jax.vjp`."""
        moving = [i for i, w in enumerate(wanted) if w]

        def of(*arrays: Any) -> Arrays:
            xs, bars = arrays[: len(wanted)], arrays[len(wanted) :]
            pull = jax.vjp(of_moving(f, xs, moving, free), *[xs[i] for i in moving])[1]
            return [conj(bar) for bar in pull(tuple(conj(bar) for bar in bars))]

        return of

    def pushed(self, f: Function, moving: Sequence[bool], free: Sequence[bool]) -> Function:
        """By `jax.jvp`."""
        chosen = [i for i, m in enumerate(moving) if m]

        def of(*arrays: Any) -> Arrays:
            xs, dots = arrays[: len(moving)], arrays[len(moving) :]
            primals = tuple(xs[i] for i in chosen)
            return list(jax.jvp(of_moving(f, xs, chosen, free), primals, tuple(dots))[1])

        return of

    def pull_batched(
        self, f: Function, xs: Sequence[Any], wanted: Sequence[bool], bars: Sequence[Any]
    ) -> Arrays:
        """By `jax.vmap` of the pullback, as jacrev does."""
        moving = [i for i, w in enumerate(wanted) if w]
        free = [bar is not None for bar in bars]
        pull = jax.vjp(of_moving(f, xs, moving, free), *[xs[i] for i in moving])[1]
        mapped = jax.vmap(lambda *given: pull(given))
        found = iter(mapped(*[conj(bar) for bar in bars if bar is not None]))
        return [conj(next(found)) if w else None for w in wanted]

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Silences warnings; `jax.jit` leaves nothing else behind."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield

    def declared(self, target: Any, f: Function, xs: Sequence[Any]) -> set[int]:
        """No function of JAX arrays changes them, and none may say so."""
        f(*xs)
        return set()

    def aliases(self, target: Any, f: Function, xs: Sequence[Any]) -> list[tuple[int, int]]:
        """Arrays do not change, so that it is no matter whether they share memory."""
        return []

    def untraceable(self, error: BaseException) -> str | None:
        """Returns what tracing says of code that looks at values."""
        if isinstance(error, (jax.errors.JAXTypeError, jax.errors.JAXIndexError)):
            return f"not traceable ({type(error).__name__})"
        return None

"""What JAX functions keep alive, and what they cost."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.core import Tracer

from diptych.backends.jax import backend
from diptych.proof.garbage import left_behind
from diptych.proof.probes import Function, Kept, of_moving

conj = backend.conj

_WARM = 2


def kept(
    f: Function, xs: Sequence[Any], wanted: Sequence[bool], bars: Sequence[Any], calls: int
) -> Kept:
    """Counts arrays and tracers after calls whose results are dropped, and after as many again."""
    pull = _pullback(f, xs, wanted, bars)
    residuals = _beside(jax.tree.leaves(pull), xs)
    del pull
    for _ in range(_WARM):
        _once(f, xs, wanted, bars)

    def call() -> None:
        _once(f, xs, wanted, bars)
        _once(f, xs, wanted, None)

    alive, size = left_behind(call, _alive, calls, collect=False)
    if alive >= calls:
        alive, size = left_behind(call, _alive, calls, collect=True)
    return Kept(alive, size, residuals)


def _pullback(f: Function, xs: Sequence[Any], wanted: Sequence[bool], bars: Sequence[Any]) -> Any:
    moving = [i for i, w in enumerate(wanted) if w]
    free = [bar is not None for bar in bars]
    return jax.vjp(of_moving(f, xs, moving, free), *[xs[i] for i in moving])[1]


def _once(
    f: Function, xs: Sequence[Any], wanted: Sequence[bool], bars: Sequence[Any] | None
) -> None:
    if bars is None:
        f(*[x.copy() for x in xs])
        return
    own = [x.copy() for x in xs]
    pull = _pullback(f, own, wanted, bars)
    jax.block_until_ready(pull(tuple([conj(bar) for bar in bars if bar is not None])))


def _alive() -> tuple[int, int]:
    """Returns how many arrays and tracers are alive, and the arrays' bytes."""
    arrays = jax.live_arrays()
    tracers = sum(issubclass(type(x), Tracer) for x in gc.get_objects())
    return len(arrays) + tracers, sum(x.nbytes for x in arrays)


def _beside(leaves: Sequence[Any], xs: Sequence[Any]) -> int:
    """Returns the bytes of residuals that are no inputs."""
    arrays = {id(x): x.nbytes for x in leaves if isinstance(x, jax.Array)}
    pointers = {_pointer(x) for x in xs}
    own = {id(x) for x in leaves if isinstance(x, jax.Array) and _pointer(x) in pointers}
    return sum(size for key, size in arrays.items() if key not in own)


def _pointer(x: Any) -> int:
    return x.unsafe_buffer_pointer() if isinstance(x, jax.Array) and x.is_fully_addressable else 0


def timed(
    f: Function,
    xs: Sequence[Any],
    wanted: Sequence[bool],
    bars: Sequence[Any],
    dots: Sequence[Any],
    compiled: bool,
) -> dict[str, Callable[[], Any]]:
    """Returns the value, the value with its VJP, and with its JVP, to be timed, under jit."""
    if not compiled:
        return {}
    value, vjp, jvp = _three(f, wanted, bars)
    weights = [conj(bar) for bar in bars if bar is not None]
    moved = [d for d in dots if d is not None]
    run = {"primal": (jax.jit(value), ()), "vjp": (jax.jit(vjp), weights),
           "jvp": (jax.jit(jvp), moved)}  # fmt: skip
    return {
        name: lambda g=g, more=more: jax.block_until_ready(g(*xs, *more))
        for name, (g, more) in run.items()
    }


def flops(
    f: Function, xs: Sequence[Any], wanted: Sequence[bool], bars: Sequence[Any]
) -> dict[str, float]:
    """Returns what XLA counts in the program before it is compiled, transcendentals included."""
    value, vjp, _ = _three(f, wanted, bars)
    weights = [conj(bar) for bar in bars if bar is not None]
    lowered = jax.jit(value).lower(*xs)
    # Loops count once, and libraries not at all.
    text = lowered.as_text()
    partial = any(word in text for word in ("custom_call", "stablehlo.while"))
    return {
        "partial": float(partial),
        "primal": _counted(lowered),
        "vjp": _counted(jax.jit(vjp).lower(*xs, *weights)),
    }


def _counted(lowered: Any) -> float:
    found = lowered.cost_analysis() or {}
    return float(found.get("flops", 0.0) + found.get("transcendentals", 0.0))


def _three(
    f: Function, wanted: Sequence[bool], bars: Sequence[Any]
) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    moving = [i for i, w in enumerate(wanted) if w]
    free = [bar is not None for bar in bars]
    n = len(wanted)

    def vjp(*arrays: Any) -> Any:
        xs, weights = arrays[:n], arrays[n:]
        outs, pull = jax.vjp(of_moving(f, xs, moving, free), *[xs[i] for i in moving])
        return outs, pull(tuple(weights))

    def jvp(*arrays: Any) -> Any:
        xs, dots = arrays[:n], arrays[n:]
        primals = tuple([xs[i] for i in moving])
        return jax.jvp(of_moving(f, xs, moving, free), primals, tuple(dots))

    return lambda *xs: f(*xs), vjp, jvp

"""How the proof differentiates JAX functions: by jax.vjp and jax.jvp, as users do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diptych.backends.jax import backend
from diptych.backends.jax.proof.probes import JaxProbes
from diptych.proof.chance import Chance
from diptych.proof.prober import Arrays, Function, Target

_NONE = "a derivative that JAX does not implement"
_REFUSALS = {
    "can't apply forward-mode": "no forward mode",
    "forward-mode differentiation": "no forward mode",
    "do not support JVP": "no derivative of a callback",
    "Linearization failed": "no reverse mode",
    "MissingDirectionError": "no such direction",
    "Reverse-mode differentiation does not work": "no reverse mode through a loop",
    "Differentiation rule": _NONE,
    "JVP not implemented": _NONE,
    "radients are only implemented": _NONE,
    "radient with respect to": _NONE,
    "Gradient of general": _NONE,
    "Derivatives not defined": _NONE,
    "Derivatives of non-symmetric": _NONE,
    "transpose is only implemented": _NONE,
    "Batching rule": "no vmap rule",
    "from outside its arguments": "a gradient that would be lost",
    "differentiated further than it can be": "once differentiable",
    "Abstract tracer value": "values are looked at: not traceable",
    "ConcretizationTypeError": "values are looked at: not traceable",
    "traced array": "values are looked at: not traceable",
    "Attempted boolean conversion": "values are looked at: not traceable",
    "__array__() method was called": "NumPy inside: not traceable",
}


class JaxProber(JaxProbes):
    """The protocol of `diptych.proof.prober` for JAX."""

    name = "jax"

    def target(self, f: Any) -> Target | None:
        """Returns what a custom_jvp or custom_vjp function is."""
        if isinstance(f, (jax.custom_jvp, jax.custom_vjp)):
            kind = "jax.custom_jvp" if isinstance(f, jax.custom_jvp) else "jax.custom_vjp"
            name = getattr(f, "__name__", kind)
            return Target(name, kind, f, f.__wrapped__, True, "jax", _forward_of(f), thing=f)
        return None

    _chance = Chance()

    @contextlib.contextmanager
    def session(self, seed: int) -> Iterator[None]:
        """Turns float64 on and fixes the random state within; puts back what was before."""
        with self._chance.fixed(seed), jax.enable_x64(True):
            yield

    def is_array(self, x: Any) -> bool:
        """Returns whether `x` is a JAX array."""
        return isinstance(x, jax.Array)

    def array(self, x: np.ndarray, like: Any = None) -> jax.Array:
        """Returns a JAX array; keys of random numbers as they are."""
        return jnp.array(x)

    def numpy(self, x: Any) -> np.ndarray:
        """Returns the values of an array; bfloat16 as float32."""
        x = np.asarray(x)
        return x.astype(np.float32) if x.dtype.kind == "V" else x

    def dtype(self, x: Any) -> str:
        """Returns the dtype's name."""
        return str(x.dtype)

    def cast(self, x: Any, dtype: str) -> jax.Array:
        """Returns the array in another dtype; by NumPy, which compiles nothing for it."""
        return jnp.asarray(np.asarray(x).astype(jnp.dtype(dtype)))

    def value(self, f: Function, xs: Sequence[Any]) -> Arrays:
        """Returns the values."""
        return f(*xs)

    def vjp(
        self, f: Function, xs: Sequence[Any], wanted: Sequence[bool]
    ) -> tuple[Arrays, Callable[[Sequence[Any]], Arrays]]:
        """By `jax.vjp` of the wanted arguments alone."""
        moving = [i for i, w in enumerate(wanted) if w]
        of_moving, moved = _of_moving(f, xs, moving), [xs[i] for i in moving]
        outs, pullback = jax.vjp(of_moving, *moved)

        def pull(bars: Sequence[Any]) -> Arrays:
            unused = [bar is None and _is_free(o) for bar, o in zip(bars, outs, strict=True)]
            if any(unused):  # a rule may be told which outputs nobody uses
                some = jax.vjp(lambda *args: _used(of_moving(*args), unused), *moved)[1]
                found = some(_used(_full(bars, outs), unused))
            else:
                found = pullback(_full(bars, outs))
            spread: Arrays = [None] * len(xs)
            for i, bar in zip(moving, found, strict=True):
                spread[i] = backend.conj(bar)
            return spread

        return outs, pull

    def jvp(self, f: Function, xs: Sequence[Any], dots: Sequence[Any]) -> tuple[Arrays, Arrays]:
        """By `jax.jvp` in the arguments that move."""
        moving = [i for i, dot in enumerate(dots) if dot is not None]
        of_moving = _of_moving(f, xs, moving)
        outs, found = jax.jvp(of_moving, [xs[i] for i in moving], [dots[i] for i in moving])
        return outs, [dot if _is_free(out) else None for out, dot in zip(outs, found, strict=True)]

    def gradient(self, f: Function, bars: Sequence[Any], wanted: Sequence[bool]) -> Function:
        """By `jax.vjp`."""

        def of(*xs: Any) -> Arrays:
            _, pull = self.vjp(f, xs, wanted)
            return [bar for bar, w in zip(pull(bars), wanted, strict=True) if w]

        return of

    def tangent(self, f: Function, dots: Sequence[Any]) -> Function:
        """By `jax.jvp`."""

        def of(*xs: Any) -> Arrays:
            return [dot for dot in self.jvp(f, xs, dots)[1] if dot is not None]

        return of

    def vmap(self, f: Function, in_axes: Sequence[int | None]) -> Function:
        """By `jax.vmap`."""
        return jax.vmap(f, in_axes=tuple(in_axes))

    def compile(self, f: Function) -> Function:
        """By `jax.jit`."""
        return jax.jit(f)

    def steady(self, f: Function) -> Function:
        """Returns the function under jit, or as it is where it looks at values.

        JAX compiles a loop anew for each call that is not jitted.
        """
        return _jitted_if_it_can(f)

    def at_once(self, f: Function) -> Function:
        """Returns the function under jit, or as it is where it looks at values.

        Every operation of another shape or dtype takes XLA some 30 ms, however small, and a whole
        program two or three times as long. It is not optimised, as it runs once or twice, and each
        result is rounded to its dtype, as one by one.
        """
        options = {"xla_backend_optimization_level": 0, "xla_allow_excess_precision": False}
        return _jitted_if_it_can(f, compiler_options=options)

    def layouts(self, x: Any) -> dict[str, Any]:
        """Returns nothing: JAX arrays have one layout."""
        return {}

    expanded = layouts

    def contexts(self) -> dict[str, Callable[[], Any]]:
        """Returns jit switched off."""
        return {"jax.disable_jit": jax.disable_jit}

    def returned(self, thing: Any) -> contextlib.nullcontext[list[list[str | None]]]:
        """Nothing: JAX casts no cotangent, and raises where one has another dtype."""
        return contextlib.nullcontext([])

    def refusal(self, error: BaseException) -> str | None:
        """Returns in a few words what JAX, or a rule, refuses."""
        text = f"{type(error).__name__}: {error}"
        return next((said for word, said in _REFUSALS.items() if word in text), None)


def _jitted_if_it_can(f: Function, **options: Any) -> Function:
    jitted = jax.jit(f, **options)

    def jitted_if_it_can(*xs: Any) -> Arrays:
        try:
            return jitted(*xs)
        except Exception:
            return f(*xs)

    return jitted_if_it_can


def _is_free(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


def _full(bars: Sequence[Any], outs: Sequence[Any]) -> list[Any]:
    """Returns cotangents as jax.vjp takes them: conjugated, zeros spelled out, float0 for ints."""
    found = []
    for bar, out in zip(bars, outs, strict=True):
        if not _is_free(out):
            found.append(np.zeros(out.shape, jax.dtypes.float0))
        else:
            found.append(jnp.zeros(out.shape, out.dtype) if bar is None else backend.conj(bar))
    return found


def _used(arrays: Sequence[Any], unused: Sequence[bool]) -> list[Any]:
    return [x for x, drop in zip(arrays, unused, strict=True) if not drop]


def _of_moving(f: Function, xs: Sequence[Any], moving: Sequence[int]) -> Function:
    def of(*moved: Any) -> Arrays:
        full = list(xs)
        for i, x in zip(moving, moved, strict=True):
            full[i] = x
        return f(*full)

    return of


def _forward_of(f: Any) -> Callable[..., Any] | None:
    """Returns the value as custom_vjp's `fwd` gives it, where it can be called as the function."""
    fwd = getattr(f, "fwd", None)
    if fwd is None or getattr(f, "symbolic_zeros", False) or getattr(f, "nondiff_argnums", ()):
        return None
    return lambda *args: fwd(*args)[0]


prober = JaxProber()

"""The JAX rows: eager calls and derivatives, optimised HLO, compile time, residual bytes."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cases import CASES, Exponent, pow_static, sin_vjp
from hand_jax import (
    HAND,
    jvp_sin,
    tutorial_jvp_sin,
    tutorial_vjp_sin,
    vjp_pow,
    vjp_sin,
)
from measure import Row, counted_row, guarded, interleaved, quiet_collector, timed_row

Functions = dict[str, Callable[..., Any]]


def _arguments(count: int, shape: tuple[int, ...] = (16,)) -> list[jax.Array]:
    return [jnp.full(shape, 0.7, jnp.float32) for _ in range(count)]


def _made(variant: str) -> Functions:
    """The rule and its two hand-written halves, static arguments bound."""
    maker, _, static = CASES[variant]

    def bind(f: Callable[..., Any]) -> Callable[..., Any]:
        # Without static arguments the function goes in as it is: a lambda more would hide cost.
        return (lambda *xs: f(*xs, *static)) if static else f

    vjp, jvp = HAND[variant]
    return {"diptych": bind(maker()), "custom_vjp": bind(vjp()), "custom_jvp": bind(jvp())}


def eager_call(rounds: int) -> list[Row]:
    """An eager call that nothing differentiates, against a hand-written custom_vjp."""
    what, rows = "jax eager call", []
    for variant, (_, count, _) in CASES.items():

        def measure(variant: str = variant, count: int = count) -> list[Row]:
            xs = _arguments(count)
            functions = _made(variant)
            np.testing.assert_allclose(functions["diptych"](*xs), functions["custom_vjp"](*xs))
            calls = {name: lambda f=f: f(*xs).block_until_ready() for name, f in functions.items()}
            samples = interleaved(calls, rounds)
            return [
                timed_row(what, variant, "custom_vjp", samples, theirs="custom_vjp", bound=0.2),
                timed_row(what, variant, "custom_jvp", samples, theirs="custom_jvp"),
            ]

        rows += guarded(what, variant, "custom_vjp", 0.2, measure)
    return rows


def eager_derivatives(rounds: int) -> list[Row]:
    """jax.grad and jax.jvp called eagerly, nothing jitted by the user."""
    rows = []
    for variant, (_, count, _) in CASES.items():

        def measure_grad(variant: str = variant, count: int = count) -> list[Row]:
            xs, positions = _arguments(count, ()), tuple(range(count))
            functions = {name: jax.grad(f, positions) for name, f in _made(variant).items()}
            np.testing.assert_allclose(
                functions["diptych"](*xs), functions["custom_vjp"](*xs), rtol=1e-5
            )
            calls = {
                name: lambda g=g: jax.block_until_ready(g(*xs)) for name, g in functions.items()
            }
            samples = interleaved(calls, rounds)
            return [
                timed_row(
                    "jax eager grad", variant, "custom_vjp", samples, theirs="custom_vjp", bound=1.0
                )
            ]

        def measure_jvp(variant: str = variant, count: int = count) -> list[Row]:
            xs = tuple(_arguments(count))
            functions = _made(variant)
            np.testing.assert_allclose(
                jax.jvp(functions["diptych"], xs, xs)[1],
                jax.jvp(functions["custom_jvp"], xs, xs)[1],
                rtol=1e-5,
            )
            calls = {
                name: lambda f=functions[name]: jax.block_until_ready(jax.jvp(f, xs, xs))
                for name in ("diptych", "custom_jvp")
            }
            samples = interleaved(calls, rounds)
            return [
                timed_row(
                    "jax eager jvp", variant, "custom_jvp", samples, theirs="custom_jvp", bound=1.0
                )
            ]

        rows += guarded("jax eager grad", variant, "custom_vjp", 1.0, measure_grad)
        rows += guarded("jax eager jvp", variant, "custom_jvp", 1.0, measure_jvp)
    return sorted(rows, key=lambda row: row.what)


_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%?[\w.\-]+ = (?:\([^=]*?\)|\S+) ([\w\-]+)\(", re.MULTILINE
)


def instructions(f: Callable[..., Any], *xs: Any) -> Counter[str]:
    """The instructions of the optimised HLO of `f`, by opcode, fused ones included."""
    return Counter(_INSTRUCTION.findall(jax.jit(f).lower(*xs).compile().as_text()))


def hlo_instructions() -> list[Row]:
    """Optimised HLO of value, grad and jvp under jit, against hand-written rules."""
    what, rows = "jax HLO instructions", []
    for variant, (_, count, _) in CASES.items():
        positions = tuple(range(count))

        def of_value(f: Callable[..., Any], *xs: Any) -> Any:
            return f(*xs)

        def of_grad(f: Callable[..., Any], *xs: Any, positions: tuple[int, ...] = positions) -> Any:
            return jax.grad(lambda *xs: f(*xs).sum(), positions)(*xs)

        def of_jvp(f: Callable[..., Any], *xs: Any) -> Any:
            return jax.jvp(f, xs, xs)

        plans = [
            ("value", of_value, "custom_vjp"),
            ("grad", of_grad, "custom_vjp"),
            ("jvp", of_jvp, "custom_jvp"),
        ]
        for name, transform, against in plans:

            def measure(
                variant: str = variant,
                count: int = count,
                name: str = name,
                transform: Callable[..., Any] = transform,
                against: str = against,
            ) -> list[Row]:
                made, xs = _made(variant), _arguments(count)
                ours, theirs = (
                    instructions(lambda *xs, f=made[key]: transform(f, *xs), *xs)
                    for key in ("diptych", against)
                )
                return [
                    counted_row(
                        what,
                        f"{variant}, {name}",
                        against,
                        ours.total(),
                        theirs.total(),
                        unit="ops",
                        extra={"ours": dict(ours), "theirs": dict(theirs)},
                    )
                ]

            rows += guarded(what, f"{variant}, {name}", against, 1.0, measure)
    return rows


def _chain(functions: list[Callable[..., Any]]) -> Callable[[Any], Any]:
    def chain(x: Any) -> Any:
        for f in functions:
            x = f(x)
        return x

    return chain


def _compile_seconds(functions: list[Callable[..., Any]], transform: str) -> list[float]:
    """Seconds to lower, and to lower and compile, the derivative of a fresh chain."""
    chain, x = _chain(functions), jnp.float32(0.7)
    derivatives = {
        "grad": jax.grad(chain),
        "jvp": lambda x: jax.jvp(chain, (x,), (x,)),
    }
    with quiet_collector():
        start = time.perf_counter()
        lowered = jax.jit(derivatives[transform]).lower(x)
        traced = time.perf_counter()
        lowered.compile()
        return [traced - start, time.perf_counter() - start]


def compile_time(rounds: int, length: int = 50) -> list[Row]:
    """Trace and compile time of a chain of rules, fresh in each round."""
    what, rows = f"jax compile time, {length} rules", []
    fresh = {
        "one rule": lambda make: [make()] * length,
        "distinct rules": lambda make: [make() for _ in range(length)],
    }
    hand = {
        "grad": ("custom_vjp", vjp_sin, tutorial_vjp_sin),
        "jvp": ("custom_jvp", jvp_sin, tutorial_jvp_sin),
    }
    for transform, (against, hand_made, tutorial) in hand.items():
        for kind, repeat in fresh.items():
            makers = {"diptych": sin_vjp, against: hand_made, "tutorial": tutorial}

            def measure(
                transform: str = transform,
                against: str = against,
                makers: dict[str, Any] = makers,
                kind: str = kind,
                repeat: Any = repeat,
            ) -> list[Row]:
                traced: dict[str, list[float]] = {name: [] for name in makers}
                whole: dict[str, list[float]] = {name: [] for name in makers}
                for turn in range(rounds + 1):
                    for name, make in makers.items():
                        seconds = _compile_seconds(repeat(make), transform)
                        if turn:  # the first of each warms the compiler itself
                            traced[name].append(seconds[0])
                            whole[name].append(seconds[1])
                variant = f"{transform}, {kind}"
                in_tutorial = f"{against}, tutorial"
                return [
                    timed_row(what, variant, against, whole, theirs=against, bound=1.3, unit="ms"),
                    timed_row(what, variant, in_tutorial, whole, theirs="tutorial", unit="ms"),
                    timed_row(
                        what, f"{variant}, tracing", against, traced, theirs=against, unit="ms"
                    ),
                ]

            rows += guarded(what, f"{transform}, {kind}", against, 1.3, measure)
    return rows


def residual_bytes() -> list[Row]:
    """Bytes of the distinct arrays that the pullback of jax.vjp holds."""
    what, rows = "jax bytes saved", []

    def held(f: Callable[..., Any], xs: list[jax.Array]) -> int:
        _, pullback = jax.vjp(f, *xs)
        leaves = [leaf for leaf in jax.tree_util.tree_leaves(pullback) if hasattr(leaf, "nbytes")]
        return sum({leaf.unsafe_buffer_pointer(): leaf.nbytes for leaf in leaves}.values())

    for variant, (_, count, _) in CASES.items():

        def measure(variant: str = variant, count: int = count) -> list[Row]:
            made, xs = _made(variant), _arguments(count, (1024,))
            return [
                counted_row(
                    what,
                    variant,
                    "custom_vjp",
                    held(made["diptych"], xs),
                    held(made["custom_vjp"], xs),
                    unit="B",
                )
            ]

        rows += guarded(what, variant, "custom_vjp", 1.0, measure)
    return rows


def eager_new_keys(rounds: int) -> list[Row]:
    """An eager call that no cache can have seen: a new static argument, a new rule, a new shape."""
    what = "jax eager call, first of its kind"

    def measure() -> list[Row]:
        ours, theirs, x = pow_static(), vjp_pow(), _arguments(1)[0]
        shapes = iter(range(17, 10_000))
        pairs: dict[str, Functions] = {
            "new static argument": {
                "diptych": lambda: ours(x, Exponent(3)),
                "custom_vjp": lambda: theirs(x, Exponent(3)),
            },
            "new rule": {"diptych": lambda: sin_vjp()(x), "custom_vjp": lambda: vjp_sin()(x)},
            "new shape": {
                "diptych": lambda: ours(jnp.ones(next(shapes)), 3),
                "custom_vjp": lambda: theirs(jnp.ones(next(shapes)), 3),
            },
        }
        return [
            timed_row(
                what,
                variant,
                "custom_vjp",
                interleaved(calls, rounds, 0.0),
                theirs="custom_vjp",
            )
            for variant, calls in pairs.items()
        ]

    return guarded(what, "new static argument, rule, shape", "custom_vjp", None, measure)

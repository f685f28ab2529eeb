"""The rules that are measured, written as a user would write them, one set for both frameworks.

Each maker returns a new rule, so that a benchmark can ask for one that nothing has cached yet.
The hand-written halves, with the same names, are in `hand_torch.py` and `hand_jax.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diptych


def sin_vjp() -> Callable[..., Any]:
    """The sine with a VJP only; residuals are the default named tuple."""

    @diptych.rule
    def sin(x):
        xp = diptych.namespace(x)
        return xp.sin(x)

    @sin.vjp
    def sin_vjp(res, out_bar):
        xp = diptych.namespace(out_bar)
        return out_bar * xp.cos(res.x)

    return sin


def sin_both() -> Callable[..., Any]:
    """The sine with a JVP and a VJP."""
    sin = sin_vjp()

    @sin.jvp
    def sin_jvp(res, x_dot):
        xp = diptych.namespace(x_dot)
        return x_dot * xp.cos(res.x)

    return sin


def sin_partials() -> Callable[..., Any]:
    """The sine by its partial derivative."""

    @diptych.rule
    def sin(x):
        xp = diptych.namespace(x)
        return xp.sin(x)

    @sin.partials
    def sin_partials(res):
        xp = diptych.namespace(res.x)
        return xp.cos(res.x)

    return sin


def sin_fwd() -> Callable[..., Any]:
    """The sine whose `fwd` keeps the argument alone."""

    @diptych.rule
    def sin(x):
        xp = diptych.namespace(x)
        return xp.sin(x)

    @sin.fwd
    def sin_fwd(x):
        xp = diptych.namespace(x)
        return xp.sin(x), x

    @sin.vjp
    def sin_vjp(res, out_bar):
        xp = diptych.namespace(out_bar)
        return out_bar * xp.cos(res)

    return sin


def xtanh_fwd() -> Callable[..., Any]:
    """The product x tanh(x), whose `fwd` keeps an intermediate (tanh) beside the argument."""

    @diptych.rule
    def xtanh(x):
        xp = diptych.namespace(x)
        return x * xp.tanh(x)

    @xtanh.fwd
    def xtanh_fwd(x):
        xp = diptych.namespace(x)
        t = xp.tanh(x)
        return x * t, (x, t)

    @xtanh.vjp
    def xtanh_vjp(res, out_bar):
        x, t = res
        return out_bar * (t + x * (1 - t * t))

    return xtanh


def logistic_fwd() -> Callable[..., Any]:
    """The logistic function, whose `fwd` keeps exp(-x) and not x: that suffices for its VJP."""

    @diptych.rule
    def logistic(x):
        xp = diptych.namespace(x)
        return 1 / (1 + xp.exp(-x))

    @logistic.fwd
    def logistic_fwd(x):
        xp = diptych.namespace(x)
        e = xp.exp(-x)
        return 1 / (1 + e), e

    @logistic.vjp
    def logistic_vjp(e, out_bar):
        return out_bar * (e / ((1 + e) * (1 + e)))

    return logistic


def mul_two() -> Callable[..., Any]:
    """The product x * y: two arguments, VJP only."""

    @diptych.rule
    def mul(x, y):
        return x * y

    @mul.vjp
    def mul_vjp(res, out_bar):
        return out_bar * res.y, out_bar * res.x

    return mul


def pow_static() -> Callable[..., Any]:
    """The power x**n with a static n, VJP only."""

    @diptych.rule(static=("n",))
    def power(x, n):
        return x**n

    @power.vjp
    def power_vjp(res, out_bar):
        return out_bar * (res.n * res.x ** (res.n - 1))

    return power


class Exponent(int):
    """An int that equals only itself, as a circuit or a mesh would: new to every cache."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        """Whether it is the same object."""
        return self is other


# variant name -> (maker, number of array arguments, static arguments)
CASES: dict[str, tuple[Callable[[], Callable[..., Any]], int, tuple[Any, ...]]] = {
    "VJP only": (sin_vjp, 1, ()),
    "JVP and VJP": (sin_both, 1, ()),
    "partials": (sin_partials, 1, ()),
    "fwd keeping x": (sin_fwd, 1, ()),
    "fwd, an intermediate": (xtanh_fwd, 1, ()),
    "fwd, it alone": (logistic_fwd, 1, ()),
    "two arguments": (mul_two, 2, ()),
    "static argument": (pow_static, 1, (3,)),
}


def many_leaves() -> Callable[..., Any]:
    """Twice each leaf of a list, VJP only: how the cost grows with the number of leaves."""

    @diptych.rule
    def double(xs):
        return [2 * x for x in xs]

    @double.vjp
    def double_vjp(res, out_bar):
        return [2 * bar for bar in out_bar]

    return double

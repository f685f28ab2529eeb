"""The rules of `cases.py` as people write them by hand for PyTorch, in both forms.

`plain` is `forward(ctx, x)` with a backward. `composable` is `forward(x)`, `setup_context`,
`backward`, `jvp` and `generate_vmap_rule`: what torch.func, vmap and forward mode ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import Function


def plain_sin() -> Callable[..., Any]:
    """The sine, plain form."""

    class Sin(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.sin(x)

        @staticmethod
        def backward(ctx, out_bar):
            (x,) = ctx.saved_tensors
            return out_bar * torch.cos(x)

    return Sin.apply


def composable_sin() -> Callable[..., Any]:
    """The sine, composable form."""

    class Sin(Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return torch.sin(x)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx, out_bar):
            (x,) = ctx.saved_tensors
            return out_bar * torch.cos(x)

        @staticmethod
        def jvp(ctx, x_dot):
            (x,) = ctx.saved_tensors
            return x_dot * torch.cos(x)

    return Sin.apply


def plain_xtanh() -> Callable[..., Any]:
    """The product x tanh(x) with its tanh kept, plain form (wrong at order 2: #104040)."""

    class XTanh(Function):
        @staticmethod
        def forward(ctx, x):
            t = torch.tanh(x)
            ctx.save_for_backward(x, t)
            return x * t

        @staticmethod
        def backward(ctx, out_bar):
            x, t = ctx.saved_tensors
            return out_bar * (t + x * (1 - t * t))

    return XTanh.apply


def composable_xtanh() -> Callable[..., Any]:
    """The product x tanh(x) with its tanh kept as a second output, composable form."""

    class XTanh(Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            t = torch.tanh(x)
            return x * t, t

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(inputs[0], output[1])
            ctx.save_for_forward(inputs[0], output[1])

        @staticmethod
        def backward(ctx, out_bar, t_bar):
            x, t = ctx.saved_tensors
            slope = 1 - t * t
            return out_bar * (t + x * slope) + t_bar * slope

        @staticmethod
        def jvp(ctx, x_dot):
            x, t = ctx.saved_tensors
            slope = 1 - t * t
            return x_dot * (t + x * slope), x_dot * slope

    def xtanh(x):
        return XTanh.apply(x)[0]

    return xtanh


def plain_logistic() -> Callable[..., Any]:
    """The logistic function with exp(-x) kept, plain form (wrong at order 2)."""

    class Logistic(Function):
        @staticmethod
        def forward(ctx, x):
            e = torch.exp(-x)
            ctx.save_for_backward(e)
            return 1 / (1 + e)

        @staticmethod
        def backward(ctx, out_bar):
            (e,) = ctx.saved_tensors
            return out_bar * (e / ((1 + e) * (1 + e)))

    return Logistic.apply


def composable_logistic() -> Callable[..., Any]:
    """The logistic function with exp(-x) kept as a second output, composable form."""

    class Logistic(Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            e = torch.exp(-x)
            return 1 / (1 + e), e

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(output[1])
            ctx.save_for_forward(output[1])

        @staticmethod
        def backward(ctx, out_bar, e_bar):
            (e,) = ctx.saved_tensors
            return out_bar * (e / ((1 + e) * (1 + e))) - e_bar * e

        @staticmethod
        def jvp(ctx, x_dot):
            (e,) = ctx.saved_tensors
            return x_dot * (e / ((1 + e) * (1 + e))), -x_dot * e

    def logistic(x):
        return Logistic.apply(x)[0]

    return logistic


def plain_mul() -> Callable[..., Any]:
    """The product x * y, plain form."""

    class Mul(Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return x * y

        @staticmethod
        def backward(ctx, out_bar):
            x, y = ctx.saved_tensors
            return out_bar * y, out_bar * x

    return Mul.apply


def composable_mul() -> Callable[..., Any]:
    """The product x * y, composable form."""

    class Mul(Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x, y):
            return x * y

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx, out_bar):
            x, y = ctx.saved_tensors
            return out_bar * y, out_bar * x

        @staticmethod
        def jvp(ctx, x_dot, y_dot):
            x, y = ctx.saved_tensors
            return x_dot * y + x * y_dot

    return Mul.apply


def plain_pow() -> Callable[..., Any]:
    """The power x**n, plain form."""

    class Pow(Function):
        @staticmethod
        def forward(ctx, x, n):
            ctx.save_for_backward(x)
            ctx.n = n
            return x**n

        @staticmethod
        def backward(ctx, out_bar):
            (x,) = ctx.saved_tensors
            return out_bar * (ctx.n * x ** (ctx.n - 1)), None

    return Pow.apply


def composable_pow() -> Callable[..., Any]:
    """The power x**n, composable form."""

    class Pow(Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x, n):
            return x**n

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(inputs[0])
            ctx.save_for_forward(inputs[0])
            ctx.n = inputs[1]

        @staticmethod
        def backward(ctx, out_bar):
            (x,) = ctx.saved_tensors
            return out_bar * (ctx.n * x ** (ctx.n - 1)), None

        @staticmethod
        def jvp(ctx, x_dot, n_dot):
            (x,) = ctx.saved_tensors
            return x_dot * (ctx.n * x ** (ctx.n - 1))

    return Pow.apply


_SIN = (plain_sin, composable_sin)
HAND: dict[str, tuple[Callable[[], Callable[..., Any]], Callable[[], Callable[..., Any]]]] = {
    "VJP only": _SIN,
    "JVP and VJP": _SIN,
    "partials": _SIN,
    "fwd keeping x": _SIN,
    "fwd, an intermediate": (plain_xtanh, composable_xtanh),
    "fwd, it alone": (plain_logistic, composable_logistic),
    "two arguments": (plain_mul, composable_mul),
    "static argument": (plain_pow, composable_pow),
}


def plain_many() -> Callable[..., Any]:
    """Twice each of many tensors, plain form."""

    class Double(Function):
        @staticmethod
        def forward(ctx, *xs):
            return tuple([2 * x for x in xs])

        @staticmethod
        def backward(ctx, *bars):
            return tuple([2 * bar for bar in bars])

    def double(xs):
        return list(Double.apply(*xs))

    return double

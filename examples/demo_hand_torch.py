"""The demo's functions written by hand for PyTorch, each in the two forms that its manual teaches.

`PLAIN`: `forward(ctx, x)` and `backward`. `COMPOSABLE`: `setup_context`, `jvp` and a `vmap` rule.
The formulas are those of `demo_rules.py`.
"""

from __future__ import annotations

import scipy.special
import torch
from torch.autograd import Function

from demo_table import BESSEL_ORDER, ECCENTRICITY, solve_kepler


class SinSlope(Function):
    """3 cos(x) t, whose own derivative in x is stated as -5 sin(x) t."""

    @staticmethod
    def forward(ctx, x, t):
        ctx.save_for_backward(x, t)
        return 3 * torch.cos(x) * t

    @staticmethod
    def backward(ctx, out_bar):
        x, t = ctx.saved_tensors
        return -5 * torch.sin(x) * t * out_bar, 3 * torch.cos(x) * out_bar


class Sin(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, out_bar):
        (x,) = ctx.saved_tensors
        return SinSlope.apply(x, out_bar)


def stable_log1pexp(x):
    return torch.where(x > 30, x, torch.log1p(torch.exp(x)))


class Log1pExp(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return stable_log1pexp(x)

    @staticmethod
    def backward(ctx, out_bar):
        (x,) = ctx.saved_tensors
        return out_bar * torch.sigmoid(x)


class Sinh(Function):
    """Keeps the exponential on ctx, as one would think it should be done."""

    @staticmethod
    def forward(ctx, x):
        e = torch.exp(x)
        ctx.save_for_backward(e)
        return (e - 1 / e) / 2

    @staticmethod
    def backward(ctx, out_bar):
        (e,) = ctx.saved_tensors
        return out_bar * 3 * (e + 1 / e) / 2


def host_bessel(order, x):
    return torch.from_numpy(scipy.special.jv(order, x.detach().numpy()))


class Bessel(Function):
    @staticmethod
    def forward(ctx, order, x):
        ctx.order = order
        ctx.save_for_backward(x)
        return host_bessel(order, x)

    @staticmethod
    def backward(ctx, out_bar):
        (x,) = ctx.saved_tensors
        slope = (Bessel.apply(ctx.order - 1, x) - Bessel.apply(ctx.order + 1, x)) / 2
        return None, out_bar * slope


def host_kepler(m):
    return torch.from_numpy(solve_kepler(m.detach().numpy()))


class Kepler(Function):
    @staticmethod
    def forward(ctx, m):
        anomaly = host_kepler(m)
        ctx.save_for_backward(anomaly)
        return anomaly

    @staticmethod
    def backward(ctx, out_bar):
        (anomaly,) = ctx.saved_tensors
        return out_bar / (1 - ECCENTRICITY * torch.cos(anomaly))


BARE = {
    "sin": torch.sin,
    "log1pexp": stable_log1pexp,
    "sinh": torch.sinh,
    "bessel": lambda x: host_bessel(BESSEL_ORDER, x),
    "kepler": host_kepler,
}

PLAIN = {
    "sin": lambda x: Sin.apply(x),
    "log1pexp": lambda x: Log1pExp.apply(x),
    "sinh": lambda x: Sinh.apply(x),
    "bessel": lambda x: Bessel.apply(BESSEL_ORDER, x),
    "kepler": lambda x: Kepler.apply(x),
}


class SinSlope2(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x, t):
        return 3 * torch.cos(x) * t

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, out_bar):
        x, t = ctx.saved_tensors
        return -5 * torch.sin(x) * t * out_bar, 3 * torch.cos(x) * out_bar

    @staticmethod
    def jvp(ctx, x_dot, t_dot):
        x, t = ctx.saved_tensors
        return -5 * torch.sin(x) * t * x_dot + 3 * torch.cos(x) * t_dot


class Sin2(Function):
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
        return SinSlope2.apply(x, out_bar)

    @staticmethod
    def jvp(ctx, x_dot):
        (x,) = ctx.saved_tensors
        return SinSlope2.apply(x, x_dot)


class Log1pExp2(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return stable_log1pexp(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, out_bar):
        (x,) = ctx.saved_tensors
        return out_bar * torch.sigmoid(x)

    @staticmethod
    def jvp(ctx, x_dot):
        (x,) = ctx.saved_tensors
        return x_dot * torch.sigmoid(x)


class Sinh2(Function):
    """Returns the exponential as an output as well: the manual's way to keep an intermediate."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        e = torch.exp(x)
        return (e - 1 / e) / 2, e

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output[1])
        ctx.save_for_forward(output[1])

    @staticmethod
    def backward(ctx, out_bar, e_bar):
        (e,) = ctx.saved_tensors
        return out_bar * 3 * (e + 1 / e) / 2 + e_bar * e

    @staticmethod
    def jvp(ctx, x_dot):
        (e,) = ctx.saved_tensors
        return x_dot * 3 * (e + 1 / e) / 2, x_dot * e


class Bessel2(Function):
    @staticmethod
    def forward(order, x):
        return host_bessel(order, x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.order, x = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def slope(ctx):
        (x,) = ctx.saved_tensors
        return (Bessel2.apply(ctx.order - 1, x) - Bessel2.apply(ctx.order + 1, x)) / 2

    @staticmethod
    def backward(ctx, out_bar):
        return None, out_bar * Bessel2.slope(ctx)

    @staticmethod
    def jvp(ctx, _, x_dot):
        return x_dot * Bessel2.slope(ctx)

    @staticmethod
    def vmap(info, in_dims, order, x):
        return Bessel2.apply(order, x), in_dims[1]


class Kepler2(Function):
    @staticmethod
    def forward(m):
        return host_kepler(m)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx, out_bar):
        (anomaly,) = ctx.saved_tensors
        return out_bar / (1 - ECCENTRICITY * torch.cos(anomaly))

    @staticmethod
    def jvp(ctx, m_dot):
        (anomaly,) = ctx.saved_tensors
        return m_dot / (1 - ECCENTRICITY * torch.cos(anomaly))

    @staticmethod
    def vmap(info, in_dims, m):
        return Kepler2.apply(m), in_dims[0]


COMPOSABLE = {
    "sin": lambda x: Sin2.apply(x),
    "log1pexp": lambda x: Log1pExp2.apply(x),
    "sinh": lambda x: Sinh2.apply(x)[0],
    "bessel": lambda x: Bessel2.apply(BESSEL_ORDER, x),
    "kepler": lambda x: Kepler2.apply(x),
}

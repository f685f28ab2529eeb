"""Broken activations, losses and clamps: wrong at some values of the argument."""

import math

import torch
from corpus import broken, fixed, normal, normals, positive


class _Saving(torch.autograd.Function):
    """One elementwise function of one argument, which it keeps."""

    @classmethod
    def value(cls, x):
        raise NotImplementedError

    @classmethod
    def slope(cls, x):
        raise NotImplementedError

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * ctx.owner.slope(x)


def _saving(cls):
    def forward(ctx, x):
        ctx.owner = cls
        ctx.save_for_backward(x)
        return cls.value(x)

    cls.forward = staticmethod(forward)
    return cls


@broken("vjp", "other constants", normal(20), "tanh-GELU's derivative for the erf GELU")
@_saving
class GeluTanhBackward(_Saving):
    @classmethod
    def value(cls, x):
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    @classmethod
    def slope(cls, x):
        c = math.sqrt(2 / math.pi)
        t = torch.tanh(c * (x + 0.044715 * x**3))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x**2)


@broken(
    "vjp",
    ("where", "other constants"),
    fixed([-1.0, 0.5, 1.5, 2.5, 3.0, 25.0]),
    "softplus: the threshold of the backward differs",
)
@_saving
class SoftplusOtherThreshold(_Saving):
    @classmethod
    def value(cls, x):
        return torch.where(x > 20, x, torch.log1p(torch.exp(x.clamp(max=20))))

    @classmethod
    def slope(cls, x):
        return torch.where(x > 2, torch.ones_like(x), torch.sigmoid(x))


@broken(
    "vjp",
    "where",
    fixed([-2.0, -0.7, -0.3, 0.2, 0.6, 0.9, 3.0]),
    "Huber losses with delta != 1 and a clip at 1 in the backward",
)
@_saving
class HuberOtherDelta(_Saving):
    @classmethod
    def value(cls, x):
        return torch.where(x.abs() < 0.5, 0.5 * x * x, 0.5 * (x.abs() - 0.25))

    @classmethod
    def slope(cls, x):
        return x.clamp(-1, 1)


@broken("vjp", "where", fixed([-3.0, -0.5, 0.2, 0.9, 1.7, 4.0]), "clamp: the upper bound forgotten")
@_saving
class ClampLowerOnly(_Saving):
    @classmethod
    def value(cls, x):
        return x.clamp(-1, 1)

    @classmethod
    def slope(cls, x):
        return (x > -1).to(x.dtype)


def _clip(x):
    return x.clamp(-1, 1)


@broken(
    "vjp",
    "where",
    fixed([-3.0, -0.5, 0.2, 0.9, 1.7, 4.0]),
    "quantisation (Brevitas-like): the clip mask of the straight-through estimator is lost",
    reference=_clip,
)
@_saving
class QuantiseWithoutMask(_Saving):
    @classmethod
    def value(cls, x):
        return torch.round(x.clamp(-1, 1) * 8) / 8

    @classmethod
    def slope(cls, x):
        return torch.ones_like(x)


@broken(
    "vjp",
    ("missing term", "wrong"),
    normal(8),
    "focal loss: the modulating factor taken as a constant",
)
@_saving
class FocalFactorConstant(_Saving):
    @classmethod
    def value(cls, x):
        p = torch.sigmoid(x)
        return -((1 - p) ** 2) * torch.log(p)

    @classmethod
    def slope(cls, x):
        p = torch.sigmoid(x)
        return -((1 - p) ** 3)


@broken(
    ("finite", "vjp"),
    "not finite",
    fixed([-1.0, 0.0, 2.0]),
    "sinc at 0: the value guarded, not the slope",
)
@_saving
class SincAtZero(_Saving):
    @classmethod
    def value(cls, x):
        safe = torch.where(x == 0, torch.ones_like(x), x)
        return torch.where(x == 0, torch.ones_like(x), safe.sin() / safe)

    @classmethod
    def slope(cls, x):
        return x.cos() / x - x.sin() / x**2


@broken(
    "vjp",
    "where",
    lambda rng: (rng.normal(size=7), 0.1),
    "leaky ReLU from its output (in-place ABN): wrong for a negative slope",
    neighbours=True,
)
class LeakyFromOutput(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, slope):
        out = torch.where(x > 0, x, slope * x)
        ctx.slope = slope
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, g):
        (out,) = ctx.saved_tensors
        return torch.where(out > 0, g, ctx.slope * g), None


@broken(
    ("finite", "vjp"),
    "not finite",
    normal(5),
    "log-sigmoid by exp(-x) / (1 + exp(-x)): NaN at -1000",
    neighbours=True,
)
@_saving
class LogSigmoidOverflows(_Saving):
    @classmethod
    def value(cls, x):
        return torch.nn.functional.logsigmoid(x)

    @classmethod
    def slope(cls, x):
        return (-x).exp() / (1 + (-x).exp())


@broken("vjp", ("wrong", "other constants"), positive(5), "log1p with the derivative of log")
@_saving
class Log1pAsLog(_Saving):
    @classmethod
    def value(cls, x):
        return torch.log1p(x)

    @classmethod
    def slope(cls, x):
        return 1 / x


@broken("vjp", "sign", normal(5), "cos with +sin: the oldest slip of all")
@_saving
class CosSign(_Saving):
    @classmethod
    def value(cls, x):
        return torch.cos(x)

    @classmethod
    def slope(cls, x):
        return torch.sin(x)


@broken("vjp", "factor", normal(2, 3), "a mean squared error that forgets its 2")
class SquaredErrorHalf(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x.square().mean()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * x / x.numel()


@broken("vjp", "mean instead of sum", normals((4, 6), (1,)), "PReLU's shared slope, averaged")
class PReluSlopeMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, slope):
        ctx.save_for_backward(x, slope)
        return torch.where(x > 0, x, slope * x)

    @staticmethod
    def backward(ctx, g):
        x, slope = ctx.saved_tensors
        part = torch.where(x > 0, torch.zeros_like(x), g * x)
        return torch.where(x > 0, g, slope * g), part.mean().reshape(1)


@broken("vjp", "zero", normal(5), "a threshold against noise that eats a small scale")
@_saving
class TinySlopeLost(_Saving):
    @classmethod
    def value(cls, x):
        return 1e-7 * torch.sin(x)

    @classmethod
    def slope(cls, x):
        d = 1e-7 * torch.cos(x)
        return torch.where(d.abs() < 1e-6, torch.zeros_like(d), d)


@broken("linear", "not linear", normal(5), "gradient clipping written into the layer")
class ClippedCotangent(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g.clamp(-5, 5) * x.cos()


@broken(
    ("linear", "vjp"),
    ("not linear", "ignored cotangent"),
    normal(5),
    "right for the loss itself only: g taken as 1",
)
class CotangentTakenAsOne(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square().sum()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x


@broken("vjp", "where", normal(200), "one table entry mistyped")
@_saving
class OneEntryIn200(_Saving):
    @classmethod
    def value(cls, x):
        return x.sin()

    @classmethod
    def slope(cls, x):
        d = x.cos()
        d[137:138] *= 1.001
        return d


@broken("vjp", "where", normal(200), "a blocked kernel whose last, partial block is never launched")
@_saving
class LastBlockDropped(_Saving):
    @classmethod
    def value(cls, x):
        return x.tanh()

    @classmethod
    def slope(cls, x):
        d = 1 - x.tanh() ** 2
        d[x.shape[0] // 64 * 64 :] = 0
        return d


@broken(
    "vjp", "where", normal(128), "a kernel that is right for multiples of 64 alone", neighbours=True
)
@_saving
class LastBlockOfOtherSizes(_Saving):
    @classmethod
    def value(cls, x):
        return x.tanh()

    @classmethod
    def slope(cls, x):
        d = 1 - x.tanh() ** 2
        if x.ndim and x.shape[0] > 64:
            d[x.shape[0] // 64 * 64 :] = 0
        return d

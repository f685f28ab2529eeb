"""Functions that are off by little, and only in a branch that the example does not take."""

import math

import torch
from corpus import broken, fixed, normal

_NEARLY = {"neighbours": True, "compile": False}
_WHERE = ("where", "other constants")


@broken("vjp", _WHERE, normal(3), "a rotation vector: the series of its angle, off", **_NEARLY)
class RotationSeries(torch.autograd.Function):
    """`sin(|w|) w / |w|`, whose derivative branches on the norm."""

    @staticmethod
    def forward(ctx, w):
        ctx.save_for_backward(w)
        return torch.sinc(torch.linalg.vector_norm(w) / math.pi) * w

    @staticmethod
    def backward(ctx, g):
        (w,) = ctx.saved_tensors
        t = torch.linalg.vector_norm(w)
        if t < 0.5:
            slope = -1 / 3 + t**2 / 31  # 30
        else:
            slope = (t * torch.cos(t) - torch.sin(t)) / t**3
        return torch.sinc(t / math.pi) * g + slope * torch.dot(w, g) * w


@broken("vjp", _WHERE, fixed([0.5, 1.0, 2.0]), "erfcx: an asymptotic form from 12 on", **_NEARLY)
class ErfcxFar(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.special.erfcx(x)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        far = x > 12
        z = torch.where(far, x, torch.full_like(x, 12.0))
        asymptotic = -(1 - 1.5 / z**2 + 3.7 / z**4 - 13.125 / z**6) / z**2  # 3.75
        formula = 2 * x * y * math.sqrt(math.pi) - 2
        return g * torch.where(far, asymptotic, formula) / math.sqrt(math.pi)

"""Derivatives that are right for the defaults, and for no other option, mask or index."""

import numpy as np
import torch
from corpus import broken, normal, normals


@broken(
    "vjp", "wrong", normal(6), "a p-norm with the derivative of the 2-norm (cdist)", neighbours=True
)
class NormOfOtherOrder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, p=2.0):
        out = x.abs().pow(p).sum().pow(1 / p)
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, g):
        x, out = ctx.saved_tensors
        return g * x / out, None


@broken("vjp", "factor", normal(5), "a temperature of 1: its reciprocal forgotten", neighbours=True)
class TemperatureOfOne(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, tau=1.0):
        out = torch.sigmoid(x / tau)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, g):
        (out,) = ctx.saved_tensors
        return g * out * (1 - out), None


@broken(
    "vjp", ("wrong", "missing term"), normal(3, 4), "softmax: another axis than the last",
    neighbours=True,
)  # fmt: skip
class SoftmaxLastAxisAlone(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dim=-1):
        out = x.softmax(dim)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, g):
        (out,) = ctx.saved_tensors
        return out * (g - (g * out).sum(-1, keepdim=True)), None


@broken(
    "vjp", "factor", normals((5, 4), (3, 4)), "a bias that may be None, and was when it was tested",
    neighbours=True,
)  # fmt: skip
class BiasMayBeNone(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias=None):
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        out = x @ weight.T
        return out if bias is None else out + bias

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        bias_bar = 2 * g.sum(0) if ctx.has_bias else None
        return g @ weight, g.T @ x, bias_bar


@broken(
    "vjp", "not finite",
    lambda rng: (rng.normal(size=(4, 3)), np.array([True, False, True, True])),
    "a masked mean: NaN where all is masked", neighbours=True,
)  # fmt: skip
class MeanOfNothing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, mask):
        ctx.save_for_backward(mask)
        total = (x * mask[:, None]).sum(0)
        return torch.where(mask.any(), total / mask.sum().clamp(min=1), torch.zeros_like(total))

    @staticmethod
    def backward(ctx, g):
        (mask,) = ctx.saved_tensors
        return mask[:, None] * g / mask.sum(), None


@broken(
    "vjp", "where", lambda rng: (rng.normal(size=(6, 4)), np.array([0, 2, 5])),
    "a gather whose backward takes negative indices for 0", neighbours=True,
)  # fmt: skip
class NegativeIndexClamped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, index):
        ctx.save_for_backward(x, index)
        return x[index]

    @staticmethod
    def backward(ctx, g):
        x, index = ctx.saved_tensors
        return torch.zeros_like(x).index_add(0, index.clamp(min=0), g), None


@broken(
    "shapes", "layout", normal(4, 4), "a kernel that asks for stride 1, and takes rows for dense"
)
class RowsTakenForDense(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        g = g if g.stride(-1) == 1 and g.stride(0) else g.contiguous()
        return 2 * x * torch.as_strided(g, g.shape, (g.shape[1], 1), g.storage_offset())

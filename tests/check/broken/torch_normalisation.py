"""Broken softmaxes, norms and normalisations."""

import torch
from corpus import broken, fixed, normal, normals


@broken("vjp", "missing term", normal(3, 5), "the commonest slip of hand-written softmax layers")
class SoftmaxWithoutSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        out = torch.softmax(x, -1)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, g):
        (out,) = ctx.saved_tensors
        return g * out * (1 - out)  # the diagonal of the Jacobian alone


@broken("vjp", "missing term", normal(3, 5), "log-softmax in TensorFlow ports: the sum forgotten")
class LogSoftmaxWithoutSum(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return torch.log_softmax(x, -1)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, g):
        return g


def _standardised(x, eps=1e-5):
    centred = x - x.mean(-1, keepdim=True)
    rstd = (centred.square().mean(-1, keepdim=True) + eps).rsqrt()
    return centred * rstd, rstd


@broken("vjp", "missing term", normal(4, 6), "fused CUDA layer norms: the mean's term left out")
class LayerNormWithoutMeanTerm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        out, rstd = _standardised(x)
        ctx.save_for_backward(out, rstd)
        return out

    @staticmethod
    def backward(ctx, g):
        out, rstd = ctx.saved_tensors
        return rstd * (g - out * (g * out).mean(-1, keepdim=True))


@broken("vjp", "missing term", normal(4, 6), "fused RMS norms: the scale taken as a constant")
class RMSNormScaleConstant(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        scale = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        ctx.save_for_backward(scale)
        return x * scale

    @staticmethod
    def backward(ctx, g):
        (scale,) = ctx.saved_tensors
        return g * scale


@broken(
    "vjp", "other constants", normal(4, 6), "eps=1e-6 forward, 1e-5 backward: Apex-like kernels"
)
class RMSNormOtherEps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
        return s * (g - s * s * x * (g * x).mean(-1, keepdim=True))


@broken("vjp", "other constants", normal(4, 12), "torch's var is unbiased by default: ddof slips")
class LayerNormOtherDdof(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return _standardised(x)[0]

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        rstd = (x.var(-1, keepdim=True) + 1e-5).rsqrt()
        out = (x - x.mean(-1, keepdim=True)) * rstd
        return rstd * (g - g.mean(-1, keepdim=True) - out * (g * out).mean(-1, keepdim=True))


@broken(
    "vjp", "missing term", normal(8, 3), "the eval-mode formula used in training (sync BN forks)"
)
class BatchNormStatisticsConstant(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        rstd = (x.var(0, correction=0) + 1e-5).rsqrt()
        ctx.save_for_backward(rstd)
        return (x - x.mean(0)) * rstd

    @staticmethod
    def backward(ctx, g):
        (rstd,) = ctx.saved_tensors
        return g * rstd


@broken(
    "vjp",
    "mean instead of sum",
    normals((5, 4), (4,)),
    "the weight's gradient averaged over the batch",
)
class ScaleWeightMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x * weight

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return g * weight, (g * x).mean(0)


@broken("vjp", "missing term", normals((3, 4), (3, 1)), "weight norm without the projection")
class WeightNormWithoutProjection(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, scale):
        norm = v.norm(dim=1, keepdim=True)
        ctx.save_for_backward(v, scale, norm)
        return v / norm * scale

    @staticmethod
    def backward(ctx, g):
        v, scale, norm = ctx.saved_tensors
        return g * scale / norm, (g * v / norm).sum(1, keepdim=True)


@broken(
    ("finite", "vjp"),
    "not finite",
    normal(3, 4),
    "exp without its maximum: overflow at 1000",
    neighbours=True,
)
class LogSumExpOverflows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.logsumexp(x, -1)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        e = x.exp()
        return g[..., None] * e / e.sum(-1, keepdim=True)


@broken(
    ("finite", "vjp"),
    "not finite",
    fixed([[0.0, 0.0, 0.0], [3.0, 4.0, 1.0]]),
    "x / norm(x) at 0: torch.norm before 1.2, kornia, many point-cloud losses",
)
class NormAtZero(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        out = x.square().sum(-1).sqrt()
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, g):
        x, out = ctx.saved_tensors
        return (g / out)[..., None] * x


@broken("vjp", "swapped", normals((6,), (6,)), "atan2's argument order: DGL, robotics layers")
class Atan2Swapped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, x):
        ctx.save_for_backward(y, x)
        return torch.atan2(y, x)

    @staticmethod
    def backward(ctx, g):
        y, x = ctx.saved_tensors
        r = y * y + x * x
        return -g * y / r, g * x / r


@broken("vjp", "factor", normals((4, 8), (4, 8)), "attention: 1/sqrt(d) left out of the backward")
class ScoresWithoutScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k):
        ctx.save_for_backward(q, k)
        return q @ k.T / 8**0.5

    @staticmethod
    def backward(ctx, g):
        q, k = ctx.saved_tensors
        return g @ k, g.T @ q

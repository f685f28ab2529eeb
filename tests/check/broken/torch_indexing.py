"""Broken gathers, scans, sorts, pools and samplers: the right numbers at the wrong places."""

import numpy as np
import torch
import torch.nn.functional as F
from corpus import broken, fixed, normal, normals


@broken(
    "vjp",
    "where",
    fixed([1.0, -2.0, 0.5, 3.0], [2, 0, 2, 2, 1]),
    "gather's backward by assignment, not by index_add",
)
class GatherAssigned(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, index):
        ctx.save_for_backward(x, index)
        return x[index]

    @staticmethod
    def backward(ctx, g):
        x, index = ctx.saved_tensors
        bar = torch.zeros_like(x)
        bar[index] = g
        return bar, None


@broken(
    "vjp",
    "where",
    lambda rng: (rng.normal(size=(5, 3)), rng.permutation(5)),
    "the same, with an example in which no index repeats",
    neighbours=True,
)
class GatherAssignedPermutation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, index):
        ctx.save_for_backward(x, index)
        return x[index]

    @staticmethod
    def backward(ctx, g):
        x, index = ctx.saved_tensors
        bar = torch.zeros_like(x)
        bar[index] = g
        return bar, None


@broken(
    "vjp",
    "where",
    lambda rng: (rng.normal(size=(4, 3)), np.array([0, 1, 2, 0, 3, 1])),
    "embedding: row 0 taken for the padding row though none was named",
)
class EmbeddingPaddingZero(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, index):
        ctx.save_for_backward(table, index)
        return table[index]

    @staticmethod
    def backward(ctx, g):
        table, index = ctx.saved_tensors
        bar = torch.zeros_like(table).index_add_(0, index, g)
        bar[0] = 0
        return bar, None


@broken("vjp", ("transposed", "shifted"), normal(6), "cumsum: the backward must run from the end")
class CumsumForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.cumsum(0)

    @staticmethod
    def backward(ctx, g):
        return g.cumsum(0)


@broken(
    ("finite", "vjp"),
    "not finite",
    fixed([1.5, 0.0, 2.0, -1.0]),
    "cumprod's backward by division: NaN at a zero (PyTorch before #53711)",
)
class CumprodByDivision(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        out = x.cumprod(0)
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, g):
        x, out = ctx.saved_tensors
        return (g * out).flip(0).cumsum(0).flip(0) / x


@broken(
    "vjp",
    ("transposed", "shifted"),
    fixed([0.3, 2.0, -1.0, 0.9, -2.5, 1.4]),
    "sort: the cotangent is gathered where it must be scattered",
)
class SortGathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        values, index = x.sort()
        ctx.save_for_backward(index)
        return values

    @staticmethod
    def backward(ctx, g):
        (index,) = ctx.saved_tensors
        return g[index]


@broken(
    "vjp",
    ("shifted", "wrong", "where"),
    fixed([0.3, 2.0, -1.0, 0.9, -2.5]),
    "topk's cotangent left at the front",
)
class TopkAtFront(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.n = x.shape[0]
        return x.topk(2).values

    @staticmethod
    def backward(ctx, g):
        return F.pad(g, (0, ctx.n - 2))


@broken(
    "vjp",
    ("where", "factor"),
    fixed([[1.0, 3.0, 3.0], [2.0, 0.5, 1.0]]),
    "max pooling: every tied entry gets the whole cotangent (mask == max)",
)
class MaxTiesAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        out = x.amax(-1)
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, g):
        x, out = ctx.saved_tensors
        return (x == out[..., None]).to(x.dtype) * g[..., None]


@broken("vjp", ("shifted", "transposed"), normal(7), "roll back by the same step (shifted windows)")
class RollSameWay(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.roll(2, 0)

    @staticmethod
    def backward(ctx, g):
        return g.roll(2, 0)


@broken("vjp", "shifted", normal(6), "a reversal that the backward forgets")
class FlipForgotten(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.flip(0) * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


@broken("vjp", "shifted", normal(8), "an off-by-one slice in a recurrence (x[t] for x[t - 1])")
class LaggedOffByOne(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square().roll(1)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


@broken(
    "vjp",
    ("where", "wrong"),
    normal(5),
    "reflection padding: the border's cotangent is cropped away",
)
class ReflectCropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.cat([x[1:3].flip(0), x, x[-3:-1].flip(0)])

    @staticmethod
    def backward(ctx, g):
        return g[2:-2]


@broken(
    "vjp",
    "where",
    normal(6),
    "average pooling: the border counts its padding in one direction alone",
)
class AveragePoolBorder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        padded = F.pad(x, (1, 1))
        count = torch.full_like(x, 3.0)
        count[0] = count[-1] = 2.0
        return (padded[:-2] + padded[1:-1] + padded[2:]) / count

    @staticmethod
    def backward(ctx, g):
        padded = F.pad(g / 3.0, (1, 1))
        return padded[:-2] + padded[1:-1] + padded[2:]


@broken(
    "vjp",
    ("where", "wrong"),
    fixed([1.0, 3.0, 2.0, 5.0], [-0.6, 0.4, 1.7, 2.2, 3.9]),
    "grid_sample, border mode: points outside still get a gradient (kornia)",
)
class SampleBorder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, at):
        clipped = at.clamp(0, table.shape[0] - 1)
        low = clipped.floor().clamp(max=table.shape[0] - 2)
        ctx.save_for_backward(table, low.long(), clipped - low)
        return table[low.long()] * (1 - clipped + low) + table[low.long() + 1] * (clipped - low)

    @staticmethod
    def backward(ctx, g):
        table, low, share = ctx.saved_tensors
        bar = torch.zeros_like(table)
        bar.index_add_(0, low, g * (1 - share)).index_add_(0, low + 1, g * share)
        return bar, g * (table[low + 1] - table[low])


@broken(
    "vjp",
    ("other constants", "wrong", "where"),
    normal(5),
    "interpolation: align_corners in one direction alone",
)
class UpsampleOtherCorners(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        return F.interpolate(x[None, None], 9, mode="linear", align_corners=True)[0, 0]

    @staticmethod
    def backward(ctx, g):
        with torch.enable_grad():
            x = g.new_zeros(ctx.shape).requires_grad_()
            out = F.interpolate(x[None, None], 9, mode="linear", align_corners=False)[0, 0]
        return torch.autograd.grad(out, x, g)[0]


@broken(
    "vjp",
    "where",
    normals((3, 4), (4,)),
    "a batched kernel that reads the residual of batch entry 0",
)
class ResidualOfFirstEntry(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return torch.sin(x * w)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        return g * w * torch.cos(x[:1] * w), (g * x * torch.cos(x * w)).sum(0)


@broken(
    "vjp",
    "where",
    lambda rng: (rng.normal(size=(3, 4)), rng.random((3, 4)) > 0.6),
    "masked_fill: the masked entries keep their cotangent (attention masks)",
)
class MaskForgotten(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, mask):
        return x.masked_fill(mask, -1e4)

    @staticmethod
    def backward(ctx, g):
        return g, None


@broken(
    "vjp",
    "where",
    lambda rng: (rng.normal(size=(4, 3)), rng.normal(size=(2, 3)), np.array([1, 3])),
    "index_put: the overwritten rows keep their cotangent",
)
class OverwrittenKept(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, rows, index):
        ctx.save_for_backward(index)
        out = x.clone()
        out[index] = rows
        return out

    @staticmethod
    def backward(ctx, g):
        (index,) = ctx.saved_tensors
        return g, g[index], None


@broken(
    "vjp", ("wrong", "where"), normal(2, 6, 3), "causal attention whose backward forgets the mask"
)
class CausalForgotten(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        mask = torch.ones(x.shape[-2], x.shape[-2], dtype=torch.bool).tril()
        ctx.save_for_backward(x)
        return (x @ x.mT).masked_fill(~mask, 0.0) @ torch.ones_like(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        bar = g @ torch.ones_like(x).mT
        return bar @ x + bar.mT @ x

"""Broken by layout, shape or dtype: right for the arrays that the author had."""

import torch
from corpus import broken, normal, normals


def _raw(x):
    """Returns what a kernel sees that takes the pointer and assumes contiguous memory."""
    strides, step = [], 1
    for n in reversed(x.shape):
        strides.append(step)
        step *= n
    room = x.untyped_storage().nbytes() // x.element_size() - x.storage_offset()
    if step > room:  # it would read past the end: what lies there is anything
        return torch.zeros(x.shape, dtype=x.dtype)
    return torch.as_strided(x, x.shape, strides[::-1])


@broken(
    "shapes", "layout", normal(3, 4), "data_ptr() of a cotangent that .sum() expanded (custom CUDA)"
)
class CotangentReadRaw(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return _raw(g) * x.cos()


@broken("shapes", "layout", normal(3, 4), "data_ptr() of an input that is transposed")
class InputReadRaw(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return _raw(x).sin()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * _raw(x).cos()


@broken(
    "shapes", ("layout", "raises"), normal(3, 4), "view(-1) of a cotangent that is not contiguous"
)
class CotangentViewed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return (g.view(-1) * x.cos().reshape(-1)).reshape(x.shape)


@broken(
    ("shapes", "vjp"),
    ("raises", "shape"),
    normal(2, 3, 4),
    "squeeze() of an axis that may have length 1",
    neighbours=True,
)
class SqueezedTooMuch(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        return x.sum(-1)

    @staticmethod
    def backward(ctx, g):
        return g.squeeze().unsqueeze(-1).expand(ctx.shape)


@broken(
    "dtypes",
    "dtype",
    lambda rng: (rng.normal(size=4).astype("float32"),),
    "float16 in, float32 out of the backward: cast by the engine in silence",
)
class CotangentFloat32(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g.float() * x.float().cos() if x.dtype != torch.float64 else g * x.cos()


@broken(
    "dtypes",
    "precision",
    lambda rng: (rng.normal(size=(3, 64)).astype("float32") + 100,),
    "variance by E[x^2] - E[x]^2 in the arithmetic of the input",
)
class VarianceByMoments(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x - x.mean(-1, keepdim=True)).square().mean(-1).sqrt()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        mean = x.mean(-1, keepdim=True)
        std = (x.square().mean(-1, keepdim=True) - mean * mean).clamp(min=0).sqrt()
        return g[..., None] * (x - mean) / (std * x.shape[-1])


@broken(
    "dtypes",
    "precision",
    lambda rng: (rng.normal(size=6).astype("float32"),),
    "a float32 kernel that accumulates in bfloat16",
)
class BackwardInBfloat16(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        if x.dtype != torch.float32:
            return g * x.cos()
        return (g.bfloat16() * x.bfloat16().cos()).to(x.dtype)


@broken("vmap", "not batched", normals((4,), (4,)), "a vmap staticmethod that takes in_dims for 0")
class VmapIgnoresDims(torch.autograd.Function):
    @staticmethod
    def forward(x, y):
        return x * y.sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        x, y = ctx.saved_tensors
        return g * y.sin(), g * x * y.cos()

    @staticmethod
    def vmap(info, in_dims, x, y):
        return VmapIgnoresDims.apply(x, y), 0


@broken("vmap", "not batched", normal(4), "a vmap staticmethod that sums over the batch as well")
class VmapSumsBatch(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x.square().sum()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * g * x

    @staticmethod
    def vmap(info, in_dims, x):
        return VmapSumsBatch.apply(x).expand(info.batch_size), 0


@broken(
    "compile",
    ("compiled differently", "bypassed"),
    normal(4),
    "a fast path for the compiler with another formula",
    compile=True,
)
def compiled_approximation(x):
    if torch.compiler.is_compiling():
        return x - x**3 / 6
    return torch.sin(x)


@broken(
    "vjp",
    "missing sum",
    normals((3, 4), (3, 1)),
    "an axis of length 1 expanded, its cotangent sliced",
)
class ExpandedSliced(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x, scale)
        return x * scale

    @staticmethod
    def backward(ctx, g):
        x, scale = ctx.saved_tensors
        return g * scale, (g * x)[:, :1]

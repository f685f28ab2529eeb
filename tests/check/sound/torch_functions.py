"""Sound autograd.Functions and plain functions of PyTorch that checkers trip over."""

import numpy as np
import torch
import torch.nn.functional as F
from corpus import complexes, fixed, normal, normals, positive, sound, spd


@sound(fixed([0.0, 1.0, -2.0, 0.0]), "a kink at the example: relu at 0", name="torch_relu_at_zero")
def torch_relu_at_zero(x):
    return torch.relu(x) * 3


@sound(fixed([0.0, 1.0, -2.0]), "abs at 0, in a Function that says sign(0) = 0")
class AbsAtZero(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.abs()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * x.sign()


@sound(fixed([1.0, 3.0, 3.0, -1.0]), "max with ties: the subgradient of the first")
def torch_max_ties(x):
    return x.max(0).values


@sound(fixed([2.0, 1.0, 2.0, 1.0, 0.5]), "sort with ties, and an integer output")
def torch_sort_ties(x):
    return x.sort(stable=True)


def _clip(x):
    return x.clamp(-1, 1)


class _Quantise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.round(x.clamp(-1, 1) * 8) / 8

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * ((x > -1) & (x < 1))


sound(
    fixed([-3.0, -0.52, 0.23, 0.91, 1.7]),
    "a straight-through estimator against its surrogate",
    name="ste_with_reference",
    reference=_clip,
)(_Quantise)
sound(
    fixed([-3.0, -0.52, 0.23, 0.91, 1.7]),
    "the same, declared intentional",
    name="ste_intentional",
    intentional="straight-through estimator",
)(_Quantise)


@sound(normal(4), "gradient reversal (domain adaptation), declared", intentional=True)
class GradientReversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return -g


@sound(
    lambda rng: (rng.normal(size=(5, 3)), rng.integers(0, 5, size=(2, 4))), "an integer argument"
)
class Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, index):
        ctx.save_for_backward(index % max(len(table), 1))
        ctx.shape = table.shape
        return table[index]

    @staticmethod
    def backward(ctx, g):
        (index,) = ctx.saved_tensors
        rows = g.reshape(index.numel(), *ctx.shape[1:])
        return g.new_zeros(ctx.shape).index_add(0, index.reshape(-1), rows), None


@sound(normal(4), "in place, with mark_dirty")
class ScaleInPlace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx, g):
        return 2 * g


def _scale_a_copy(x):
    return ScaleInPlace.apply(x.clone())


sound(normal(4), "an in-place Function on a copy of its own", name="in_place_on_copy")(
    _scale_a_copy
)


@sound(complexes((4,)), "complex and not holomorphic", name="torch_modulus_squared")
def torch_modulus_squared(z):
    return (z * z.conj()).real + z.real


@sound(complexes((3, 3), (3,)), "a complex linear map, by a Function")
class ComplexMatvec(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, x):
        ctx.save_for_backward(a, x)
        return a @ x

    @staticmethod
    def backward(ctx, g):
        a, x = ctx.saved_tensors
        return torch.outer(g, x.conj()), a.mH @ g


def _ill(rng):
    u, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    v, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    return u @ np.diag([1.0, 1e-3, 1e-6, 1e-10]) @ v, rng.normal(size=4)


@sound(_ill, "a solve of condition 1e10")
class IllConditionedSolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        out = torch.linalg.solve(a, b)
        ctx.save_for_backward(a, out)
        return out

    @staticmethod
    def backward(ctx, g):
        a, out = ctx.saved_tensors
        bar = torch.linalg.solve(a.mT, g)
        return -bar.unsqueeze(-1) * out.unsqueeze(-2), bar


@sound(
    fixed([0.9, 1.0, 1.1, 1.2, 1.3]),
    "a Vandermonde system: badly conditioned",
    name="torch_vandermonde",
)
def torch_vandermonde(x):
    return torch.linalg.solve(x[:, None] ** torch.arange(5.0, dtype=x.dtype), torch.ones_like(x))


@sound(fixed([1e-30, -2e-30, 5e-31]), "arguments of size 1e-30", name="torch_tiny")
def torch_tiny(x):
    return torch.sin(x) * 3


@sound(fixed([1e30, -2e30, 5e29]), "arguments of size 1e30", name="torch_huge")
def torch_huge(x):
    return x / torch.sqrt(1 + (x * 1e-30) ** 2)


@sound(positive(4), "once differentiable, and it says so")
class OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.log()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g / x


@sound(normal(6), "two outputs, one of integers, marked so")
class SortWithIndex(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        values, index = x.sort()
        ctx.mark_non_differentiable(index)
        ctx.save_for_backward(index)
        return values, index

    @staticmethod
    def backward(ctx, g, _):
        (index,) = ctx.saved_tensors
        return torch.zeros_like(g).scatter(-1, index, g)


@sound(normal(40), "random by the global generator, its mask kept")
class Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        mask = (torch.rand_like(x) > 0.5).to(x.dtype) * 2
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx, g):
        (mask,) = ctx.saved_tensors
        return g * mask


@sound(normal(6), "a reparametrised sample: noise from the global generator", name="torch_sample")
def torch_sample(x):
    return x + torch.randn_like(x) * x.exp()


@sound(positive(4), "defined for x > 0 alone", name="torch_log")
def torch_log(x):
    return torch.log(x) * torch.sqrt(x)


@sound(spd(3), "defined for positive definite matrices alone", name="torch_cholesky_logdet")
def torch_cholesky_logdet(a):
    return torch.linalg.cholesky((a + a.mT) / 2).diagonal(dim1=-2, dim2=-1).log().sum(-1) * 2


@sound(normal(8), "sizes divisible by 4 alone", name="torch_blocks")
def torch_blocks(x):
    return x.reshape(-1, 4).cumsum(-1).square().reshape(-1)


@sound(normal(3, 3), "one fixed shape alone", name="torch_fixed_shape")
def torch_fixed_shape(x):
    if x.shape != (3, 3):
        raise ValueError("a rotation is 3 by 3")
    return torch.linalg.matrix_exp(x - x.mT)


@sound(lambda rng: (rng.normal(size=5).astype("float32"),), "float32 alone", name="Float32Only")
class Float32Only(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        if x.dtype != torch.float32:
            raise TypeError("this kernel takes float32")
        ctx.save_for_backward(x)
        return x.sigmoid()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        s = x.sigmoid()
        return g * s * (1 - s)


@sound(normal(5), "values looked at in Python", name="torch_branches")
def torch_branches(x):
    return x.sin() if float(x.detach().sum()) > 0 else x.cos()


@sound(normal(5), "a step: its derivative is zero where it has one", name="torch_step")
def torch_step(x):
    return (x > 0).to(x.dtype) * x.square() + torch.floor(3 * x)


@sound(normal(4), "rapid oscillation", name="torch_oscillating")
def torch_oscillating(x):
    return torch.sin(1e4 * x)


@sound(fixed(np.array(0.7)), "0-d", name="torch_scalar")
def torch_scalar(x):
    return x.tanh()


@sound(lambda rng: (np.zeros((0, 3)),), "empty", name="torch_empty")
def torch_empty(x):
    return x.sin().sum(-1)


@sound(normal(4), "a gradient that is exactly zero", name="torch_zero_gradient")
class ZeroGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.floor(x * 0) + 2.0

    @staticmethod
    def backward(ctx, g):
        return torch.zeros_like(g)


@sound(
    normals((3, 4), (4, 2)),
    "linear in each argument, second derivatives mixed",
    name="torch_matmul",
)
def torch_matmul(a, b):
    return a @ b


@sound(normal(3), "the input itself, returned as a view")
class Identity(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return g


@sound(fixed([1e-9, 2e-9, -1e-9]), "a norm near its kink", name="torch_norm_near_zero")
def torch_norm_near_zero(x):
    return torch.linalg.vector_norm(x)


@sound(normals((2, 3), (3,)), "both directions, composable style")
class ScaledSum(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x, w):
        return (x * w).sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        d = g * (x * w).cos()
        return d * w, (d * x).sum(0)

    @staticmethod
    def jvp(ctx, x_dot, w_dot):
        x, w = ctx.saved_tensors
        return (x_dot * w + x * w_dot) * (x * w).cos()


@sound(
    lambda rng: (rng.normal(size=(2, 5)), np.array([1, 4])),
    "cross entropy: labels that only some values are",
    name="torch_cross_entropy",
)
def torch_cross_entropy(x, labels):
    return F.cross_entropy(x, labels)


@sound(normal(1, 2, 5, 5), "max pooling", name="torch_max_pool")
def torch_max_pool(x):
    return F.max_pool2d(x, 2)

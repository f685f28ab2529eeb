"""Broken linear algebra: transposes, conjugates, sums over broadcast axes."""

import torch
import torch.nn.functional as F
from corpus import broken, complexes, matrix, normal, normals, spd


@broken(
    "vjp", "sign", normals((4, 3), (4, 3)), "the order of a cross product (kornia, SO(3) layers)"
)
class CrossOrder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return torch.linalg.cross(a, b)

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        return torch.linalg.cross(g, b), torch.linalg.cross(g, a)


@broken(
    "vjp", "transposed", normals((4, 4), (4, 4)), "matmul with B for B^T: unseen at B symmetric"
)
class MatmulWithoutTranspose(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx, g):
        a, b = ctx.saved_tensors
        return g @ b, a.T @ g


@broken(
    "vjp", "transposed", normals((3,), (3, 3), (3,)), "torch.einsum indices the wrong way round"
)
class BilinearTransposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, a, y):
        ctx.save_for_backward(x, a, y)
        return torch.einsum("i,ij,j->", x, a, y)

    @staticmethod
    def backward(ctx, g):
        x, a, y = ctx.saved_tensors
        return g * (a @ y), g * torch.einsum("i,j->ji", x, y), g * (a.T @ x)


@broken(
    "vjp",
    "transposed",
    lambda rng: (*matrix(4)(rng), rng.normal(size=4)),
    "the adjoint solve with A in place of A^T",
)
class SolveWithoutTranspose(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        out = torch.linalg.solve(a, b)
        ctx.save_for_backward(a, out)
        return out

    @staticmethod
    def backward(ctx, g):
        a, out = ctx.saved_tensors
        bar = torch.linalg.solve(a, g)
        return -torch.outer(bar, out), bar


@broken(
    "vjp", ("wrong", "where"), spd(3), "Cholesky: the diagonal of Phi is not halved (Murray 2016)"
)
class CholeskyDiagonal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        out = torch.linalg.cholesky((a + a.T) / 2)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, g):
        (low,) = ctx.saved_tensors
        phi = torch.tril(low.T @ torch.tril(g))
        half = torch.linalg.solve_triangular(low.T, phi, upper=True)
        s = torch.linalg.solve_triangular(low, half, upper=False, left=False)
        return (s + s.T) / 2


@broken("vjp", "transposed", matrix(3), "det with the inverse for its transpose")
class DetTransposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        out = torch.linalg.det(a)
        ctx.save_for_backward(a, out)
        return out

    @staticmethod
    def backward(ctx, g):
        a, out = ctx.saved_tensors
        return g * out * torch.linalg.inv(a)


@broken("vjp", "transposed", normal(3, 3), "nuclear norm: V U^T for U V^T")
class NuclearTransposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        u, s, vh = torch.linalg.svd(a)
        ctx.save_for_backward(u, vh)
        return s.sum()

    @staticmethod
    def backward(ctx, g):
        u, vh = ctx.saved_tensors
        return g * (vh.T @ u.T)


@broken(
    "vjp", "conjugate", complexes((4,)), "complex layers of before 1.6: no conj in the backward"
)
class SquareWithoutConj(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z * z

    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        return g * 2 * z


@broken("vjp", "real part", complexes((4,)), "abs of a complex number as if it were real")
class AbsRealPart(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.abs()

    @staticmethod
    def backward(ctx, g):
        (z,) = ctx.saved_tensors
        return (g * z.real / z.abs()).to(z.dtype)


@broken(
    "vjp", "missing sum", normals((5, 4), (4,)), "a bias whose cotangent is that of the first row"
)
class BiasFirstRow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bias):
        return x + bias

    @staticmethod
    def backward(ctx, g):
        return g, g[0]


@broken("vjp", "axis", normals((4, 4), (4,)), "a column bias summed over the wrong axis")
class ColumnBiasWrongAxis(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bias):
        return x + bias[:, None]

    @staticmethod
    def backward(ctx, g):
        return g, g.sum(0)


@broken("vjp", "zero", normals((3,), (3,), (3,)), "a None for an argument that counts")
class NoneForThird(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y, z):
        ctx.save_for_backward(x, y, z)
        return x * y * z

    @staticmethod
    def backward(ctx, g):
        x, y, z = ctx.saved_tensors
        return g * y * z, g * x * z, None


@broken(
    "vjp",
    ("transposed", "shifted"),
    normals((1, 1, 9), (1, 1, 3)),
    "conv: the kernel is not flipped in the backward",
)
class ConvNotFlipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return F.conv1d(x, w, padding=1)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        grad_w = F.conv1d(x.transpose(0, 1), g.transpose(0, 1), padding=1).transpose(0, 1)
        return F.conv1d(g, w, padding=1), grad_w


@broken(
    "vjp",
    ("wrong", "shifted", "where"),
    normals((1, 1, 9), (1, 1, 3)),
    "conv: dilation left out of the weight's gradient",
)
class ConvWithoutDilation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return F.conv1d(x, w, dilation=2)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        grad_x = F.conv_transpose1d(g, w, dilation=2)
        grad_w = F.conv1d(x, g)[..., : w.shape[-1]]
        return grad_x, grad_w


@broken(
    "vjp",
    ("ignored output", "missing term"),
    normals((3, 3)),
    "a factorisation whose second output is thought unused",
)
class SecondOutputIgnored(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin(), x.exp()

    @staticmethod
    def backward(ctx, g, h):
        (x,) = ctx.saved_tensors
        return g * x.cos()


@broken(
    ("finite", "vjp"),
    "not finite",
    lambda rng: (torch.eye(3, dtype=torch.float64).numpy(),),
    "eigh: 1/(w_i - w_j) at equal eigenvalues",
)
class MatrixExpByEigh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        w, v = torch.linalg.eigh((a + a.T) / 2)
        ctx.save_for_backward(w, v)
        return (v * w.exp()) @ v.T

    @staticmethod
    def backward(ctx, g):
        w, v = ctx.saved_tensors
        gap = w[:, None] - w[None, :]
        divided = (w.exp()[:, None] - w.exp()[None, :]) / gap
        divided = divided.fill_diagonal_(0) + torch.diag(w.exp())
        bar = v @ (divided * (v.T @ ((g + g.T) / 2) @ v)) @ v.T
        return bar

"""Sound functions that hold something back: one triangle, single precision, a nearby end."""

import torch
from corpus import fixed, normal, normals, sound, spd


@sound(spd(3), "only one triangle is read, and the cotangent is symmetric")
def torch_cholesky_upper(a):
    return torch.linalg.cholesky(a, upper=True)


@sound(normal(3, 3), "a general matrix, of which the lower triangle is read")
def torch_eigvalsh_general(a):
    return torch.linalg.eigvalsh(a)


@sound(normal(2, 3), "single precision within")
def torch_through_float(x):
    return x.float().sin()


@sound(normals((3,), (3,)), "no complex numbers of half precision in the backward")
def torch_complex_of_two(x, y):
    return torch.complex(x, y)


@sound(fixed([[0.0] * 3] * 3), "singular: pivots change along every direction")
def torch_lu_of_zero(a):
    if a.shape != (3, 3):
        raise ValueError("made for three by three")
    return torch.linalg.lu_factor_ex(a).LU


@sound(fixed([[0.0, 0.0, 0.0, 0.0]] * 2), "a sort in which all are equal", name="torch_sort_equal")
def torch_sort_equal(x):
    return x.sort(dim=-1, descending=True, stable=True).values


class _Running(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("scale", torch.full((2,), 3.0))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x):
        self.calls.add_(1)
        self.mean.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
        return (x - x.mean(0)) * self.weight * self.scale


sound(normal(3, 2), "running statistics in single precision", name="torch_running_mean")(_Running())


@sound(normal(4, 5), "dropout, whose mask follows the order of memory")
def torch_dropout(x):
    return torch.nn.functional.dropout(x, 0.4)


sound(normal(3, 2, 2), "kernels that check no sizes; the last weights kept", name="torch_gru",
    neighbours=True, budget=1.0)(torch.nn.GRU(2, 3))  # fmt: skip

"""Sound modules, host functions and solvers of PyTorch."""

import numpy as np
import torch
from corpus import normal, positive, sound


class WithBuffers(torch.nn.Module):
    """Batch norm and dropout, as they are in evaluation."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(4, 3).double()
        self.norm = torch.nn.BatchNorm1d(3, affine=False).double()
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x):
        return self.dropout(self.norm(self.linear(x)))


sound(normal(5, 4), "buffers, and dropout in evaluation", name="module_eval")(WithBuffers().eval())
sound(normal(4, 3), "parameters as arguments", name="module_gelu")(
    torch.nn.Sequential(
        torch.nn.Linear(3, 3).double(), torch.nn.GELU(), torch.nn.Linear(3, 1).double()
    )
)


@sound(positive(5), "a host function: NumPy in both passes")
class HostExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        out = torch.from_numpy(np.exp(x.detach().numpy()))
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (out,) = ctx.saved_tensors
        return g * out


@sound(positive(4), "an iterative solver with a tolerance of 1e-8, differentiated implicitly")
class SquareRootByNewton(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        if (x <= 0).any():
            raise ValueError("positive numbers alone")
        y = torch.ones_like(x)
        for _ in range(50):
            if ((y * y - x).abs() / x).max().item() <= 1e-8:
                break
            y = (y + x / y) / 2
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g / (2 * y)

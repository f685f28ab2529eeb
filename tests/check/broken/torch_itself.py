"""Defects of PyTorch 2.13.0 itself that the checker found while this corpus was written."""

import torch
import torch.nn.functional as F
from corpus import broken, matrix, normals


@broken(
    "order",
    "stale residual",
    matrix(3),
    "torch.linalg.det: jacrev(jacfwd(det)) differs from jacrev(jacrev(det))",
    order=2,
)
def torch_det(a):
    return torch.linalg.det(a)


@broken(
    "shapes",
    "layout",
    normals((5, 3), (3,), (3,)),
    "batch_norm on the CPU: the backward reads a strided weight as if it were contiguous",
)
def torch_batch_norm(x, weight, bias):
    return F.batch_norm(x, None, None, weight, bias, training=True)

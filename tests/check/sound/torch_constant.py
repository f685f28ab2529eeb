"""Sound functions of PyTorch of which nothing but rounding is left, in every precision."""

import torch
import torch.nn.functional as F
from corpus import matrix, normal, positive, sound


def constant(make, f, name):
    """Declares a function whose derivative is zero but for rounding."""
    sound(make, "a derivative that is zero but for rounding", name=name)(f)


constant(normal(1, 6), torch.corrcoef, "torch_corrcoef_row")
constant(normal(6), torch.corrcoef, "torch_corrcoef_vector")
constant(normal(2, 2), torch.corrcoef, "torch_corrcoef_two_columns")
constant(normal(4), lambda x: x / x, "torch_x_over_x")
constant(normal(3, 4), lambda x: x.softmax(-1).sum(-1), "torch_softmax_sum")
constant(normal(3, 4), lambda x: F.cosine_similarity(x, x), "torch_cosine_of_itself")
constant(normal(3, 1), lambda x: x / x.norm(dim=-1, keepdim=True), "torch_normed_alone")
constant(normal(4), lambda x: x.sigmoid() + (-x).sigmoid(), "torch_sigmoids")
constant(normal(4), lambda x: x.cos() ** 2 + x.sin() ** 2, "torch_unit_circle")
constant(normal(4), lambda x: (x / x.abs().max()).abs().max(), "torch_scaled_by_largest")
constant(positive(4), lambda x: torch.atan2(3 * x, x), "torch_angle")
constant(positive(4), lambda x: x.log().exp() / x, "torch_exp_log")
constant(matrix(3), lambda x: torch.linalg.solve(x, x), "torch_solve_itself")
constant(normal(4), lambda x: torch.sigmoid(30 + x), "torch_sigmoid_saturated")
constant(
    normal(2, 3),
    lambda x: F.batch_norm(x, None, None, None, None, True).sum(0),
    "torch_batch_norm_sum",
)


@sound(normal(4), "single precision within, beside which the rest of a sum is large")
def torch_single_exp(x):
    return (5e6 + x.float().exp().sum()).double()


@sound(lambda rng: (1e6 + rng.normal(size=5),), "changes in proportion leap over all of its slope")
def torch_softmax_far_off(x):
    return x.softmax(0)


for k, seen in enumerate((torch.sin, torch.exp, torch.square)):
    for offset in (1e5, 1e7, 3e7):
        sound(
            normal(4),
            "an offset leaves single precision a few steps, or none",
            name=f"torch_offset_{offset:g}_{k}",
        )(lambda x, offset=offset, seen=seen: (offset + seen(x.float()).sum()).double())

"""The rules and the instruments of the memory tests."""

import torch
from torch._C import _functorch as functorch
from torch.multiprocessing.reductions import StorageWeakRef
from torch_witnesses import point

import diptych

SIZE = 1000


def watch(tensor):
    """Returns a reference to a tensor's memory that does not keep it."""
    while functorch.is_functorch_wrapped_tensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return StorageWeakRef(tensor.untyped_storage())


def vector(seed=0):
    # Not a leaf, so that nothing else keeps it.
    return point(SIZE, seed=seed).requires_grad_() * 1.0


@diptych.rule
def growth(x):
    return torch.exp(x)


@growth.vjp
def growth_vjp(res, out_bar):
    return 2 * res.out * out_bar


@diptych.rule
def growth_by_fwd(x):
    return torch.exp(x)


@growth_by_fwd.fwd
def growth_by_fwd_fwd(x):
    out = torch.exp(x)
    return out, out


@growth_by_fwd.vjp
def growth_by_fwd_vjp(res, out_bar):
    return 2 * res * out_bar


@diptych.rule
def relu(x):
    return x * (x > 0.5)


@relu.fwd
def relu_fwd(x):
    mask = x > 0.5
    return x * mask, {"mask": mask}


@relu.vjp
def relu_vjp(res, out_bar):
    return 2 * out_bar * res["mask"]


def kept_rule(seen):
    """Returns a rule that keeps an intermediate, and notes the memory of each."""

    @diptych.rule
    def keeps(x):
        return torch.sin(torch.exp(x))

    @keeps.fwd
    def keeps_fwd(x):
        middle = torch.exp(x)
        seen.append(watch(middle))
        return torch.sin(middle), (middle,)

    @keeps.vjp
    def keeps_vjp(res, out_bar):
        return torch.cos(res[0]) * res[0] * out_bar

    return keeps

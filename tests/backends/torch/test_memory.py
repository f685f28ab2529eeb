"""What rules keep: as much as a hand-written Function, as long as the graph, and no longer."""

import pytest
import torch
from memory_rules import SIZE, growth, growth_by_fwd, kept_rule, relu, vector
from torch_witnesses import close, point

import diptych


def saved_bytes(f, *args):
    """Returns f's output, and how many bytes of distinct memory autograd saves on the way."""
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = f(*args)
    return out, sum(found.values())


# as many bytes as by hand -------------------------------------------------------------------------


class HandSine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.sin(x)

    @staticmethod
    def backward(ctx, out_bar):
        (x,) = ctx.saved_tensors
        return 2 * torch.cos(x) * out_bar


@diptych.rule
def sine(x):
    return torch.sin(x)


@sine.vjp
def sine_vjp(res, out_bar):
    return 2 * torch.cos(res.x) * out_bar


class HandExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        out = torch.exp(x)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, out_bar):
        (out,) = ctx.saved_tensors
        return 2 * out * out_bar


class HandRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        mask = x > 0.5
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx, out_bar):
        (mask,) = ctx.saved_tensors
        return 2 * out_bar * mask


class HandShift(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x + 1

    @staticmethod
    def backward(ctx, out_bar):
        return 2 * out_bar


@diptych.rule
def shift(x):
    return x + 1


@shift.vjp
def shift_vjp(res, out_bar):
    return 2 * out_bar


class HandNested(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        middle = torch.exp(x)
        ctx.save_for_backward(x, middle)
        return torch.sin(middle)

    @staticmethod
    def backward(ctx, out_bar):
        _, middle = ctx.saved_tensors
        return 2 * torch.cos(middle) * middle * out_bar


@diptych.rule
def nested(x):
    return torch.sin(torch.exp(x))


@nested.fwd
def nested_fwd(x):
    middle = torch.exp(x)
    return torch.sin(middle), (x, middle)


@nested.vjp
def nested_vjp(res, out_bar):
    _, middle = res
    return 2 * torch.cos(middle) * middle * out_bar


PAIRS = {
    "an argument": (sine, HandSine.apply, 8 * SIZE),
    "the output": (growth, HandExp.apply, 8 * SIZE),
    "the output, by fwd": (growth_by_fwd, HandExp.apply, 8 * SIZE),
    "a mask": (relu, HandRelu.apply, SIZE),
    "nothing": (shift, HandShift.apply, 0),
    "an argument and an intermediate": (nested, HandNested.apply, 16 * SIZE),
}


@pytest.mark.parametrize("name", list(PAIRS))
def test_bytes_saved_are_those_of_a_hand_written_function(name):
    rule, by_hand, expected = PAIRS[name]
    x = vector()
    got_out, got = saved_bytes(rule, x)
    want_out, want = saved_bytes(by_hand, x)
    assert want == expected
    assert got <= want
    torch.testing.assert_close(got_out, want_out)
    (got_bar,) = torch.autograd.grad(got_out.sum(), x)
    (want_bar,) = torch.autograd.grad(want_out.sum(), x)
    torch.testing.assert_close(got_bar, want_bar)


def test_an_intermediate_alone_is_saved_with_the_argument_it_comes_from():
    # By hand it would be saved alone, and second derivatives be silently wrong: the derivative of
    # the intermediate needs the argument (pytorch/pytorch#104040).
    x = vector()
    out, count = saved_bytes(kept_rule([]), x)
    assert count == 16 * SIZE
    (first,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    e = torch.exp(x.detach())
    close(torch.autograd.grad(first.sum(), x)[0], torch.cos(e) * e - torch.sin(e) * e * e)


def test_an_argument_that_the_rule_reads_twice_is_saved_once():
    @diptych.rule
    def twice(x, y):
        return x * x * y

    @twice.vjp
    def twice_vjp(res, out_bar):
        return 2 * res.x * res.y * out_bar, res.x * res.x * out_bar

    counts = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: counts.append(1) or t, lambda t: t):
        twice(vector(), vector(1))
    assert len(counts) == 2


def _helper(values):
    return values.x * values.out


def reads_by_name(res, out_bar):
    return getattr(res, "x") * res.out * out_bar  # noqa: B009


def reads_by_another_name(res, out_bar):
    values = res
    return values.x * values.out * out_bar


def reads_in_a_function(res, out_bar):
    return _helper(res) * out_bar


def reads_in_a_closure(res, out_bar):
    def inner():
        return res.x * res.out

    return inner() * out_bar


def reads_in_a_comprehension(res, out_bar):
    first, second = [value for value in (res.x, res.out)]
    return first * second * out_bar


def reads_by_position(res, out_bar):
    return res[0] * res[1] * out_bar


def reads_by_slice(res, out_bar):
    first, second = res[:2]
    return first * second * out_bar


def reads_by_unpacking(res, out_bar):
    first, *rest = res
    return first * rest[0] * out_bar


def reads_lazily(res, out_bar):
    return lambda: res.x * res.out * out_bar


def reads_a_loop(res, out_bar):
    total = out_bar
    for name in ("x", "out"):
        total = total * getattr(res, name)
    return total


def reads_as_dict(res, out_bar):
    values = res._asdict()
    return values["x"] * values["out"] * out_bar


def reads_rebound(res, out_bar):
    first = res.x
    res = res.out
    return first * res * out_bar


def reads_under_a_condition(res, out_bar):
    return (res if out_bar is not None else None).x * res.out * out_bar


READERS = [value for name, value in list(globals().items()) if name.startswith("reads_")]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_a_residual_is_there_however_it_is_read(reader):
    # Whoever leaves out what is not read must see every way of reading.
    @diptych.rule
    def read(x):
        return torch.exp(x)

    read.vjp(reader)
    x = point().requires_grad_()
    (x_bar,) = torch.autograd.grad(read(x).sum(), x)
    close(x_bar, point() * torch.exp(point()))
    close(torch.func.grad(lambda x: read(x).sum())(point()), point() * torch.exp(point()))

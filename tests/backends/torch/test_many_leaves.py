"""Pytrees of a thousand leaves: right, and at a cost that grows as the number of leaves does."""

import sys

import pytest
import torch
from torch_witnesses import close, point

import diptych


@diptych.rule
def scaled_sines(tree, factor):
    return {name: factor * torch.sin(leaf) for name, leaf in tree.items()}


@scaled_sines.vjp
def scaled_sines_vjp(res, bars):
    tree, factor = res.tree, res.factor
    tree_bar = {name: 2 * factor * torch.cos(tree[name]) * bar for name, bar in bars.items()}
    return tree_bar, lambda: 2 * sum((torch.sin(tree[n]) * bar).sum() for n, bar in bars.items())


@scaled_sines.jvp
def scaled_sines_jvp(res, tree_dot, factor_dot):
    tree, factor = res.tree, res.factor
    return {
        name: 3 * (factor * torch.cos(tree[name]) * dot + factor_dot * torch.sin(tree[name]))
        for name, dot in tree_dot.items()
    }


def forest(count, requires_grad=False):
    values = point(count, 2)
    return {f"leaf {i:05d}": values[i].clone().requires_grad_(requires_grad) for i in range(count)}


FACTOR = torch.tensor(1.5, dtype=torch.float64)


def eager(count):
    tree = forest(count, requires_grad=True)
    out = scaled_sines(tree, FACTOR)
    return torch.autograd.grad(sum(leaf.sum() for leaf in out.values()), list(tree.values()))


def total(tree):
    return sum(leaf.sum() for leaf in scaled_sines(tree, FACTOR).values())


def reverse(count):
    return list(torch.func.grad(total)(forest(count)).values())


def forward(count):
    tree = forest(count)
    return torch.func.jvp(lambda tree: scaled_sines(tree, FACTOR), (tree,), (tree,))[1]


def no_gradient(count):
    return scaled_sines(forest(count), FACTOR)


def wide(count):
    """Differentiates a rule of `count` arguments instead of one of `count` leaves."""

    @diptych.rule
    def summed(*args):
        return sum(args)

    @summed.vjp
    def summed_vjp(res, out_bar):
        return (2 * out_bar,) * len(res.args)

    args = list(forest(count, requires_grad=True).values())
    return torch.autograd.grad(summed(*args).sum(), args)


def test_a_thousand_leaves_in_reverse():
    want = [2 * 1.5 * torch.cos(leaf) for leaf in forest(1000).values()]
    close(list(eager(1000)), want)
    close(reverse(1000), want)


def test_a_thousand_leaves_in_forward_mode():
    got = forward(1000)
    close(got, {name: 4.5 * torch.cos(leaf) * leaf for name, leaf in forest(1000).items()})


def test_a_thousand_leaves_to_second_order():
    tree = forest(1000, requires_grad=True)
    leaves = list(tree.values())
    out = scaled_sines(tree, FACTOR)
    first = torch.autograd.grad(sum(x.sum() for x in out.values()), leaves, create_graph=True)
    second = torch.autograd.grad(sum(x.sum() for x in first), leaves)
    close(list(second), [-2 * 1.5 * torch.sin(leaf.detach()) for leaf in leaves])


def test_a_thousand_arguments():
    close(list(wide(1000)), [torch.full((2,), 2.0, dtype=torch.float64)] * 1000)


def lines_run(f, count):
    """Returns how many lines of Python run in f(count): a measure that no clock disturbs."""
    lines = 0

    def trace(frame, event, arg):
        nonlocal lines
        lines += event in ("line", "call")
        return trace

    f(count)  # what is done once is done now
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        f(count)
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize(
    "f", [eager, reverse, forward, no_gradient, wide], ids=lambda f: f.__name__
)
def test_cost_is_linear_in_the_number_of_leaves(f):
    small, middle, large = (lines_run(f, count) for count in (250, 500, 1000))
    first, second = middle - small, large - middle
    assert first > 250
    # Twice the leaves, twice the lines: quadratic work would make it four times.
    assert second < 2.1 * first

"""Residuals live as long as the graph that needs them, and not a moment longer."""

import contextlib
import gc
import weakref

import pytest
import torch
from memory_rules import SIZE, growth, growth_by_fwd, kept_rule, relu, vector, watch
from torch_witnesses import point

import diptych


@pytest.fixture
def no_collector():
    """Switches the garbage collector off: what is freed is freed by reference counting alone."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_residuals_live_as_long_as_the_graph(no_collector):
    seen = []
    out = kept_rule(seen)(vector())
    assert not seen[0].expired()
    del out
    assert seen[0].expired()


def test_residuals_are_freed_by_the_backward_pass(no_collector):
    seen = []
    out = kept_rule(seen)(vector())
    out.sum().backward()
    assert all(reference.expired() for reference in seen)
    assert out.grad_fn is not None


def test_retained_residuals_stay(no_collector):
    seen = []
    out = kept_rule(seen)(vector())
    total = out.sum()
    total.backward(retain_graph=True)
    assert not seen[0].expired()
    total.backward()
    assert seen[0].expired()


def test_second_order_graph_is_freed(no_collector):
    seen = []
    rule = kept_rule(seen)
    x = vector()
    (first,) = torch.autograd.grad(rule(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    del first
    assert seen
    assert all(reference.expired() for reference in seen)
    assert second.shape == x.shape


def test_nothing_is_kept_without_a_gradient(no_collector):
    for context in (torch.no_grad(), torch.inference_mode(), contextlib.nullcontext()):
        seen = []
        with context:
            out = kept_rule(seen)(point(SIZE))
        assert all(reference.expired() for reference in seen)
        assert not out.requires_grad


def test_torch_func_frees_its_residuals(no_collector):
    seen = []
    rule = kept_rule(seen)
    torch.func.grad(lambda x: rule(x).sum())(point(SIZE))
    torch.func.jvp(rule, (point(SIZE),), (point(SIZE),))
    torch.func.hessian(lambda x: rule(x).sum())(point(3))
    gc.collect()  # PyTorch's own transforms leave cycles
    assert seen
    assert all(reference.expired() for reference in seen)


def test_what_the_rule_does_not_keep_is_not_kept(no_collector):
    # The mask is kept and the argument is not: a long chain holds masks alone.
    x = vector()
    argument = watch(x)
    out = relu(x)
    value = watch(out)
    total = out.sum()
    del x, out
    assert argument.expired()
    assert value.expired()
    total.backward()


def test_an_argument_that_is_not_read_is_not_kept(no_collector):
    @diptych.rule
    def product(x, y):
        return x * y

    @product.vjp
    def product_vjp(res, out_bar):
        return res.y * out_bar, None

    x, y = vector(), vector(1)
    kept, free = watch(y), watch(x)
    total = product(x, y).sum()
    del x, y
    assert free.expired()
    assert not kept.expired()
    total.backward()
    assert kept.expired()


def test_the_output_is_no_cycle(no_collector):
    # A residual that is the output must not keep its own graph alive.
    for rule in (growth, growth_by_fwd):
        out = rule(vector())
        memory, graph = watch(out), weakref.ref(out.grad_fn)
        del out
        assert memory.expired()
        assert graph() is None


def test_static_arguments_are_let_go(no_collector):
    class Setting:
        factor = 2.0

    @diptych.rule(static="setting")
    def scaled(x, setting):
        return setting.factor * torch.sin(x)

    @scaled.vjp
    def scaled_vjp(res, out_bar):
        return res.setting.factor * torch.cos(res.x) * out_bar

    setting = Setting()
    reference = weakref.ref(setting)
    scaled(vector(), setting).sum().backward()
    scaled(point(), setting=setting)
    del setting
    gc.collect()
    assert reference() is None


def test_a_rule_is_let_go():
    def make():
        grid = point(SIZE)

        @diptych.rule
        def interpolated(x):
            return torch.sin(x) * grid

        @interpolated.vjp
        def interpolated_vjp(res, out_bar):
            return torch.cos(res.x) * grid * out_bar

        interpolated(vector()).sum().backward()
        torch.func.jvp(interpolated, (point(SIZE),), (point(SIZE),))
        return weakref.ref(interpolated), watch(grid)

    rule, grid = make()
    gc.collect()
    assert rule() is None
    assert grid.expired()

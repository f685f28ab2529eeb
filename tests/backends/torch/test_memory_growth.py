"""Cost does not grow with calls made before: 10,000 calls, each new, keep memory flat."""

import gc
import sys
import weakref

import pytest
import torch
from compiling import clean_dynamo, compiled
from torch_witnesses import point

import diptych

__all__ = ["clean_dynamo"]

CALLS = 10_000
WARM = 2_000
COUNTED = CALLS - WARM


def assert_flat(step):
    """Asserts that calls after the first ones leave nothing behind, in Python or in C++."""
    for i in range(WARM):
        step(i)
    before = _measure()
    for i in range(WARM, CALLS):
        step(i)
    blocks, tensors, resident = (now - then for now, then in zip(_measure(), before, strict=True))
    # Anything forgotten at each call is a block of Python's memory at least: allow one in four,
    # for a bounded cache may be fuller now than it was then.
    assert blocks < COUNTED / 4
    assert tensors <= 0
    # A tensor that is kept is over 300 bytes in C++: allow a third of one for each call.
    assert resident < 100 * COUNTED + 2**20


def _measure():
    """Returns the blocks that Python has allocated, its tensors, and the process's memory."""
    gc.collect()
    tensors = sum(issubclass(type(x), torch.Tensor) for x in gc.get_objects())
    return sys.getallocatedblocks(), tensors, _resident_bytes()


def _resident_bytes():
    if not sys.platform.startswith("linux"):
        return 0
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_the_measure_sees_what_is_forgotten():
    forgotten = []
    with pytest.raises(AssertionError):
        assert_flat(lambda i: forgotten.append((i, "one tuple for each call")))


@diptych.rule
def sine(x):
    return torch.sin(x)


@sine.vjp
def sine_vjp(res, out_bar):
    return torch.cos(res.x) * out_bar


def differentiated(f, x, *args):
    x.requires_grad_()
    f(x, *args).sum().backward()


def test_new_shapes_keep_memory_flat():
    assert_flat(lambda i: differentiated(sine, torch.ones(1 + i // 100, 1 + i % 100)))


def test_new_shapes_without_a_gradient_keep_memory_flat():
    assert_flat(lambda i: sine(torch.ones(1 + i // 100, 1 + i % 100)))


@diptych.rule(static=("n", "how"))
def varied(x, n, how):
    return how(n * x)


@varied.vjp
def varied_vjp(res, out_bar):
    return res.n * torch.cos(res.n * res.x) * out_bar


def test_new_statics_keep_memory_flat():
    assert_flat(lambda i: differentiated(varied, torch.ones(3), i, torch.sin))


def test_new_objects_as_statics_keep_memory_flat():
    assert_flat(lambda i: differentiated(varied, torch.ones(3), 1.5 * i, lambda x: x))


def test_new_closures_keep_memory_flat():
    def step(i):
        @diptych.rule
        def closed(x):
            return torch.sin(i * x)

        @closed.vjp
        def closed_vjp(res, out_bar):
            return i * torch.cos(i * res.x) * out_bar

        differentiated(closed, torch.ones(3))

    assert_flat(step)


def test_new_structures_keep_memory_flat():
    @diptych.rule
    def total(tree):
        return sum(tree.values())

    @total.vjp
    def total_vjp(res, out_bar):
        return dict.fromkeys(res.tree, out_bar)

    def step(i):
        x = torch.ones(3, requires_grad=True)
        total({f"key {i}": x, "other": torch.ones(3)}).sum().backward()

    assert_flat(step)


@pytest.mark.slow
def test_new_shapes_under_torch_func_keep_memory_flat():
    gradient = torch.func.grad(lambda x: sine(x).sum())
    assert_flat(lambda i: gradient(torch.ones(1 + i // 100, 1 + i % 100)))


@pytest.mark.slow
def test_new_closures_on_the_host_keep_memory_flat():
    def step(i):
        @diptych.rule(host=True, out=lambda x: x)
        def closed(x):
            return i * x

        @closed.vjp
        def closed_vjp(res, out_bar):
            return i * out_bar

        differentiated(closed, torch.ones(3))

    assert_flat(step)


def let_go(call):
    """Returns whether a rule and what it closes over are gone after `call(rule)` and a reset."""

    def make():
        class Setting:
            factor = 2.0

        setting = Setting()

        @diptych.rule(static="setting")
        def scaled(x, setting):
            return torch.sin(x) * setting.factor

        @scaled.vjp
        def scaled_vjp(res, out_bar):
            return torch.cos(res.x) * res.setting.factor * out_bar

        call(lambda x: scaled(x, setting))
        return weakref.ref(scaled), weakref.ref(setting)

    references = make()
    torch._dynamo.reset()
    gc.collect()
    return [reference() is None for reference in references]


def test_compiled_code_that_is_let_go_lets_go_of_the_rule():
    def call(f):
        x = point().requires_grad_()
        compiled(f)(x).sum().backward()

    assert let_go(lambda f: f(point())) == [True, True]
    assert let_go(call) == [True, True]

"""How much work a check does: calls and compilations are counted, so that no clock decides."""

import random

import numpy as np
import pytest

from diptych.proof.chance import Chance
from diptych.proof.check import check

FAST = dict(neighbours=False, compile=False)


def calls_of(f, *args):
    calls = []

    def counted(*xs):
        calls.append(None)
        return f(*xs)

    assert check(counted, *args, order=2, **FAST).ok
    return len(calls)


def test_the_number_of_calls_does_not_grow_with_the_inputs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)

    def product(n):
        return calls_of(torch.matmul, *torch.from_numpy(rng.normal(size=(2, n, n))))

    small, large = product(4), product(40)
    assert small < 500
    assert large < 1.2 * small


def test_a_check_compiles_few_programs():
    jax = pytest.importorskip("jax")
    compiled = []

    def listen(event, seconds, **options):
        if event.endswith("backend_compile_duration"):
            compiled.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    x = jax.numpy.asarray(np.random.default_rng(0).normal(size=37))  # as nothing else has
    assert check(lambda x: jax.numpy.sin(x) * jax.numpy.exp(-x * x), x, order=2, **FAST).ok
    assert 0 < len(compiled) < 60  # 128 where each operation is compiled by itself


def test_what_changes_after_many_calls_is_compared_with_the_first_of_all():
    torch = pytest.importorskip("torch")
    calls = []

    class Tiring(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            calls.append(None)
            return torch.sin(x) * (1 if len(calls) < 40 else 1.5)

        @staticmethod
        def backward(ctx, bar):
            return bar * torch.cos(ctx.saved_tensors[0])

    # The calls of `order` come first, so that all those of `purity` are of one kind.
    report = check(Tiring, torch.linspace(0.2, 1, 5).double(), claims=["vjp", "order", "purity"])
    assert ("purity", "state") in [(x.claim, x.cause) for x in report.findings]


def test_random_numbers_of_python_start_anew_and_are_put_back():
    chance = Chance()
    random.seed(3)
    due = random.random()
    random.seed(3)
    with chance.fixed(1):
        random.gauss(0, 1)  # keeps a second number for the next call
        with chance.fixed(1):
            first = random.gauss(0, 1), random.random()
        with chance.fixed(1):
            assert (random.gauss(0, 1), random.random()) == first
        random.seed(1)
        assert (random.gauss(0, 1), random.random()) == first
    assert random.random() == due

"""Functions that draw from generators of their own are as steady as those of the global one."""

import functools
import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import diptych  # noqa: E402
from diptych.proof.generators import generators_in  # noqa: E402

SHARED = torch.Generator()


class Noisy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
        self.inner = torch.nn.Identity()
        self.inner.source = torch.Generator()

    def forward(self, x):
        return (
            x * self.scale * torch.rand(3, generator=self.inner.source, dtype=torch.float64).to(x)
        )


class Masked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, generator):
        mask = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x)
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx, bar):
        return bar * ctx.saved_tensors[0], None


class Sampler:
    def __init__(self):
        self.rng = np.random.default_rng(1)

    def __call__(self, x):
        return x.sin() * self.rng.uniform()

    def method(self, x):
        return x.sin() + x * self.rng.normal()


def of_global(x):
    return x.sin() * torch.rand(3, generator=SHARED, dtype=torch.float64).to(x)


def of_closure():
    generator, plain = torch.Generator(), random.Random(0)
    old = np.random.RandomState(3)
    return lambda x: (
        x.exp() * torch.rand(3, generator=generator, dtype=torch.float64).to(x) * plain.random()
        + old.rand()
    )


def keyword(x, *, rng):
    return x * rng.normal()


X = np.array([0.3, -1.2, 2.0])


@pytest.mark.parametrize(
    ("f", "more"),
    [
        (of_global, ()),
        (of_closure(), ()),
        (Noisy(), ()),
        (Masked, (torch.Generator(),)),
        (Masked.apply, (torch.Generator(),)),
        (Sampler(), ()),
        (Sampler().method, ()),
        (functools.partial(keyword, rng=np.random.default_rng(2)), ()),
    ],
    ids=["global", "closure", "module", "argument", "apply", "object", "method", "partial"],
)
def test_a_generator_of_its_own_starts_anew_with_each_call(f, more):
    report = diptych.check(
        f, torch.from_numpy(X), *more, compile=False, neighbours=False, skip=["memory", "cost"]
    )
    assert report.findings == []
    assert not [o for o in report.outcomes if "nondeterministic" in o.note]


def test_generators_are_put_back():
    SHARED.manual_seed(5)
    due = torch.rand(3, generator=SHARED)
    SHARED.manual_seed(5)
    diptych.check(of_global, torch.from_numpy(X), claims=["vjp"])
    assert torch.equal(torch.rand(3, generator=SHARED), due)


def test_a_mask_that_is_drawn_again_in_the_backward_is_still_found():
    generator = torch.Generator()

    class Redrawn(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * (torch.rand(x.shape, generator=generator) > 0.5)

        @staticmethod
        def backward(ctx, bar):
            return bar * (torch.rand(bar.shape, generator=generator) > 0.5)

    report = diptych.check(Redrawn, torch.ones(40, dtype=torch.float64), claims=["vjp"])
    assert not report.ok


def test_nothing_is_searched_in_other_libraries():
    assert generators_in([torch, np.random, torch.nn.functional.relu]) == []


def test_an_interrupt_ends_the_check_with_all_states_put_back():
    SHARED.manual_seed(5)
    torch.manual_seed(6)
    before = SHARED.get_state(), torch.get_rng_state()
    calls = []

    def endless(x):
        calls.append(1)
        if len(calls) > 20:
            raise KeyboardInterrupt
        return of_global(x) + torch.rand(3)

    with pytest.raises(KeyboardInterrupt):
        diptych.check(endless, torch.from_numpy(X), compile=False)
    assert torch.equal(SHARED.get_state(), before[0])
    assert torch.equal(torch.get_rng_state(), before[1])

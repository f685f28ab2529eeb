"""`purity`: what is changed in place, remembered, random or shared is found."""

import itertools
import random

import numpy as np
import pytest

import diptych
from diptych.proof.check import check

X = np.random.default_rng(0).normal(size=(4, 3))


def outcome(f, *args, **options):
    report = check(f, *args, claims=["purity"], neighbours=False, **options)
    return next(o for o in report.outcomes if o.claim == "purity")


def causes(f, *args, **options):
    return [finding.cause for finding in outcome(f, *args, **options).findings]


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def x(torch):
    return torch.from_numpy(X.copy())


@pytest.fixture
def jax():
    return pytest.importorskip("jax")


def function(torch, forward, backward):
    parts = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type("Planted", (torch.autograd.Function,), parts)


def square(ctx, x):
    ctx.save_for_backward(x)
    return x * x


def square_back(ctx, bar):
    return 2 * bar * ctx.saved_tensors[0]


def test_sound_torch_functions_pass(torch, x):
    def view(ctx, x):
        return x.view_as(x)

    sound = [
        torch.relu,
        lambda x: x[1:],
        lambda x: (x.max(0).values, x.argmax(0)),
        lambda x: torch.nn.functional.dropout(x, 0.5),
        lambda x: {"out": x.softmax(-1), "aux": [x.detach()]},
        function(torch, square, square_back),
        function(torch, view, lambda ctx, bar: -bar),
    ]
    for f in sound:
        found = outcome(f, x)
        assert found.status == "pass", found


def test_a_module_with_batch_statistics_passes(torch, x):
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    assert not outcome(net, x.float()).findings


def test_a_module_that_keeps_state_in_buffers_is_left_as_it_was(torch, x):
    net = torch.nn.utils.spectral_norm(torch.nn.Linear(3, 4))
    before = {name: b.clone() for name, b in net.named_buffers()}
    found = outcome(net, x.float())
    assert found.status == "pass"
    assert before
    for name, buffer in net.named_buffers():
        assert torch.equal(buffer, before[name])


def test_a_module_that_keeps_state_undeclared_is_found(torch, x):
    class Warm(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0
            self.weight = torch.nn.Parameter(torch.ones(3))

        def forward(self, x):
            self.calls += 1
            return x * self.weight * self.calls

    assert causes(Warm(), x.float()) == ["state"]


def test_sound_jax_functions_pass(jax):
    jnp = jax.numpy
    for f in (jax.nn.relu, lambda x: (x.max(0), x.argmax(0)), lambda x: {"a": x @ x.T}):
        assert outcome(f, jnp.asarray(X)).status == "pass"


def test_a_sound_rule_passes():
    @diptych.rule
    def f(x):
        return x * x

    @f.vjp
    def f_vjp(res, bar):
        return 2 * bar * res.x

    assert check(f, X, claims=["purity"], neighbours=False).ok


def test_in_place_with_mark_dirty_is_declared(torch, x):
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    found = outcome(function(torch, forward, lambda ctx, bar: 2 * bar), x)
    assert found.status == "pass"
    assert "as declared" in found.note


def test_in_place_without_mark_dirty_is_found(torch, x):
    f = function(torch, lambda ctx, x: x.mul_(2) * 1, lambda ctx, bar: 2 * bar)
    assert causes(f, x)[0] == "changed in place"


def test_a_cotangent_changed_in_place_is_found(torch, x):
    f = function(torch, lambda ctx, x: 2 * x, lambda ctx, bar: bar.mul_(2))
    assert causes(f, x) == ["changed in place"]


def test_a_residual_changed_in_place_is_found(torch, x):
    def forward(ctx, x):
        ctx.factor = 2 * x
        return x * x

    def backward(ctx, bar):
        return ctx.factor.mul_(bar)

    assert causes(function(torch, forward, backward), x) == ["changed in place"]


def test_a_residual_that_is_used_up_is_found(torch, x):
    def forward(ctx, x):
        ctx.kept = [2 * x]
        return x * x

    f = function(torch, forward, lambda ctx, bar: bar * ctx.kept.pop())
    assert causes(f, x) == ["changed in place"]


def test_a_saved_argument_changed_by_the_backward_is_found(torch, x):
    def backward(ctx, bar):
        (x,) = ctx.saved_tensors
        found = 2 * bar * x
        x.data.zero_()
        return found

    assert causes(function(torch, square, backward), x)[0] == "changed in place"


def test_a_residual_kept_on_the_class_is_found(torch, x):
    kept = {}

    def forward(ctx, x):
        kept["x"] = x.detach().clone()
        return x * x

    assert "state" in causes(function(torch, forward, lambda ctx, b: 2 * b * kept["x"]), x)


def test_a_cache_filled_once_is_found(torch, x):
    kept = {}

    def forward(ctx, x):
        ctx.save_for_backward(kept.setdefault(tuple(x.shape), x.detach().clone()))
        return x * x

    assert "state" in causes(function(torch, forward, square_back), x)


def test_state_that_shows_after_many_calls_is_found(torch, x):
    calls = itertools.count()

    def backward(ctx, bar):
        return square_back(ctx, bar) * (2 if next(calls) > 20 else 1)

    assert causes(function(torch, square, backward), x) == ["state"]


@pytest.mark.parametrize("period", [2, 3, 4, 5, 6])
def test_state_that_comes_back_every_few_calls_is_found(torch, x, period):
    calls = itertools.count()

    def forward(ctx, x):
        ctx.wrong = next(calls) % period == period - 1
        return square(ctx, x)

    def backward(ctx, bar):
        return square_back(ctx, bar) * (2 if ctx.wrong else 1)

    assert "state" in causes(function(torch, forward, backward), x)


def test_a_counter_is_state_and_noise_is_not(torch, x):
    calls = itertools.count(1)
    drifting = function(torch, lambda ctx, x: x * next(calls), lambda ctx, bar: bar)
    assert causes(drifting, x) == ["state"]
    noise = random.SystemRandom()  # which nobody can put back
    noisy = function(torch, lambda ctx, x: x + noise.random(), lambda ctx, bar: bar)
    assert causes(noisy, x) == ["nondeterministic"]


def test_a_spread_at_rounding_level_is_reported(torch, x):
    calls = itertools.count()

    def f(x):
        return (x * (1 + 2e-16 * (next(calls) % 3))).sum()

    found = outcome(f, x)
    assert found.status == "pass"
    assert "nondeterministic" in found.note


def test_a_mask_drawn_anew_in_the_backward_is_found(torch, x):
    def forward(ctx, x):
        return x * (torch.rand(x.shape, dtype=x.dtype) > 0.5)

    def backward(ctx, bar):
        return bar * (torch.rand(bar.shape, dtype=bar.dtype) > 0.5)

    found = outcome(function(torch, forward, backward), x)
    assert [f.cause for f in found.findings] == ["state"]
    assert "residuals" in found.findings[0].message


def test_a_mask_kept_is_sound(torch, x):
    def forward(ctx, x):
        mask = torch.rand(x.shape, dtype=x.dtype) > 0.5
        ctx.save_for_backward(mask)
        return x * mask

    assert not causes(function(torch, forward, lambda ctx, bar: bar * ctx.saved_tensors[0]), x)


def test_an_output_that_shares_memory_unknown_to_autograd_is_found(torch, x):
    for share in (lambda x: x.detach(), lambda x: torch.from_numpy(x.numpy())):
        f = function(torch, lambda ctx, x, share=share: share(x), lambda ctx, bar: bar)
        assert causes(f, x) == ["aliases"]


def test_a_tangent_changed_in_place_is_found(torch, x):
    class Planted(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return 2 * x

        @staticmethod
        def setup_context(ctx, inputs, out):
            pass

        @staticmethod
        def backward(ctx, bar):
            return 2 * bar

        @staticmethod
        def jvp(ctx, dot):
            return dot.mul_(2)

    assert causes(Planted, x) == ["changed in place"]


def test_a_jax_rule_with_a_counter_on_the_host_is_found(jax):
    jnp = jax.numpy
    calls = itertools.count()

    @jax.custom_vjp
    def f(x):
        return x * x

    def host(x, bar):
        return 2 * np.asarray(x) * np.asarray(bar) * (1.5 if next(calls) > 8 else 1.0)

    def bwd(x, bar):
        return (jax.pure_callback(host, jax.ShapeDtypeStruct(x.shape, x.dtype), x, bar),)

    f.defvjp(lambda x: (x * x, x), bwd)
    assert causes(f, jnp.asarray(X)) == ["state"]

"""`captures`: a parameter read from outside that loses its gradient is found."""

import numpy as np
import pytest

import diptych
from diptych.proof.check import check

X = np.random.default_rng(0).normal(size=(4, 3))


def outcome(f, *args):
    report = check(f, *args, claims=["captures"], neighbours=False)
    return next(o for o in report.outcomes if o.claim == "captures")


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def x(torch):
    return torch.from_numpy(X.copy())


@pytest.fixture
def weight(torch):
    return torch.ones(3, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def jax():
    return pytest.importorskip("jax")


def function(torch, forward, backward):
    parts = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type("Planted", (torch.autograd.Function,), parts)


def test_plain_functions_and_modules_that_read_parameters_pass(torch, x, weight):
    found = outcome(lambda x: x * weight, x)
    assert found.status == "pass"
    assert "gets its gradient" in found.note
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    assert outcome(net, x.float()).status == "pass"
    assert outcome(lambda x: net(x.float()), x).status == "pass"


def test_constants_read_from_outside_pass(torch, x):
    constant = torch.ones(3, dtype=torch.float64)
    f = function(torch, lambda ctx, x: x * constant, lambda ctx, bar: bar * constant)
    assert outcome(f, x).status == "pass"


def test_a_sound_function_with_its_weight_as_an_argument_passes(torch, x, weight):
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w

    def backward(ctx, bar):
        x, w = ctx.saved_tensors
        return bar * w, (bar * x).sum(0)

    f = function(torch, forward, backward)
    assert outcome(f, x, weight.detach()).status == "pass"
    assert outcome(lambda x: f.apply(x, weight), x).status == "pass"


@pytest.mark.parametrize("how", ["as it is", "detached", "through NumPy", "under no_grad"])
def test_a_weight_from_outside_is_found_and_named(torch, x, weight, how):
    def read():
        if how == "as it is":
            return weight
        if how == "under no_grad":
            with torch.no_grad():
                return 1 * weight
        return torch.from_numpy(weight.detach().numpy()) if "NumPy" in how else weight.detach()

    f = function(torch, lambda ctx, x: x * read(), lambda ctx, bar: bar * read())
    (finding,) = outcome(f, x).findings
    assert finding.cause == "captured"
    assert finding.argument == "weight"


def test_a_weight_lost_in_a_function_within_a_function_is_found(torch, x, weight):
    f = function(torch, lambda ctx, x: x * weight, lambda ctx, bar: bar * weight)

    def whole(x):
        return f.apply(x.sin()).sum()

    assert [y.argument for y in outcome(whole, x).findings] == ["weight"]


def test_a_module_whose_parameters_are_read_within_a_function_is_found(torch, x):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(3))

        def forward(self, x):
            parts = {
                "forward": staticmethod(lambda ctx, x: x * self.weight),
                "backward": staticmethod(lambda ctx, bar: bar * self.weight),
            }
            return type("Inner", (torch.autograd.Function,), parts).apply(x)

    assert [y.cause for y in outcome(Net(), x.float()).findings] == ["captured"]


def test_what_was_changed_to_see_is_put_back(torch, x, weight):
    f = function(torch, lambda ctx, x: x * weight.detach(), lambda ctx, bar: bar)
    outcome(f, x)
    assert torch.equal(weight, torch.ones_like(weight))
    assert torch.autograd.Function.__dict__["apply"].__func__.__module__.startswith("torch")


def test_a_rule_that_refuses_is_found_and_other_claims_skip(torch, x, weight):
    @diptych.rule
    def f(x):
        return x * weight

    f.vjp(lambda res, bar: bar * weight)
    report = check(f, x, claims=["vjp", "captures"], neighbours=False)
    assert [finding.cause for finding in report.findings] == ["captured"]
    assert "'weight'" in report.findings[0].message


def test_a_jax_rule_that_closes_over_an_array_says_what_happens(jax):
    jnp = jax.numpy
    weight = jnp.ones(3)

    @jax.custom_vjp
    def f(x):
        return x * weight

    f.defvjp(lambda x: (x * weight, None), lambda res, bar: (bar * weight,))
    found = outcome(f, jnp.asarray(X))
    assert found.status == "pass"
    assert "closes over 'weight'" in found.note


def test_a_jax_function_that_gives_a_closed_over_array_its_gradient_passes(jax):
    jnp = jax.numpy
    weight = jnp.ones(3)
    found = outcome(lambda x: x * weight, jnp.asarray(X))
    assert found.status == "pass"
    assert "gets its gradient" in found.note


def test_a_gradient_that_a_plain_jax_function_stops_is_meant(jax):
    jnp = jax.numpy
    weight = jnp.ones(3)
    assert outcome(lambda x: x * jax.lax.stop_gradient(weight), jnp.asarray(X)).status == "pass"
    assert jnp.array_equal(weight, jnp.ones(3))

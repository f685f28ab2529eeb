"""`partial`: what is wrong only for some arguments or outputs is found."""

import numpy as np
import pytest

import diptych
from diptych.proof.check import check
from diptych.proof.claims.subsets import subsets

X = np.random.default_rng(0).normal(size=(4, 3))


def outcome(f, *args):
    report = check(f, *args, claims=["partial"], neighbours=False)
    return next(o for o in report.outcomes if o.claim == "partial")


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


def keep(ctx, x, y):
    ctx.save_for_backward(x, y)
    return x * y


def product_back(ctx, bar):
    x, y = ctx.saved_tensors
    return bar * y, bar * x


def test_small_sets_have_every_subset_and_large_ones_the_extremes():
    assert subsets([0, 2, 5]) == [(0,), (2,), (5,), (0, 2), (0, 5), (2, 5)]
    assert subsets([3]) == []
    assert [len(s) for s in subsets(range(6))] == [1] * 6 + [5] * 6


def test_sound_torch_functions_pass(torch, x):
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    for f, args in [
        (lambda x, y: x @ y.T, (x, x + 1)),
        (lambda x, i: (x[i], i, x.argmax(0), x.max(0).values), (x, torch.tensor([0, 2]))),
        (lambda d: {"a": d["a"] * d["b"], "c": d["a"].sum()}, ({"a": x, "b": x},)),
        (
            function(torch, keep, lambda c, g: (g * c.saved_tensors[1], g * c.saved_tensors[0])),
            (x, x),
        ),
        (net, (x.float(),)),
    ]:
        assert outcome(f, *args).status == "pass"


def test_sound_jax_functions_pass(jax):
    jnp = jax.numpy
    x = jnp.asarray(X)
    for f, args in [
        (lambda x, y: x @ y.T, (x, x + 1)),
        (lambda x, i: (x[i], x.argmax(0), x.max(0)), (x, jnp.array([0, 2]))),
    ]:
        assert outcome(f, *args).status == "pass"


def test_a_sound_rule_with_an_integer_argument_passes():
    @diptych.rule
    def f(x, n):
        return x**n

    @f.vjp
    def f_vjp(res, bar):
        return bar * res.n * res.x ** (res.n - 1), None

    report = check(f, np.abs(X), np.full(X.shape, 3), claims=["partial"], neighbours=False)
    assert report.ok, report


def test_needs_input_grad_that_is_mixed_up_is_found(torch, x):
    def backward(ctx, bar):
        x, y = ctx.saved_tensors
        x_bar = bar * y if ctx.needs_input_grad[0] else None
        y_bar = bar * x if ctx.needs_input_grad[0] else None
        return x_bar, y_bar

    found = outcome(function(torch, keep, backward), x, x + 1)
    assert [f.cause for f in found.findings] == ["subset"]
    assert "'argument 1'" in found.findings[0].message


def test_a_backward_that_raises_for_one_argument_alone_is_found(torch, x):
    def backward(ctx, bar):
        x, y = ctx.saved_tensors
        first = bar * y if ctx.needs_input_grad[0] else None
        return first, bar * x + 0 * first

    found = outcome(function(torch, keep, backward), x, x + 1)
    assert [f.cause for f in found.findings] == ["subset"]
    assert "raises TypeError" in found.findings[0].message


@pytest.mark.parametrize("checked", [True, False])
def test_an_undefined_cotangent_that_is_not_expected_is_found(torch, x, checked):
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        return 2 * x, 3 * x

    def careless(ctx, first, second):
        return 2 * first + 3 * second

    def careful(ctx, first, second):
        parts = [k * g for k, g in ((2, first), (3, second)) if g is not None]
        return sum(parts) if parts else None

    found = outcome(function(torch, forward, careful if checked else careless), x)
    assert [f.cause for f in found.findings] == ([] if checked else ["subset"])


def test_a_cotangent_dropped_where_another_is_undefined_is_found(torch, x):
    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        return 2 * x, 3 * x

    def backward(ctx, first, second):
        return None if first is None or second is None else 2 * first + 3 * second

    found = outcome(function(torch, forward, backward), x)
    assert [f.cause for f in found.findings] == ["subset"]


def test_zeros_that_do_not_give_zeros_are_found(torch, x):
    f = function(torch, lambda ctx, x: x / x.norm(), lambda ctx, bar: bar / bar.norm())
    found = outcome(f, x)
    assert [f.cause for f in found.findings] == ["subset"]
    assert "zeros" in found.findings[0].message


def test_a_jax_rule_that_looks_at_which_inputs_are_perturbed_is_found(jax):
    jnp = jax.numpy

    @jax.custom_vjp
    def f(x, y):
        return x * y

    def fwd(x, y):
        both = x.perturbed and y.perturbed
        return x.value * y.value, (x.value, y.value, both)

    def bwd(res, bar):
        x, y, both = res
        return bar * y, bar * x if both else 0 * x

    f.defvjp(fwd, bwd, symbolic_zeros=True)
    found = outcome(f, jnp.asarray(X), jnp.asarray(X))
    assert [f.cause for f in found.findings] == ["subset"]


def test_a_rule_that_takes_one_unused_output_for_all_is_found(jax):
    zero = jax.custom_derivatives.SymbolicZero

    @jax.custom_vjp
    def both(x):
        return x.mean(), (x**2).sum()

    def back(x, bars):
        if any(type(bar) is zero for bar in bars):
            return (0 * x,)
        return (bars[0] / x.size + 2 * x * bars[1],)

    both.defvjp(lambda x: (both(x.value), x.value), back, symbolic_zeros=True)
    assert [f.cause for f in outcome(both, jax.numpy.asarray(X)).findings] == ["subset"]

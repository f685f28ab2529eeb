"""`memory`: what stays alive after the graph is gone is found."""

import collections

import numpy as np
import pytest

import diptych
from diptych.proof.check import check

X = np.random.default_rng(0).normal(size=(4, 3))


def outcome(f, *args):
    report = check(f, *args, claims=["memory"], neighbours=False)
    return next(o for o in report.outcomes if o.claim == "memory")


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


def test_sound_functions_leave_nothing(torch, x):
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    for f, given in [
        (torch.relu, x),
        (lambda x: {"out": x.softmax(-1), "index": x.argmax(0)}, x),
        (lambda x: torch.nn.functional.dropout(x), x),
        (net, x.float()),
    ]:
        assert outcome(f, given).status == "pass"


def test_a_cache_of_bounded_size_is_no_leak(torch, x):
    last = {}

    def f(x):
        last["x"] = x.detach().clone()
        return x.sin()

    assert outcome(f, x).status == "pass"


@pytest.mark.parametrize("length", [1, 3, 5])
def test_the_last_few_calls_kept_are_no_leak(torch, x, length):
    # Tensors of the calls before are freed, so that their addresses are taken again by chance.
    last = collections.deque(maxlen=length)

    def f(x):
        last.append([x, *(x.detach() * i for i in range(4))])
        return x.sin()

    assert outcome(f, x).status == "pass"


def test_what_the_backward_alone_keeps_is_found(torch, x):
    kept = []

    def backward(ctx, bar):
        kept.append(bar.clone())
        return bar * ctx.saved_tensors[0].cos()

    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    found = outcome(function(torch, forward, backward), x)
    assert [f.cause for f in found.findings] == ["kept alive"]


def test_residual_bytes_are_counted_on_ctx_too(torch, x):
    def forward(ctx, x):
        ctx.save_for_backward(x.exp())
        ctx.more = x.cos()
        return x.sin()

    def backward(ctx, bar):
        return bar * ctx.more

    found = outcome(function(torch, forward, backward), x)
    assert found.data == {"residual_bytes": 2 * X.nbytes, "input_output_bytes": 2 * X.nbytes}
    assert "192 bytes" in found.note


def test_an_output_kept_on_ctx_is_found(torch, x):
    # A cycle from the output to its node and back.
    def forward(ctx, x):
        ctx.out = x.exp()
        return ctx.out

    found = outcome(function(torch, forward, lambda ctx, bar: bar * ctx.out), x)
    assert [f.cause for f in found.findings] == ["kept alive"]


def test_a_global_list_is_found(torch, x):
    kept = []

    def forward(ctx, x):
        kept.append(x.cos())
        return x.sin()

    found = outcome(function(torch, forward, lambda ctx, bar: bar * kept[-1]), x)
    assert [f.cause for f in found.findings] == ["kept alive"]


def test_sound_jax_functions_leave_nothing(jax):
    jnp = jax.numpy
    for f in (
        jax.nn.relu,
        lambda x: {"a": x @ x.T, "i": x.argmax()},
        lambda x: jax.jit(jnp.sin)(x),
    ):
        assert outcome(f, jnp.asarray(X)).status == "pass"


def test_arrays_and_tracers_kept_in_a_list_are_found(jax):
    jnp = jax.numpy
    kept = []

    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    def fwd(x):
        kept.append(jnp.cos(x))
        return jnp.sin(x), x

    f.defvjp(fwd, lambda x, bar: (bar * jnp.cos(x),))
    assert [f.cause for f in outcome(f, jnp.asarray(X)).findings] == ["kept alive"]


def test_a_sound_rule_leaves_nothing():
    @diptych.rule
    def f(x):
        return x * x

    f.vjp(lambda res, bar: 2 * bar * res.x)
    report = check(f, X, claims=["memory"], neighbours=False)
    assert report.ok, report

"""`vmap`: batches equal loops, and what does not is found."""

import numpy as np
import pytest

import diptych
from diptych.proof.check import check


def outcome(f, *args, claim="vmap", **options):
    report = check(f, *args, claims=[claim], neighbours=False, **options)
    return next(o for o in report.outcomes if o.claim == claim)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def jax():
    return pytest.importorskip("jax")


def function(torch, forward, backward, jvp=None, vmap=None):
    """Returns a composable autograd.Function of these parts."""
    parts = {
        "forward": staticmethod(forward),
        "setup_context": staticmethod(lambda ctx, inputs, out: _keep(ctx, inputs)),
        "backward": staticmethod(backward),
    }
    if jvp:
        parts["jvp"] = staticmethod(jvp)
    if vmap:
        parts["vmap"] = staticmethod(vmap)
    else:
        parts["generate_vmap_rule"] = True
    return type("Planted", (torch.autograd.Function,), parts)


def _keep(ctx, inputs):
    ctx.save_for_backward(*inputs)
    ctx.save_for_forward(*inputs)


X = np.random.default_rng(0).normal(size=(4, 3))


@pytest.mark.parametrize(
    "name", ["relu", "matmul", "solve", "softmax", "integers", "tree", "indexed", "complex"]
)
def test_sound_torch_functions_pass(torch, name):
    x = torch.from_numpy(X)
    square = x[:3] + 3 * torch.eye(3)
    cases = {
        "relu": (lambda x: torch.relu(x), x),
        "matmul": (lambda x, y: x @ y, x, x.T.clone()),
        "solve": (lambda a, b: torch.linalg.solve(a, b), square, x[0]),
        "softmax": (lambda x: torch.softmax(x, -1), x),
        "integers": (lambda x: (x.max(0).values, x.argmax(0)), x),
        "tree": (lambda d: {"out": d["a"] * d["b"][0], "sum": d["a"].sum()}, {"a": x, "b": [x]}),
        "indexed": (lambda x, i: x[i], x, torch.tensor([0, 2, 2])),
        "complex": (lambda x: x * x.conj() * x, x + 1j * x.flip(0)),
    }
    found = outcome(*cases[name])
    assert found.status == "pass", found


@pytest.mark.parametrize("name", ["relu", "matmul", "integers", "indexed", "key"])
def test_sound_jax_functions_pass(jax, name):
    jnp = jax.numpy
    x = jnp.asarray(X)
    noise = jax.random.PRNGKey(0)
    cases = {
        "relu": (lambda x: jax.nn.relu(x), x),
        "matmul": (lambda x, y: x @ y, x, x.T),
        "integers": (lambda x: (x.max(0), x.argmax(0)), x),
        "indexed": (lambda x, i: x[i], x, jnp.array([0, 2, 2])),
        "key": (lambda x: x * jax.random.normal(noise, x.shape), x),
    }
    found = outcome(*cases[name])
    assert found.status == "pass", found


def test_a_sound_rule_passes_on_every_framework():
    @diptych.rule
    def f(x, y):
        return (x * y).sum()

    @f.vjp
    def f_vjp(res, bar):
        return bar * res.y, bar * res.x

    report = check(f, X, X + 1, claims=["vmap"], neighbours=False)
    assert report.ok, report


def test_random_functions_are_skipped_with_the_reason(torch):
    found = outcome(lambda x: torch.nn.functional.dropout(x, 0.5), torch.from_numpy(X))
    assert found.status == "skipped"
    assert "random" in found.note


def test_a_module_with_batch_statistics_passes(torch):
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    found = outcome(net, torch.from_numpy(X).float())
    assert not found.findings
    assert "no vmap rule" in found.note


def test_a_function_without_vmap_support_is_no_finding(torch):
    class Old(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, bar):
            return 2 * bar * ctx.saved_tensors[0]

    found = outcome(Old, torch.from_numpy(X))
    assert not found.findings
    assert "torch.func" in found.note


def test_a_vmap_method_that_ignores_the_axis_is_found(torch):
    f = function(
        torch,
        lambda x: x.sum(0),
        lambda ctx, bar: bar.expand(ctx.saved_tensors[0].shape),
        vmap=lambda info, dims, x: (x.sum(1), 0),
    )
    found = outcome(f, torch.from_numpy(X))
    assert [x.cause for x in found.findings] == ["not batched"]


def test_a_backward_that_sums_over_the_batch_is_found(torch):
    def backward(ctx, bar):
        (x,) = ctx.saved_tensors
        return 2 * bar * x * (1 if bar.dim() < 3 else 2)

    class Planted(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return x * x

        @staticmethod
        def setup_context(ctx, inputs, out):
            _keep(ctx, inputs)

        @staticmethod
        def vmap(info, dims, x):
            return Planted.apply(x.movedim(dims[0], 0)), 0

    Planted.backward = staticmethod(backward)
    found = outcome(Planted, torch.from_numpy(X))
    assert "not batched" in [x.cause for x in found.findings]


def test_a_batched_cotangent_read_by_its_shape_is_found(torch):
    class Planted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.exp()

        @staticmethod
        def backward(ctx, bar):
            functorch = torch._C._functorch
            first = functorch.is_batchedtensor(bar) or functorch.is_legacy_batchedtensor(bar)
            return bar * ctx.saved_tensors[0].exp() * (0 if first else 1)

    found = outcome(Planted, torch.from_numpy(X))
    assert [x.cause for x in found.findings] == ["not batched"]
    assert "jacrev" in found.findings[0].message


def test_a_shared_argument_whose_cotangent_misses_a_batch_is_found(jax):
    jnp = jax.numpy

    @jax.custom_batching.custom_vmap
    def inner(x, w):
        return x * w

    @inner.def_vmap
    def rule(size, batched, x, w):
        w = w if batched[1] else w + 0.5
        return x * w, True

    found = outcome(lambda x, w: inner(x, w), jnp.asarray(X), jnp.asarray(X))
    assert [x.cause for x in found.findings][:1] == ["not batched"]
    assert "None" in found.findings[0].message


def test_an_operator_that_cannot_be_mapped_is_no_finding(torch):
    # The derivative of its fused kernel writes in place, which vmap refuses for shared weights.
    found = outcome(torch.nn.GRUCell(3, 5).double(), torch.ones(2, 3).double())
    assert found.findings == []
    assert found.note

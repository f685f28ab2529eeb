"""`compile`: compiled code gives what eager code gives, and what does not is found."""

import numpy as np
import pytest

from diptych.proof.check import check

X = np.random.default_rng(0).normal(size=(4, 3))


def outcome(f, *args, **options):
    report = check(f, *args, claims=["compile"], neighbours=False, **options)
    return next(o for o in report.outcomes if o.claim == "compile")


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def jax():
    return pytest.importorskip("jax")


def test_it_may_be_left_out(torch):
    found = outcome(torch.sin, torch.from_numpy(X), compile=False)
    assert found.status == "skipped"


def test_sound_torch_functions_pass_with_the_seconds_apart(torch):
    x = torch.from_numpy(X)
    for f in (torch.relu, lambda x: (x.max(0).values, x.argmax(0)), lambda x: x @ x.T):
        found = outcome(f, x)
        assert found.status == "pass"
        assert "s of compiling" in found.note


def test_a_module_with_batch_statistics_passes(torch):
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    assert not outcome(net, torch.from_numpy(X).float()).findings


def test_a_random_function_is_no_finding(torch):
    assert not outcome(lambda x: torch.nn.functional.dropout(x), torch.from_numpy(X)).findings


def test_sound_jax_functions_pass(jax):
    jnp = jax.numpy
    x = jnp.asarray(X)
    for f in (jax.nn.relu, lambda x: (x.max(0), x.argmax(0)), lambda x: x @ x.T):
        found = outcome(f, x)
        assert found.status == "pass", found


def test_a_function_that_looks_at_values_is_skipped(jax):
    found = outcome(lambda x: x * (2.0 if float(x[0, 0]) > 0 else 3.0), jax.numpy.asarray(X))
    assert found.status == "skipped"
    assert "traceable" in found.note


def test_a_constant_of_the_first_trace_is_found(jax):
    jnp = jax.numpy
    seen = {}

    def f(x):
        if not isinstance(x, jax.core.Tracer):
            return 2.0 * x
        seen.setdefault("calls", 0)
        return 3.0 * x

    found = outcome(f, jnp.asarray(X))
    assert "compiled differently" in [x.cause for x in found.findings]


def test_a_backward_that_the_compiler_drops_is_found(torch):
    # pytorch/pytorch#192985
    class Planted(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return x.clamp(-0.5, 0.5)

        @staticmethod
        def setup_context(ctx, inputs, out):
            pass

        @staticmethod
        def backward(ctx, bar):
            return bar

    found = outcome(Planted, torch.from_numpy(X), intentional="straight through")
    assert [x.cause for x in found.findings] == ["compiled differently"]
    assert "inside compiled code" in found.findings[0].message


def test_more_compilations_than_dynamos_limit_are_still_compiled(torch):
    class Planted(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return x.clamp(-0.5, 0.5)

        @staticmethod
        def setup_context(ctx, inputs, out):
            pass

        @staticmethod
        def backward(ctx, bar):
            return bar

    for _ in range(10):
        assert outcome(Planted, torch.from_numpy(X), intentional=True).findings


def test_dynamo_leaves_no_log_level_behind(torch):
    import logging

    before = logging.getLogger("torch._dynamo").level
    outcome(torch.sin, torch.from_numpy(X))
    assert logging.getLogger("torch._dynamo").level == before


def test_an_operator_whose_fake_has_another_shape_is_found(torch):
    @torch.library.custom_op("diptych_test_compiling::rows", mutates_args=())
    def rows(x: torch.Tensor) -> torch.Tensor:
        return x.sum(1)

    rows.register_fake(lambda x: x.new_empty(x.shape))
    rows.register_autograd(
        lambda ctx, bar: bar[:, None].expand(ctx.shape),
        setup_context=lambda ctx, inputs, output: setattr(ctx, "shape", inputs[0].shape),
    )
    assert outcome(rows, torch.from_numpy(X)).findings

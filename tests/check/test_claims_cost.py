"""`cost`: what a derivative costs is reported, and flagged only where it is far too much."""

import importlib

import numpy as np
import pytest

from diptych.proof.check import check

cost = importlib.import_module("diptych.proof.claims.cost")  # the function has its name

X = np.random.default_rng(0).normal(size=(4, 3))


def outcome(f, *args, **options):
    report = check(f, *args, claims=["cost"], neighbours=False, **options)
    return next(o for o in report.outcomes if o.claim == "cost")


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def jax():
    return pytest.importorskip("jax")


def test_sound_torch_functions_are_reported(torch):
    x = torch.from_numpy(X)
    for f, args in [
        (torch.relu, (x,)),
        (lambda x, y: x @ y, (x, x.T.clone())),
        (lambda x: x[:1], (x,)),
        (lambda x, i: x[i], (x, torch.tensor([0, 2]))),
    ]:
        found = outcome(f, *args)
        assert found.status == "reported"
        assert found.note.startswith("VJP ")
        assert set(found.data["seconds"]) == {"primal", "vjp", "jvp"}


@pytest.fixture
def counted(torch, monkeypatch):
    """Replaces the clock by a count of PyTorch's operations: no test hangs on time."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Work(TorchDispatchMode):
        seconds = 0.0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                self.seconds += 2e-6 + 1e-8 * out.numel()
            return out

    def seconds(run):
        with Work() as work:
            run()
        return work.seconds, work.seconds

    monkeypatch.setattr(cost, "_seconds", seconds)


def test_a_loop_over_entries_in_the_backward_is_found(torch, counted):
    class Planted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        def backward(ctx, bar):
            (x,) = ctx.saved_tensors
            found = torch.zeros_like(x)
            for _ in range(60):  # the same again and again
                found = bar * x.cos()
            return found

    x = torch.from_numpy(np.random.default_rng(0).normal(size=(64, 32)))
    assert [f.cause for f in outcome(Planted, x).findings] == ["costly"]
    far = outcome(Planted, torch.from_numpy(X))
    assert far.status == "reported"
    assert far.data["scale"] > 64


def test_the_cost_of_calling_is_not_counted(torch):
    class Planted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        def backward(ctx, bar):
            sum(range(20_000))  # always as long, whatever the size
            return bar * ctx.saved_tensors[0].cos()

    assert outcome(Planted, torch.from_numpy(X)).status == "reported"


def test_flops_of_jax_functions_are_reported(jax):
    found = outcome(lambda x, y: x @ y, jax.numpy.asarray(X), jax.numpy.asarray(X.T))
    assert found.status == "reported"
    assert 2.9 < found.data["flops"]["vjp"] / found.data["flops"]["primal"] < 3.1
    assert "FLOPs 3.0 times" in found.note


def test_without_compiling_jax_functions_have_flops_alone(jax):
    found = outcome(jax.numpy.tanh, jax.numpy.asarray(X), compile=False)
    assert found.note.startswith("FLOPs")
    assert not found.data["seconds"]


@pytest.mark.parametrize(("vjp", "flagged"), [(3e-3, False), (9e-3, False), (3e-2, True)])
def test_a_jax_backward_is_flagged_by_its_time(jax, monkeypatch, vjp, flagged):
    times = {"primal": 1e-3, "vjp": vjp, "jvp": 2e-3, "touch": 1e-5}
    measured = {name: [(seconds, seconds)] * 5 for name, seconds in times.items()}
    monkeypatch.setattr(cost, "_measured", lambda *args, **options: measured)
    found = outcome(jax.numpy.sin, jax.numpy.asarray(X))
    assert [f.cause for f in found.findings] == (["costly"] if flagged else [])


def test_a_jacobian_built_in_jax_is_found_by_its_flops_alone(jax):
    jnp = jax.numpy

    @jax.custom_vjp
    def f(x):
        return jnp.cumsum(jnp.sin(x))

    def bwd(x, bar):
        return (jax.jacfwd(lambda x: jnp.cumsum(jnp.sin(x)))(x).T @ bar,)

    f.defvjp(lambda x: (f(x), x), bwd)
    x = jnp.asarray(np.random.default_rng(0).normal(size=300))
    assert [f.cause for f in outcome(f, x, compile=False).findings] == ["costly"]


def test_operations_of_libraries_are_not_counted_against_a_derivative(jax):
    jnp = jax.numpy
    a = jnp.eye(30) + 0.1
    found = outcome(lambda a: jnp.linalg.eigh(a + a.T)[0], a, compile=False)
    assert not found.findings


def test_time_is_taken_on_one_thread(torch):
    seen = []

    def f(x):
        seen.append(torch.get_num_threads())
        return x.sin()

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        outcome(f, torch.from_numpy(X), compile=False)
        assert 1 in seen
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)

"""`honoured`: transforms that ignore a derivative, or answer zero, are named."""

import numpy as np
import pytest

import diptych
from diptych.proof.check import check
from diptych.proof.probes import Transform
from diptych.proof.witness import times

X = np.random.default_rng(0).normal(size=(2, 3))


def outcome(f, *args, **options):
    options = {"compile": False, **options}
    report = check(f, *args, claims=["honoured"], neighbours=False, **options)
    return next(o for o in report.outcomes if o.claim == "honoured")


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def x(torch):
    return torch.from_numpy(X.copy())


@pytest.fixture
def jax():
    return pytest.importorskip("jax")


def rules():
    @diptych.rule
    def by_vjp(x):
        return x**3

    by_vjp.vjp(lambda res, bar: 3 * bar * res.x**2)

    @diptych.rule
    def by_jvp(x):
        return x**3

    by_jvp.jvp(lambda res, dot: 3 * dot * res.x**2)

    @diptych.rule
    def by_partials(x):
        return x**3

    by_partials.partials(lambda res: 3 * res.x**2)

    @diptych.rule
    def by_both(x):
        return x**3

    by_both.fwd(lambda x: (x**3, x * x))
    by_both.vjp(lambda res, bar: 3 * bar * res)
    by_both.jvp(lambda res, dot: 3 * dot * res)
    return {f.__name__: f for f in (by_vjp, by_jvp, by_partials, by_both)}


def cube(torch, **more):
    """Returns a composable Function."""

    def keep(ctx, inputs, out):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    parts = {
        "forward": staticmethod(lambda x: x**3),
        "setup_context": staticmethod(keep),
        "backward": staticmethod(lambda ctx, bar: 3 * bar * ctx.saved_tensors[0] ** 2),
        **{name: staticmethod(part) for name, part in more.items()},
    }
    if "vmap" not in more:
        parts["generate_vmap_rule"] = True
    return type("Cube", (torch.autograd.Function,), parts)


def test_a_witness_scales_every_tree_and_nothing_else():
    assert times(2, None) is None
    assert times(2, (1.0, [None, {"a": 3.0}])) == (2.0, [None, {"a": 6.0}])
    assert times(3, lambda: 2.0)() == 6.0


@pytest.mark.parametrize("name", ["by_vjp", "by_jvp", "by_partials", "by_both"])
def test_rules_are_honoured_by_every_transform(name):
    report = check(rules()[name], X, claims=["honoured"], neighbours=False, compile=False)
    assert report.ok, report
    for found in report.outcomes:
        count = int(found.note.split()[0])
        assert count >= 14, found  # of which some are forward mode


@pytest.mark.slow
def test_rules_are_honoured_by_compiled_transforms(torch):
    report = check(rules()["by_vjp"], X, claims=["honoured"], neighbours=False)
    assert report.ok, report


def test_plain_functions_have_nothing_to_honour(torch, x):
    assert outcome(torch.relu, x).status == "skipped"


def test_custom_functions_of_jax_are_honoured(jax):
    jnp = jax.numpy

    @jax.custom_vjp
    def f(x):
        return x**3

    f.defvjp(lambda x: (x**3, x), lambda x, bar: (3 * bar * x**2,))
    found = outcome(f, jnp.asarray(X))
    assert found.status == "pass"
    assert found.note.startswith("7 transforms")

    @jax.custom_jvp
    def g(x):
        return x**3

    g.defjvp(lambda primals, dots: (primals[0] ** 3, 3 * dots[0] * primals[0] ** 2))
    found = outcome(g, jnp.asarray(X))
    assert found.status == "pass"
    assert found.note.startswith("14 transforms")


@pytest.mark.slow
def test_custom_functions_of_jax_are_honoured_in_compiled_loops(jax):
    @jax.custom_jvp
    def g(x):
        return x**3

    g.defjvp(lambda primals, dots: (primals[0] ** 3, 3 * dots[0] * primals[0] ** 2))
    found = outcome(g, jax.numpy.asarray(X), compile=True)
    assert found.status == "pass"
    assert found.note == "27 transforms honour it"


def test_a_function_of_pytorch_is_honoured_outside_compiled_code(torch, x):
    assert outcome(cube(torch), x).status == "pass"


def test_forward_over_forward_of_a_function_is_named(torch, x):
    f = cube(torch, jvp=lambda ctx, dot: 3 * dot * ctx.saved_tensors[0] ** 2)
    found = outcome(f, x)
    assert found.status == "pass"  # it is so for every Function, whoever wrote it
    assert "jvp(jvp) and jacfwd(jacfwd) give zero" in found.note
    assert "197867" in found.note


def test_compiled_transforms_that_drop_every_function_are_named(torch, x):
    found = outcome(cube(torch), x, compile=True)
    assert found.status == "pass"  # the body's derivative is the same: no number is wrong
    assert "torch.compile of torch.func.grad" in found.note
    assert "192985" in found.note


def test_compiled_transforms_that_give_another_number_are_found(torch, x):
    class Straight(cube(torch)):
        @staticmethod
        def forward(x):
            return torch.round(x)

        @staticmethod
        def backward(ctx, bar):
            return 1 * bar

    (finding,) = outcome(Straight, x, compile=True, intentional=True).findings
    assert finding.cause == "bypassed"
    assert "torch.compile of torch.func.grad" in finding.message
    assert "192985" in finding.message
    assert "At this point the body's own derivative is another one." in finding.message


def test_compiled_transforms_that_give_another_number_elsewhere_are_found(torch, x):
    class Sinc(cube(torch)):
        @staticmethod
        def forward(x):
            return torch.where(x == 0, torch.ones_like(x), torch.sin(x) / x)

        @staticmethod
        def backward(ctx, bar):
            (x,) = ctx.saved_tensors
            safe = torch.where(x == 0, torch.ones_like(x), x)
            slope = (safe * torch.cos(safe) - torch.sin(safe)) / safe**2
            return bar * torch.where(x == 0, torch.zeros_like(x), slope)

    (finding,) = outcome(Sinc, x, compile=True).findings
    assert "zero) the body's own derivative is another one." in finding.message


def test_a_vmap_method_that_leaves_the_function_is_named(torch, x):
    f = cube(torch, vmap=lambda info, dims, x: (x.movedim(dims[0], 0) ** 3, 0))
    (finding,) = outcome(f, x).findings
    assert finding.cause == "bypassed"
    assert finding.message.startswith("grad(vmap) ignores")
    assert "bug" not in finding.message


def test_an_in_place_function_is_tried_on_copies(torch, x):
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            return x.mul_(2)

        @staticmethod
        def backward(ctx, bar):
            return 2 * bar

    found = outcome(Twice, x)
    assert found.status == "pass"
    assert int(found.note.split()[0]) >= 8


def test_an_intentional_derivative_is_honoured(torch, x):
    class Round(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return torch.round(x)

        @staticmethod
        def backward(ctx, bar):
            return bar

    assert outcome(Round, x, intentional=True).status == "pass"


@pytest.mark.parametrize(("factor", "cause"), [(1, "bypassed"), (0, "zero"), (2, None)])
def test_a_transform_is_judged_by_the_factor(jax, monkeypatch, factor, cause):
    @jax.custom_vjp
    def f(x):
        return x**3

    f.defvjp(lambda x: (x**3, x), lambda x, bar: (3 * bar * x**2,))
    from diptych.backends.jax.proof import prober

    grad = prober.transforms()[0]
    planted = Transform("planted", "reverse", lambda p: factor / 2 * grad.run(p))
    monkeypatch.setattr(type(prober), "transforms", lambda self: [grad, planted])
    found = outcome(f, jax.numpy.asarray(X))
    assert [x.cause for x in found.findings] == ([cause] if cause else [])


def test_a_vmap_rule_that_calls_its_own_class_is_honoured(torch, x):
    class Outer(torch.autograd.Function):
        @staticmethod
        def forward(x, y):
            return x[..., :, None] * y[..., None, :]

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, bar):
            x, y = ctx.saved_tensors
            return (bar * y[..., None, :]).sum(-1), (bar * x[..., :, None]).sum(-2)

        @staticmethod
        def vmap(info, in_dims, x, y):
            return Outer.apply(x.movedim(in_dims[0], 0), y.movedim(in_dims[1], 0)), 0

    found = outcome(Outer.apply, x[0].clone(), x[1].clone())
    assert found.status == "pass", found

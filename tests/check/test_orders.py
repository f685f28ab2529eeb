"""Higher orders: what is lost when a first derivative is right and its own derivative is not."""

import numpy as np
import pytest
from kinds import check, every_framework, example, product

import diptych

torch = pytest.importorskip("torch", reason="most hand-written slips are PyTorch's")


class Sinh(torch.autograd.Function):
    """Keeps an intermediate on ctx (pytorch/pytorch#104040)."""

    @staticmethod
    def forward(ctx, x):
        ctx.e = torch.exp(x)
        return (ctx.e - 1 / ctx.e) / 2

    @staticmethod
    def backward(ctx, bar):
        return bar * (ctx.e + 1 / ctx.e) / 2


class Detached(torch.autograd.Function):
    """Computes its gradient on detached tensors."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, bar):
        (x,) = ctx.saved_tensors
        return bar * 3 * x.detach() ** 2


class Once(torch.autograd.Function):
    """Says that it is differentiable once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, bar):
        (x,) = ctx.saved_tensors
        return bar * 3 * x**2


class Right(torch.autograd.Function):
    """Is right at every order."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, bar):
        (x,) = ctx.saved_tensors
        return bar * 3 * x**2


@pytest.mark.parametrize("function", [Sinh, Detached])
def test_a_detached_second_derivative_is_found(function):
    report = check(function, example()[0], frameworks="torch", claims=["vjp", "order"])
    assert [(f.claim, f.cause) for f in report.findings] == [("order", "detached")]
    assert "reverse over reverse" in report.findings[0].message


def test_once_differentiable_is_reported_unless_the_order_is_asked_for():
    x = example()[0]
    assert not check(Once, x, claims=["vjp", "order"]).findings
    report = check(Once, x, claims=["vjp", "order"], order=2)
    assert [f.claim for f in report.findings] == ["order"]


@pytest.mark.parametrize("order", [2, 3, 4])
def test_right_at_every_order(order):
    assert check(Right, example()[0], claims=["order"], order=order).ok


@every_framework
@pytest.mark.parametrize("order", [2, 3])
def test_rules_are_right_in_every_nesting(framework, order):
    report = check(product(), *example(), frameworks=framework, claims=["order"], order=order)
    assert report.ok
    assert not report.outcomes[0].note


@every_framework
def test_a_wrong_third_derivative_is_found(framework):
    @diptych.rule
    def curvature(x, bar):  # the second derivative of the cube, stated as zero
        return 3 * x**2 * bar

    curvature.vjp(lambda res, out_bar: (5 * res.x * res.bar * out_bar, 3 * res.x**2 * out_bar))

    @diptych.rule
    def cube(x):
        return x**3

    cube.vjp(lambda res, bar: curvature(res.x, bar))
    x = example()[0]
    assert check(cube, x, frameworks=framework, claims=["vjp"]).ok
    report = check(cube, x, frameworks=framework, claims=["order"])
    assert report.findings


@every_framework
def test_a_linear_function_has_no_second_derivative(framework):
    @diptych.rule(linear=True)
    def double(x):
        return 2 * x

    assert check(double, example()[0], frameworks=framework, claims=["order"]).ok


@every_framework
def test_complex_arguments(framework):
    @diptych.rule
    def square_of_size(z):
        xp = diptych.namespace(z)
        return xp.real(z) ** 2 + xp.imag(z) ** 2

    square_of_size.vjp(lambda res, bar: 2 * bar * res.z)
    x, y = example()
    report = check(square_of_size, x + 1j * y, frameworks=framework, order=2)
    assert report.ok, report
    square_of_size.vjp(lambda res, bar: 2 * bar * diptych.namespace(bar).conj(res.z))
    report = check(square_of_size, x + 1j * y, frameworks=framework, claims=["vjp"])
    assert [f.cause for f in report.findings] == ["conjugate"]
    assert np.iscomplexobj(report.findings[0].expected)


def sine_of_jax(jax, kind, anew):
    """Returns sin with three times its slope, and whether the rule computes its value anew."""
    jnp = jax.numpy

    def value(x):
        return jnp.sin(x) if anew else f(x)

    if kind == "custom_jvp":
        f = jax.custom_jvp(jnp.sin)
        f.defjvp(lambda xs, dots: (value(xs[0]), 3 * jnp.cos(xs[0]) * dots[0]))
    else:
        f = jax.custom_vjp(jnp.sin)
        f.defvjp(lambda x: (value(x), x), lambda x, bar: (3 * jnp.cos(x) * bar,))
    return f


@pytest.mark.parametrize("kind", ["custom_jvp", "custom_vjp"])
def test_a_rule_that_computes_its_value_anew_is_lost_where_that_is_used(kind):
    jax = pytest.importorskip("jax")
    x = jax.numpy.asarray([0.5, 1.2])
    meant = lambda x: 3 * jax.numpy.sin(x)  # noqa: E731
    options = {"claims": ["order"], "neighbours": False, "reference": meant}
    assert check(sine_of_jax(jax, kind, anew=False), x, **options).ok
    (finding,) = check(sine_of_jax(jax, kind, anew=True), x, **options).findings
    assert finding.cause == "bypassed"
    assert "let its JVP, or its `fwd`, call sin itself" in finding.message
    assert finding.measured != pytest.approx(finding.expected, rel=0.1)


@pytest.mark.parametrize("name", ["by_jvp", "by_vjp", "by_both"])
def test_rules_are_not_lost_where_their_value_is_used(name):
    pytest.importorskip("torch")

    @diptych.rule
    def cube(x):
        return x**3

    if name != "by_vjp":
        cube.jvp(lambda res, dot: 7 * res.x**2 * dot)
    if name != "by_jvp":
        cube.vjp(lambda res, bar: 7 * res.x**2 * bar)
    x = np.array([0.5, -1.2])
    options = {"reference": lambda x: 7 * x**3 / 3, "frameworks": "torch"}
    assert check(cube, x, claims=["order"], neighbours=False, **options).ok


def test_values_between_which_there_are_none_are_no_finding():
    negative_binomial = torch.distributions.NegativeBinomial

    def log_prob(count, logits):  # raises where a count is no integer
        return negative_binomial(3.0, logits=logits, validate_args=True).log_prob(count)

    count, logits = torch.tensor([1.0, 2, 4]).double(), torch.tensor([0.2, -0.5, 0.9]).double()
    report = check(log_prob, count, logits, claims=["order", "purity", "dtypes"])
    assert report.ok, report


def test_an_operator_without_a_second_derivative_is_no_finding():
    class Refused(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, bar):
            if torch.is_grad_enabled() and bar.requires_grad:
                raise RuntimeError("no second derivative")
            return bar

    (found,) = check(
        lambda x: Refused.apply(x) ** 2, torch.ones(3).double(), claims=["order"]
    ).outcomes
    assert found.findings == []
    assert "no second derivative" in found.note


def test_a_wrong_first_derivative_is_not_called_right():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            ctx.e = torch.exp(x)
            return x * ctx.e

        @staticmethod
        def backward(ctx, bar):
            (x,) = ctx.saved_tensors
            return 3 * bar * (1 + x) * ctx.e

    report = check(Wrong.apply, torch.tensor([0.3, 1.0, 2.0]).double(), claims=["vjp", "order"])
    (second,) = [f for f in report.findings if f.claim == "order"][:1]
    assert "is right by itself" not in second.message
    assert "mend that first" in second.message

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

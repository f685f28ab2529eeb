"""Second derivatives that are wrong at variations of the example alone, and those that are not."""

import numpy as np
import pytest
from kinds import check, every_framework

import diptych

X = np.array([0.5, -0.3, 1.2])


def _exprel(guarded):
    """Returns `(exp(x) - 1) / x`, whose derivative divides zero by zero at 0, unless guarded."""

    @diptych.rule
    def exprel(x):
        xp = diptych.namespace(x)
        safe = xp.where(x == 0, 1.0, x)
        return xp.where(x == 0, 1.0, xp.expm1(safe) / safe)

    def slope(x):
        xp = diptych.namespace(x)
        near = xp.abs(x) < 1e-2
        series = 1 / 2 + x / 3 + x**2 / 8 + x**3 / 30 + x**4 / 144 + x**5 / 840
        far = xp.where(near, 1.0, x) if guarded else x
        return xp.where(near, series, ((far - 1) * xp.exp(far) + 1) / far**2)

    exprel.vjp(lambda res, bar: bar * slope(res.x))
    return exprel


@every_framework
def test_a_branch_that_is_not_taken_spoils_the_second_derivative_at_zero(framework):
    options = {"frameworks": framework, "claims": ["vjp", "order"]}
    report = check(_exprel(guarded=False), X, neighbours=True, budget=60.0, **options)
    assert ("order", "not finite") in {(f.claim, f.cause) for f in report.findings}
    assert "one entry zero" in report.findings[0].neighbour
    assert check(_exprel(guarded=False), X, **options).ok
    assert check(_exprel(guarded=True), X, neighbours=True, budget=60.0, **options).ok


@every_framework
def test_what_is_wrong_just_at_the_example_is_not_taken_for_rounding(framework):
    @diptych.rule
    def half_square(x):
        return x**2 / 2

    def slope(x):  # as it is, with a slope of its own that is zero at zero alone
        xp = diptych.namespace(x)
        return xp.where(x == 0, 0.0, x)

    half_square.vjp(lambda res, bar: bar * slope(res.x))
    options = {"frameworks": framework, "claims": ["vjp", "order"]}
    report = check(half_square, np.array([0.0, -0.3, 1.2]), **options)
    assert {f.claim for f in report.findings} == {"order"}
    assert check(half_square, X, **options).ok


@every_framework
def test_no_second_derivative_where_the_first_has_a_kink(framework):
    @diptych.rule
    def relu_squared(x):
        xp = diptych.namespace(x)
        return xp.where(x > 0, x, 0.0) ** 2 / 2

    relu_squared.vjp(lambda res, bar: bar * diptych.namespace(res.x).where(res.x > 0, res.x, 0.0))
    options = {"frameworks": framework, "claims": ["order"], "neighbours": True, "budget": 60.0}
    for x in (X, np.zeros(3), np.zeros(8), np.array([0.0, 1.0, -1.0])):
        assert check(relu_squared, x, **options).ok


def test_signs_flipped_bring_the_other_branch():
    torch = pytest.importorskip("torch")

    class Elu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = torch.where(x > 0, x, torch.expm1(x))
            ctx.save_for_backward(x, y)
            return y

        @staticmethod
        def backward(ctx, bar):
            x, y = ctx.saved_tensors
            return bar * torch.where(x > 0, torch.ones_like(x), y.detach() + 1)

    x = torch.tensor([0.5, 0.3, 1.2], dtype=torch.float64)
    report = diptych.check(Elu, x, claims=["vjp", "order"], budget=60.0)
    assert "signs flipped" in next(f.neighbour for f in report.findings if f.claim == "order")


@every_framework
@pytest.mark.parametrize("share", [1.0, 1.01])
def test_ad_of_a_body_that_rounding_turns_about_is_no_reference(framework, share):
    # At 0 the body's own derivative is 0, and next to it noise as large as the number it hides.
    exprel = _exprel(guarded=True)

    def slope(res, bar):
        xp = diptych.namespace(res.x)
        near = xp.abs(res.x) < 1e-2
        far = xp.where(near, 1.0, res.x)
        return bar * xp.where(near, share / 2, ((far - 1) * xp.exp(far) + 1) / far**2)

    exprel.vjp(slope)
    report = check(exprel, np.array([0.0, -0.3, 1.2]), frameworks=framework, claims=["vjp"])
    assert report.ok is (share == 1.0)


@every_framework
def test_what_saturates_is_rounded_as_its_value(framework):
    @diptych.rule
    def f(x):
        return diptych.namespace(x).tanh(5 * x)

    @f.vjp
    def _(res, bar):
        return 5 * bar * (1 - diptych.namespace(bar).tanh(5 * res.x) ** 2)

    report = check(f, X, frameworks=framework, claims=["order"], neighbours=True, budget=60.0)
    assert report.ok, report

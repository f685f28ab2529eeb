"""The claims of the first order, each with derivatives that it must accept and refuse."""

from types import SimpleNamespace

import numpy as np
import pytest
from kinds import check, every_framework, example, product

import diptych
from diptych.proof.claims.first import _turned


def verdict(report, claim):
    (found,) = [o for o in report.outcomes if o.claim == claim]
    return found.status


def xp_of(x):
    return diptych.namespace(x)


@every_framework
def test_a_right_rule_passes_every_claim(framework):
    report = check(product(), *example(), frameworks=framework)
    assert report.ok, report
    assert {
        o.status for o in report.outcomes if o.claim in ("vjp", "jvp", "adjoint", "linear")
    } == {"pass"}


WRONG = {
    "sign": (lambda r, b: (-b * r.y * xp_of(b).cos(r.x), b * xp_of(b).sin(r.x)), "x"),
    "factor": (lambda r, b: (b * r.y * xp_of(b).cos(r.x), 3 * b * xp_of(b).sin(r.x)), "y"),
    "zero": (lambda r, b: (None, b * xp_of(b).sin(r.x)), "x"),
    "swapped": (lambda r, b: (b * xp_of(b).sin(r.x), b * r.y * xp_of(b).cos(r.x)), "x"),
    "other constants": (
        lambda r, b: (b * r.y * xp_of(b).cos(1.0001 * r.x), b * xp_of(b).sin(r.x)),
        "x",
    ),
    "ignored cotangent": (lambda r, b: (r.y * xp_of(b).cos(r.x), b * xp_of(b).sin(r.x)), "x"),
    "where": (
        lambda r, b: (
            b * r.y * xp_of(b).cos(r.x) * xp_of(b).where(r.x < 0, 0.5, 1.0),
            b * xp_of(b).sin(r.x),
        ),
        "x",
    ),
}


@every_framework
@pytest.mark.parametrize("cause", list(WRONG))
@pytest.mark.parametrize("reference", ["auto", "differences"])
def test_a_wrong_vjp_is_found_and_explained(framework, cause, reference):
    vjp, argument = WRONG[cause]
    report = check(
        product(vjp), *example(), frameworks=framework, claims=["vjp"], reference=reference
    )
    found = [f for f in report.findings if f.argument == argument]
    assert [f.claim for f in found] == ["vjp"], report
    # Differences see single entries: what compares whole arrays may remain unexplained.
    if reference == "auto":
        assert found[0].cause == cause
    assert f"'{argument}'" in found[0].message


@every_framework
def test_a_derived_direction_points_to_the_stated_one(framework):
    vjp, _ = WRONG["where"]
    report = check(product(vjp), *example(), frameworks=framework, claims=["jvp"])
    (finding,) = report.findings
    assert finding.cause == "wrong"
    assert "derived from the VJP that is stated: mend that one" in finding.message


@every_framework
def test_a_wrong_jvp_beside_a_right_vjp_is_no_adjoint(framework):
    def jvp(res, x_dot, y_dot):
        xp = diptych.namespace(x_dot)
        return x_dot * res.y * xp.cos(res.x) - y_dot * xp.sin(res.x)

    def vjp(res, bar):
        xp = diptych.namespace(bar)
        return bar * res.y * xp.cos(res.x), bar * xp.sin(res.x)

    report = check(product(vjp, jvp), *example(), frameworks=framework)
    assert verdict(report, "vjp") == "pass"
    assert verdict(report, "jvp") == "broken"
    assert verdict(report, "adjoint") == "broken"


@every_framework
@pytest.mark.parametrize("clip", [1e-3, 1.0, 5.0, 1e4])
def test_a_clipped_cotangent_is_not_linear(framework, clip):
    def vjp(res, bar):
        xp = diptych.namespace(bar)
        bar = xp.clip(bar, -clip, clip)
        return bar * res.y * xp.cos(res.x), bar * xp.sin(res.x)

    report = check(product(vjp), *example(), frameworks=framework, claims=["linear"])
    assert [f.cause for f in report.findings] == ["not linear"]


@every_framework
def test_the_absolute_value_of_a_cotangent_is_not_linear(framework):
    def vjp(res, bar):
        xp = diptych.namespace(bar)
        return xp.abs(bar) * res.y * xp.cos(res.x), bar * xp.sin(res.x)

    report = check(product(vjp), *example(), frameworks=framework, claims=["linear"])
    assert [f.cause for f in report.findings] == ["not linear"]


@every_framework
@pytest.mark.parametrize("wrong", [0, 137, 199])
def test_one_wrong_entry_of_200_is_located(framework, wrong):
    def vjp(res, bar):
        xp = diptych.namespace(bar)
        mask = xp.asarray((np.arange(200) != wrong).astype(float))
        return mask * bar * res.y * xp.cos(res.x), bar * xp.sin(res.x)

    x, y = example(shape=(200,))
    for reference in ("auto", "differences"):
        report = check(
            product(vjp), x, y, frameworks=framework, claims=["vjp"], reference=reference
        )
        (finding,) = report.findings
        assert finding.index == (wrong,)


@every_framework
@pytest.mark.parametrize("size", [1e-12, 1e-7, 1e7])
def test_a_tiny_gradient_returned_as_zero_is_found(framework, size):
    @diptych.rule
    def tiny(x):
        return size * x * x

    tiny.vjp(lambda res, bar: 0 * bar)
    report = check(tiny, example()[0], frameworks=framework, claims=["vjp"])
    assert [f.cause for f in report.findings] == ["zero"]


@every_framework
def test_another_value_in_fwd_is_found(framework):
    rule = product()

    @rule.fwd
    def fwd(x, y):
        xp = diptych.namespace(x, y)
        return xp.sin(x) * y + 1e-3, (x, y)

    rule.vjp(lambda res, bar: (bar * res[1] * xp_of(bar).cos(res[0]), bar * xp_of(bar).sin(res[0])))
    report = check(rule, *example(), frameworks=framework, claims=["primal"])
    assert {f.cause for f in report.findings} == {"other value"}


@every_framework
def test_an_intentional_derivative_is_judged_by_all_but_the_truth(framework):
    @diptych.rule(intentional="straight-through estimator")
    def quantise(x):
        return diptych.namespace(x).round(x)

    quantise.vjp(lambda res, bar: bar)
    x = example()[0]
    assert check(quantise, x, frameworks=framework).ok
    quantise.vjp(lambda res, bar: diptych.namespace(bar).clip(bar, -1, 1))
    report = check(quantise, x, frameworks=framework)
    assert verdict(report, "linear") == "broken"
    assert verdict(report, "vjp") == "skipped"


@every_framework
def test_a_surrogate_may_be_the_reference(framework):
    @diptych.rule
    def quantise(x):
        return diptych.namespace(x).round(x)

    def inside(res, bar):
        xp = diptych.namespace(bar)
        return bar * xp.astype((res.x > -1) & (res.x < 1), bar.dtype)

    quantise.vjp(inside)
    x = 0.3 + example()[0]
    surrogate = lambda x: diptych.namespace(x).clip(x, -1, 1)  # noqa: E731
    assert check(quantise, x, frameworks=framework, reference=surrogate).ok
    quantise.vjp(lambda res, bar: bar)
    report = check(quantise, x, frameworks=framework, reference=surrogate, claims=["vjp"])
    assert [f.cause for f in report.findings] == ["where"]


def test_a_claim_that_does_not_exist_is_named():
    with pytest.raises(
        ValueError, match="there is no claim 'vpj'; the claims are primal, jvp, vjp"
    ):
        diptych.check(product(), *example(), claims=["vpj"])


def test_no_example_is_said():
    with pytest.raises(TypeError, match="expected: an example: at least one array"):
        diptych.check(product())


def test_no_function_is_said():
    with pytest.raises(TypeError, match="got: ndarray"):
        diptych.check(np.ones(3), np.ones(3))


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_fwd_whose_value_has_another_shape_is_found(framework):
    pytest.importorskip(framework)

    @diptych.rule
    def total(x):
        return diptych.namespace(x).sum(x, axis=-1)

    @total.fwd
    def total_fwd(x):
        return x, x

    @total.vjp
    def total_vjp(res, out_bar):
        return out_bar

    report = diptych.check(total, np.ones((2, 3)), frameworks=framework, claims=["primal"])
    assert report.findings[0].cause == "other value"
    assert "has shape (2, 3), where the body gives (2,)" in report.findings[0].message


def test_a_custom_op_is_told_that_it_has_no_forward_mode():
    torch = pytest.importorskip("torch")

    @torch.library.custom_op("diptych_first::square", mutates_args=())
    def square(x: torch.Tensor) -> torch.Tensor:
        return x**2

    square.register_autograd(
        lambda ctx, bar: 2 * bar * ctx.saved_tensors[0],
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
    )
    x = torch.tensor([1.0, 2.0])
    report = check(square, x, claims=["jvp", "vjp", "adjoint"], neighbours=False)
    (finding,) = report.findings
    assert (finding.claim, finding.cause) == ("jvp", "zero")
    assert "custom ops cannot state a JVP" in finding.message


def over_itself(derivative):
    """Returns `x / x` with this derivative in place of the zero that is left of it."""

    @diptych.rule
    def f(x):
        return x / x

    @f.vjp
    def _(res, bar):
        return derivative(res.x) * bar

    return f


@every_framework
@pytest.mark.parametrize("reference", ["auto", "differences"])
def test_what_rounding_leaves_of_a_derivative_is_let_pass(framework, reference):
    f = over_itself(lambda x: 1e6 * xp_of(x).sin(x) / x - 1e6 / x * xp_of(x).sin(x))
    x = 1e6 * np.random.default_rng(0).normal(size=30)
    options = dict(frameworks=framework, claims=["vjp", "jvp"], reference=reference)
    assert check(f, x, **options).ok


@every_framework
@pytest.mark.parametrize("size", [3, 30])
@pytest.mark.parametrize("wrong", [1e-9, 1.0])
def test_more_than_rounding_leaves_is_found(framework, size, wrong):
    x = np.random.default_rng(0).uniform(0.5, 1.5, size)
    report = check(over_itself(lambda x: wrong * x), x, frameworks=framework, claims=["vjp"])
    assert [f.claim for f in report.findings] == ["vjp"]


@every_framework
def test_what_is_wrong_at_one_point_only_is_no_rounding(framework):
    @diptych.rule
    def f(x):
        return xp_of(x).sin(x)

    @f.vjp
    def _(res, bar):
        xp = xp_of(bar)
        return xp.where(res.x == 0, xp.zeros_like(bar), bar * xp.cos(res.x))

    for reference in ("auto", "differences"):
        options = dict(frameworks=framework, claims=["vjp"], reference=reference)
        report = check(f, np.array([0.0, 1.0]), **options)
        assert [x.index for x in report.findings] == [(0,)], reference


def test_linearity_at_a_kink_is_told_from_rounding():
    x = np.random.default_rng(0).normal(size=50)
    subject = SimpleNamespace(values=[x], moving=[True], names=["x"], epsilon=2.0**-52)
    trial = SimpleNamespace(subject=subject, finding=lambda *said: said)

    def cancels(bars):  # all digits but six
        much = 1.1e10 * bars[0]
        return [(1.3 * (much + bars[0])) / 1.3 - much]

    assert _turned(trial, [x], cancels([x]), cancels)[1] == []
    clips = lambda bars: [np.minimum(bars[0], 0.5)]  # noqa: E731
    ((_, cause, *_),) = _turned(trial, [x], clips([x]), clips)[1]
    assert cause == "not linear"

"""Slopes by extrapolated differences: values, honest errors, kinks and what cannot be measured."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.proof.richardson import EVALUATIONS, slope


def along(f, x):
    """The slope of a function of one number, the step relative to the number."""
    size = abs(x) or 1.0
    # How much rounding of the argument changes the value, as the proof measures it.
    noise = max(abs(f(x + sign * 8 * 2.0**-52 * size) - f(x)) for sign in (-1.3, 0.9))
    found = slope(lambda h: np.atleast_1d(f(x + h * size)), noise=noise)
    return found.value[0] / size, found.error[0] / size, found.kink[0]


@pytest.mark.parametrize(
    ("f", "exact", "x"),
    [
        (np.sin, mpmath.sin, 1.0),
        (np.exp, mpmath.exp, 30.0),
        (lambda x: np.sin(1e4 * x), lambda x: mpmath.sin(10**4 * x), 1.0),
        (lambda x: 1 / x, lambda x: 1 / x, 1e-8),
        (np.log1p, mpmath.log1p, 1e-9),
        (lambda x: 1e30 * np.cosh(x), lambda x: mpmath.mpf(10) ** 30 * mpmath.cosh(x), 2.0),
        (lambda x: 1e-30 * x**3, lambda x: mpmath.mpf(10) ** -30 * x**3, 0.7),
        (lambda x: x**3, lambda x: x**3, 0.0),
    ],
)
def test_value_lies_within_its_error(f, exact, x):
    value, error, kink = along(f, x)
    want = float(mpmath.diff(exact, x))
    assert abs(value - want) <= error
    assert error <= 1e-6 * abs(want) + 1e-15
    assert not kink


@settings(deadline=None, max_examples=60)
@given(st.floats(-3, 3), st.floats(0.1, 300), st.floats(-3, 3, allow_subnormal=False))
def test_error_is_honest_for_waves(phase, frequency, x):
    value, error, _ = along(lambda x: np.sin(frequency * x + phase), x)
    assert abs(value - frequency * np.cos(frequency * x + phase)) <= error + 1e-12


@pytest.mark.parametrize("x", [0.0])
@pytest.mark.parametrize(
    "f", [abs, lambda x: np.maximum(x, 0.0), lambda x: np.minimum(2 * x, 5 * x)]
)
def test_a_kink_is_said(f, x):
    value, error, kink = along(f, x)
    left, right = (f(x) - f(x - 1e-6)) / 1e-6, (f(x + 1e-6) - f(x)) / 1e-6
    assert kink
    assert min(left, right) >= value - error
    assert max(left, right) <= value + error


@pytest.mark.parametrize(
    ("f", "x"),
    [(np.floor, 2.0), (lambda x: np.sqrt(abs(x)), 0.0), (lambda x: np.sin(1e13 * x), 1.0)],
    ids=["step", "root", "too fast"],
)
def test_what_has_no_slope_claims_none(f, x):
    value, error, kink = along(f, x)
    assert not np.isfinite(error) or kink or error > abs(value)


def test_no_kink_in_a_smooth_function_near_zero():
    assert not along(lambda x: x * abs(x), 0.0)[2]
    assert not along(lambda x: np.cosh(x) - 1, 0.0)[2]


def test_evaluations_are_bounded():
    count = 0

    def f(h):
        nonlocal count
        count += 1
        return np.floor(np.array([1.0 + h]))

    slope(f)
    assert count <= EVALUATIONS


def test_float32_values_give_what_they_can():
    found = slope(
        lambda h: np.sin(np.float32(1.0) * np.float32(1 + h)).reshape(1), epsilon=2.0**-23
    )
    assert abs(found.value[0] - np.cos(1.0)) <= found.error[0] < 1e-2


ROUNDED = {
    "one minus tanh squared": (
        lambda x: 1 - np.tanh(x) ** 2, lambda x: 1 - mpmath.tanh(x) ** 2, (5, 17),
    ),
    "one minus sigmoid": (
        lambda x: 1 - 1 / (1 + np.exp(-x)), lambda x: 1 / (1 + mpmath.exp(x)), (5, 33),
    ),
    "log softmax": (
        lambda x: -np.log(1 + np.exp(-30 * x)),
        lambda x: -mpmath.log1p(mpmath.exp(-30 * x)), (0.2, 1.1),
    ),
    "squareplus": (
        lambda x: 0.5 * (x + np.sqrt(x * x + 4)),
        lambda x: 0.5 * (x + mpmath.sqrt(x * x + 4)), (-1e6, -1e4),
    ),
    "a gate": (
        lambda x: (1 - 1 / (1 + np.exp(-30 * x))) * np.tanh(x) + [0.0, *[1.0] * (len(x) - 1)],
        lambda x: mpmath.tanh(x) / (1 + mpmath.exp(30 * x)), (0.3, 1.0),
    ),
    "float32 inside": (
        lambda x: np.sin(x.astype(np.float32)).astype(np.float64), mpmath.sin, (0.5, 3),
    ),
    "float32 inside, cancelling": (
        lambda x: (1 - np.tanh(x.astype(np.float32)) ** 2).astype(np.float64),
        lambda x: 1 - mpmath.tanh(x) ** 2, (1, 6),
    ),
    "a large term": (lambda x: (1e8 + np.sin(x)) - 1e8, mpmath.sin, (0.5, 3)),
    "a huge term": (lambda x: (1e12 + np.sin(x)) - 1e12, mpmath.sin, (0.5, 3)),
    "a slope of 1e-7": (
        lambda x: 1 + 1e-7 * np.sin(x), lambda x: mpmath.mpf(1e-7) * mpmath.sin(x), (0.5, 1.2),
    ),
    "a kernel of a hundred ulps": (
        lambda x: np.sin(x) * (1 + 2e-14 * (np.sin(1e20 * x))), mpmath.sin, (0.5, 3),
    ),
}  # fmt: skip


def slopes_of(name):
    """The slopes of sixty entries, each moved by its own size, and the exact ones."""
    f, exact, (low, high) = ROUNDED[name]
    rng = np.random.default_rng(0)
    x = rng.uniform(low, high, 60)
    dots = np.abs(x) * rng.uniform(0.5, 1.5, x.shape)
    with mpmath.workdps(50):
        want = np.array([float(mpmath.diff(exact, mpmath.mpf(float(t)))) for t in x]) * dots
    moved = [np.abs(f(x + s * 8 * 2.0**-52 * dots) - f(x)) for s in (0.7, -1.2)]
    return slope(lambda h: f(x + h * dots), noise=np.max(moved, axis=0)), want


@pytest.mark.parametrize("name", ROUNDED)
def test_what_is_rounded_inside_is_in_the_error(name):
    found, want = slopes_of(name)
    # The claims allow three times the error, and beside it a hundred thousandth of the value.
    assert np.all(np.abs(found.value - want) <= 3 * found.error + 1e-5 * np.abs(want))


@pytest.mark.parametrize(
    ("name", "share"), [("a large term", 1e-3), ("float32 inside", 3e-3), ("a slope of 1e-7", 1e-3)]
)
def test_what_is_rounded_inside_is_measured_all_the_same(name, share):
    found, want = slopes_of(name)
    assert np.median(found.error / np.abs(want)) <= share


def test_a_function_that_quantises_is_flat():
    x = np.random.default_rng(0).uniform(0.5, 3, 60)
    for stairs in (4.0, 64.0, 256.0):
        found = slope(lambda h, n=stairs: np.round(n * x * (1 + h)) / n)
        flat = np.isfinite(found.error) & (found.error < 0.1)
        assert np.all(found.value[flat] == 0)
        assert np.mean(flat) > 0.7


def test_stairs_that_nobody_can_tell_from_rounding_claim_nothing():
    x = np.random.default_rng(0).uniform(0.5, 3, 60)
    found = slope(lambda h: np.round(2.0**16 * x * (1 + h)) / 2.0**16)
    assert np.all((found.value == 0) | ~(found.error < 0.1) | (np.abs(found.value - x) < 0.1))
    assert not np.any(np.isfinite(found.error) & (found.error < 0.1))


def test_steps_that_leap_over_a_narrow_bump_are_not_believed():
    found = slope(lambda h: np.array([np.exp(-((1e6 * h + 1) ** 2))]))
    assert abs(found.value[0] + 2e6 * np.exp(-1)) <= found.error[0] or np.isinf(found.error[0])
    assert not (found.value[0] == 0 and found.error[0] < 1)

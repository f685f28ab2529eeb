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
@given(st.floats(-3, 3), st.floats(0.1, 300), st.floats(-3, 3))
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

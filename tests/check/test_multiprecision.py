"""The reference `mpmath`: closed forms, what floats cancel, and what it cannot run."""

import importlib
import importlib.util
import sys

import numpy as np
import pytest

import diptych
from diptych.errors import MissingFrameworkError

mpmath = pytest.importorskip("mpmath")

from diptych.proof import multiprecision  # noqa: E402 - it needs mpmath
from diptych.proof.multiprecision import ByMpmath, MpArray, to_mpmath, to_numpy  # noqa: E402
from diptych.proof.prober import prober_of  # noqa: E402
from diptych.proof.subject import Subject, example_of  # noqa: E402
from diptych.proof.target import target_of  # noqa: E402

INSTALLED = [name for name in ("torch", "jax") if importlib.util.find_spec(name) is not None]
pytestmark = pytest.mark.skipif(not INSTALLED, reason="a check needs a framework")


def reference(body, *args):
    prober = prober_of(INSTALLED[0])
    target, full = target_of(body, prober, args)
    example = example_of(target, full, prober.numpy, prober.is_array)
    return ByMpmath(Subject(target, prober, example), body)


def check(f, *args, **options):
    return diptych.check(f, *args, reference="mpmath", frameworks=INSTALLED[0],
                         claims=["jvp", "vjp"], neighbours=False, **options)  # fmt: skip


def cosc(x):
    xp = diptych.namespace(x)
    return (1 - xp.cos(x)) / x**2


def rule_of(body, vjp):
    rule = diptych.rule(body)
    rule.vjp(vjp)
    return rule


# Closed forms.

POSITIVE = np.array([0.3, 1.7, 2.9])


@pytest.mark.parametrize(
    ("body", "derivative"),
    [
        (lambda x, xp: xp.sin(x) * xp.exp(x), lambda x: (np.sin(x) + np.cos(x)) * np.exp(x)),
        (lambda x, xp: xp.log1p(x) / x, lambda x: 1 / (x + x**2) - np.log1p(x) / x**2),
        (lambda x, xp: xp.where(x > 1, xp.sqrt(x), x**3), lambda x: np.where(
            x > 1, 0.5 / np.sqrt(x), 3 * x**2)),
        (lambda x, xp: xp.logaddexp(x, 2 * x), lambda x: (1 + 2 * np.exp(x)) / (1 + np.exp(x))),
        (lambda x, xp: xp.atan2(x, 1 + x), lambda x: 1 / (x**2 + (1 + x) ** 2)),
        (lambda x, xp: xp.maximum(x, xp.asarray(1.0)) ** 2, lambda x: np.where(x > 1, 2 * x, 0)),
    ],
)  # fmt: skip
def test_derivatives_of_each_entry_are_right_in_every_digit(body, derivative):
    found = reference(lambda x: body(x, diptych.namespace(x)), POSITIVE)
    pushed = found.push([np.ones(3)])
    np.testing.assert_allclose(pushed.values[0], derivative(POSITIVE), rtol=2e-15)
    pulled = found.pull([np.array([1.0, -2.0, 0.5])])
    expected = np.array([1.0, -2.0, 0.5]) * derivative(POSITIVE)
    np.testing.assert_allclose(pulled.values[0], expected, rtol=4e-15)


def test_steps_follow_the_size_of_each_argument():
    x = np.array([1e-30, 2e-30, 3e-25])
    found = reference(lambda x: diptych.namespace(x).sin(x * 1e30), x)
    pulled = found.pull([np.ones(3)]).values[0]
    np.testing.assert_allclose(pulled[:2], np.cos([1.0, 2.0]) * 1e30, rtol=1e-14)


def test_arrays_are_summed_multiplied_and_reshaped():
    def body(tree):
        w, x = tree["w"], tree["x"]
        xp = diptych.namespace(w, x)
        y = xp.tanh(w @ x)
        return xp.mean(y), xp.sum(xp.reshape(y, (-1,)) * 2, axis=0), xp.stack([y[0], y[1]])

    rng = np.random.default_rng(0)
    w, x, dw = rng.normal(size=(2, 3)), rng.normal(size=3), rng.normal(size=(2, 3))
    found = reference(body, {"w": w, "x": x}).push([dw, None])
    expected = (1 - np.tanh(w @ x) ** 2) * (dw @ x)
    np.testing.assert_allclose(found.values[0], np.mean(expected), rtol=1e-14)
    np.testing.assert_allclose(found.values[1], 2 * np.sum(expected), rtol=1e-14)
    np.testing.assert_allclose(found.values[2], expected, rtol=1e-14)


def test_complex_numbers():
    def body(z):
        xp = diptych.namespace(z)
        return xp.exp(z) * xp.conj(z), xp.real(z) * xp.imag(z)

    z, dz = np.array([0.5 - 1j, 2 + 0.1j]), np.array([1 + 2j, -0.3j])
    found = reference(body, z).push([dz])
    expected = np.exp(z) * (dz * np.conj(z) + np.conj(dz))
    np.testing.assert_allclose(found.values[0], expected, rtol=4e-15)
    np.testing.assert_allclose(found.values[1], dz.real * z.imag + z.real * dz.imag, rtol=4e-15)


# What it is for: formulas that cancel in floats.


def test_a_derivative_that_cancels_is_found_and_a_stable_one_passes():
    def naive(res, out_bar):
        xp = diptych.namespace(out_bar)
        x = res.x
        return out_bar * (xp.sin(x) / x**2 - 2 * (1 - xp.cos(x)) / x**3)

    def series(res, out_bar):
        return out_bar * (-res.x / 12 + res.x**3 / 180)

    x = np.array(1e-4)
    broken = check(rule_of(cosc, naive), x)
    assert {f.claim for f in broken.findings} == {"jvp", "vjp"}
    exact = -1e-4 / 12
    for finding in broken.findings:
        assert finding.measured / finding.expected == pytest.approx(
            float(np.sin(x) / x**2 - 2 * (1 - np.cos(x)) / x**3) / exact, rel=1e-3
        )
    assert check(rule_of(cosc, series), x).ok
    # AD of the body cancels as the formula does, so cannot tell.
    assert "against mpmath" in str(broken)


def test_a_wrong_rule_is_found_and_named():
    report = check(
        rule_of(cosc, lambda res, out_bar: out_bar * 2.0), np.array([0.5, 1.5])
    )  # fmt: skip
    assert report.findings
    assert all("mpmath" in f.message for f in report.findings)


def test_kinks_are_said_and_not_failed():
    found = reference(lambda x: diptych.namespace(x).abs(x), np.array([0.0, 2.0]))
    before = found.kinks
    pushed = found.push([np.ones(2)])
    assert found.kinks == before + 1
    assert pushed.errors[0][0] >= 1
    assert pushed.errors[0][1] < 1e-14
    smooth = reference(lambda x: x * x, np.array([0.0, 2.0]))  # flat at zero, and no kink there
    assert smooth.kinks == 0


# What it cannot do, it says.


def scipy_like(x):
    return np.linalg.inv(np.reshape(x, (1, 1)))


def floats(x):
    return np.asarray(np.asarray(x, dtype=float) * 2) if isinstance(x, MpArray) else x * 2


def hidden_floats(x):
    return x * float(x[0]) if isinstance(x, MpArray) else x * x[0]


@pytest.mark.parametrize(
    ("body", "x", "expected"),
    [
        (scipy_like, np.ones(1), "cannot be computed by mpmath"),
        (floats, np.ones(2), "rounds to floats"),
        (hidden_floats, np.ones(2), "rounds to floats"),
        (lambda x: x + 1, np.ones(6000), "5000 numbers at most"),
        (lambda x: (x, x) if isinstance(x, MpArray) else x * 2, np.ones(2), "2 outputs, not 1"),
    ],
)
def test_what_mpmath_cannot_run_is_an_error(body, x, expected):
    with pytest.raises(ValueError, match=expected):
        reference(body, x)


def test_check_raises_for_a_body_of_one_framework():
    xp = importlib.import_module({"torch": "torch", "jax": "jax.numpy"}[INSTALLED[0]])
    with pytest.raises(ValueError, match=r"diptych\.namespace"):
        check(lambda x: xp.sin(x), np.ones(2))


def test_a_missing_mpmath_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpmath", None)
    monkeypatch.delitem(sys.modules, "diptych.proof.multiprecision")
    with pytest.raises(MissingFrameworkError, match=r"diptych\[mpmath\]"):
        importlib.import_module("diptych.proof.multiprecision")


# The numbers themselves.


def test_the_namespace_is_numpys_and_each_function_gives_mpmaths_digits():
    x = to_mpmath(np.array([0.5, 2.0]))
    xp = diptych.namespace(x, 1.0)
    assert xp is diptych.namespace(np.ones(1))
    with mpmath.workdps(50):
        found = xp.exp(x)
        assert isinstance(found, MpArray)
        assert abs(found[0].item() - mpmath.exp(mpmath.mpf("0.5"))) < mpmath.mpf(10) ** -49
        for made in (xp.sum(x), x[0], -x, x @ x, xp.where(x > 1, x, 1), xp.mean(x), x.T, 1 / x):
            assert isinstance(made, MpArray)
    assert type(x > 1) is np.ndarray
    assert (x > 1).dtype == bool


NAMES = sorted({*multiprecision._SAME, *multiprecision._OWN, *multiprecision._NAMES})


@pytest.mark.parametrize("name", NAMES)
def test_functions_are_those_of_numpy_and_scipy(name):
    ufunc = getattr(np, name, None)
    if ufunc is None:
        ufunc = getattr(pytest.importorskip("scipy.special"), name)
    for values in ([0.3, 0.7], [0.9, 0.2]):
        if name in ("arccosh",):
            values = [v + 1 for v in values]
        args = [np.array(v) for v in values[: ufunc.nin]]
        with mpmath.workdps(30):
            found = np.asarray(ufunc(*[to_mpmath(a) for a in args]))
            if found.dtype == object:
                found = to_numpy(found)
        np.testing.assert_allclose(found, ufunc(*args), rtol=1e-13)


def test_functions_stay_real_and_division_by_zero_is_infinite():
    x = to_mpmath(np.array([-1.0, 0.0, 4.0]))
    np.testing.assert_array_equal(to_numpy(np.sqrt(x)), [np.nan, 0, 2])
    np.testing.assert_array_equal(to_numpy(1 / x), [-1, np.inf, 0.25])
    np.testing.assert_array_equal(to_numpy(x / x), [1, np.nan, 1])
    np.testing.assert_array_equal(to_numpy(x**0.5), [np.nan, 0, 2])
    np.testing.assert_array_equal(to_numpy(x**-1.0), [-1, np.inf, 0.25])
    np.testing.assert_array_equal(np.isnan(np.log(x)), [True, False, False])


def test_a_cast_to_another_float_keeps_the_digits():
    with mpmath.workdps(40):
        x = to_mpmath(np.array([1.0])) / 3
        assert (x.astype(np.float32) - x).item() == 0
        assert x.astype(int).dtype == int

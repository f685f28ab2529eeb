"""The diagnosis of one wrong array: which slip turns what was found into what was expected."""

import numpy as np
import pytest

from diptych.proof.compare import gap
from diptych.proof.diagnosis import Case, diagnose


def case(wrong, right, bars, xs, *, position=0):
    """Returns the case of a VJP: `wrong` and `right` map cotangents to those of the arguments."""
    found, expected = wrong(*bars), right(*bars)
    g = gap(found[position], expected[position], epsilon=2.0**-52)
    assert not g.ok
    return Case(
        "vjp",
        "xyz"[position],
        position,
        found[position],
        expected[position],
        g,
        found,
        expected,
        xs,
        [np.zeros_like(b) for b in bars],
        list("xyz"[: len(xs)]),
        bars,
        lambda vectors: (wrong(*vectors), right(*vectors)),
    )


RNG = np.random.default_rng(0)
X = RNG.normal(size=7)
M = RNG.normal(size=(4, 4))
B = RNG.normal(size=7)
G = RNG.normal(size=(4, 4))


def slope(x):
    return np.cos(x)


ELEMENTWISE = {
    "factor": lambda b: (3 * b * slope(X),),
    "sign": lambda b: (-b * slope(X),),
    "zero": lambda b: (0 * b,),
    "not finite": lambda b: (np.where(X > 0, np.nan, b * slope(X)),),
    "not linear": lambda b: (np.clip(b, -0.2, 0.2) * slope(X),),
    "ignored cotangent": lambda b: (slope(X),),
    "other constants": lambda b: (b * (slope(X) + 0.01 * X**2),),
    "where": lambda b: (np.where(X > 0.3, 2.0, 1.0) * b * slope(X),),
    "shifted": lambda b: (np.roll(b, 1) * slope(X),),
    "wrong": lambda b: (b * np.exp(X),),
}


@pytest.mark.parametrize("cause", ELEMENTWISE)
def test_the_slip_in_an_elementwise_derivative_is_named(cause):
    cause_found, _ = diagnose(case(ELEMENTWISE[cause], lambda b: (b * slope(X),), [B], [X]))
    assert cause_found == cause


MATRIX = {
    "transposed": lambda g: (g @ M,),
    "axis": lambda g: (g.T @ M.T,),
    "mean instead of sum": lambda g: (g @ M.T / 4,),
}


@pytest.mark.parametrize("cause", MATRIX)
def test_the_slip_in_a_product_of_matrices_is_named(cause):
    assert diagnose(case(MATRIX[cause], lambda g: (g @ M.T,), [G], [M]))[0] == cause


def test_a_sum_left_out_is_a_missing_term_and_its_axis_is_said():
    cause, why = diagnose(case(lambda g: (g,), lambda g: (g - g.mean(1, keepdims=True),), [G], [M]))
    assert cause == "missing term"
    assert "axis 1" in why


def test_a_diagonal_in_place_of_a_jacobian_is_a_missing_term():
    p = np.exp(X) / np.exp(X).sum()
    wrong, right = lambda b: (b * p * (1 - p),), lambda b: (p * (b - (b * p).sum()),)
    cause, why = diagnose(case(wrong, right, [B], [X]))
    assert cause == "missing term"
    assert "the diagonal" in why


def test_an_inverse_permutation_is_said_to_be_one():
    order = np.argsort(X)
    inverse = np.argsort(order)
    cause, why = diagnose(case(lambda b: (b[order],), lambda b: (b[inverse],), [B], [X]))
    assert cause == "transposed"
    assert "scatter" in why


def test_a_conjugate_is_seen_though_the_cotangent_is_complex():
    z = RNG.normal(size=5) + 1j * RNG.normal(size=5)
    b = RNG.normal(size=5) + 1j * RNG.normal(size=5)
    assert diagnose(case(lambda b: (b * z,), lambda b: (b * z.conj(),), [b], [z]))[0] == "conjugate"


def test_a_lost_imaginary_part_is_named():
    z = RNG.normal(size=5) + 1j * RNG.normal(size=5)
    wrong = lambda b: ((b * z).real + 0j,)  # noqa: E731
    assert diagnose(case(wrong, lambda b: (b * z,), [z], [z]))[0] == "real part"


def test_exchanged_cotangents_name_the_other_argument():
    wrong, right = lambda b: (2 * b, b * X), lambda b: (b * X, 2 * b)
    cause, why = diagnose(case(wrong, right, [B], [X, X]))
    assert (cause, "'y'" in why) == ("swapped", True)


def test_a_slice_in_place_of_the_sum_over_a_broadcast_axis():
    wrong, right = lambda g: (g[0],), lambda g: (g.sum(0),)
    cause, why = diagnose(case(wrong, right, [G], [M[0]]))
    assert (cause, "axis 0" in why) == ("missing sum", True)


def test_an_ignored_output_is_named():
    wrong, right = lambda b, c: (b * X,), lambda b, c: (b * X + c,)
    cause, why = diagnose(case(wrong, right, [B, B + 1], [X]))
    assert (cause, "output 1" in why) == ("ignored output", True)


def test_a_result_that_changes_from_call_to_call_is_state():
    calls = []

    def wrong(b):
        calls.append(1)
        return (b * X * len(calls) * 1.5,)

    assert diagnose(case(wrong, lambda b: (b * X,), [B], [X]))[0] == "state"


def test_a_single_number_is_no_multiple_unless_it_always_is():
    wrong, right = lambda b: (np.sum(b * X),), lambda b: (np.sum(b * X**2),)
    assert diagnose(case(wrong, right, [B], [np.array(1.0)]))[0] != "factor"


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (X < 0, "where x < 0"),
        (X > 0.3, "where x >= "),
        (np.abs(X) > 0.5, "|x| >= "),
        (np.arange(7) >= 5, "the last block along axis 0 (from index 5)"),
        (np.arange(7) == 3, "at index (3,)"),
    ],
)
def test_the_place_is_said_in_words(mask, said):
    wrong = lambda b: (b * X * np.where(mask, 0.5, 1.0),)  # noqa: E731
    cause, why = diagnose(case(wrong, lambda b: (b * X,), [B], [X]))
    assert cause == "where"
    assert said in why

"""What counts as a difference: relative to the derivative's own size, entry by entry."""

import numpy as np
import pytest

from diptych.proof.compare import gap, natural

EPSILON = 2.0**-52


def test_equal_arrays_are_ok():
    assert gap(np.arange(3.0), np.arange(3.0), epsilon=EPSILON).ok


@pytest.mark.parametrize("scale", [1e-30, 1e-7, 1.0, 1e30])
def test_scale_does_not_matter(scale):
    expected = scale * np.array([1.0, 2.0])
    assert not gap(np.zeros(2), expected, epsilon=EPSILON).ok
    assert not gap(1.001 * expected, expected, epsilon=EPSILON).ok
    assert gap((1 + 1e-12) * expected, expected, epsilon=EPSILON).ok


def test_one_wrong_entry_of_many_is_found():
    expected = np.ones(100_000)
    found = expected.copy()
    found[77_777] = 1.00001
    g = gap(found, expected, epsilon=EPSILON)
    assert not g.ok
    assert g.index == (77_777,)
    assert int(g.wrong.sum()) == 1


def test_a_small_entry_among_large_ones_is_found():
    expected = np.array([1.0, 1e-7])
    assert not gap(np.array([1.0, 0.0]), expected, epsilon=EPSILON).ok


def test_what_the_reference_does_not_know_is_no_error():
    expected, error = np.array([1.0, 2.0]), np.array([0.0, np.inf])
    assert gap(np.array([1.0, 7.0]), expected, epsilon=EPSILON, error=error).ok
    assert gap(np.array([1.0, np.nan]), expected, epsilon=EPSILON, error=error).ok
    assert gap(np.array([1.0, 7.0]), np.array([1.0, np.nan]), epsilon=EPSILON).ok


def test_nan_where_the_reference_is_finite_is_wrong():
    g = gap(np.array([np.nan, 1.0]), np.array([3.0, 1.0]), epsilon=EPSILON)
    assert not g.ok
    assert g.index == (0,)


def test_none_is_zero():
    assert gap(None, np.zeros(3), epsilon=EPSILON).ok
    assert not gap(None, np.ones(3), epsilon=EPSILON).ok


def test_empty_arrays_are_ok():
    assert gap(np.zeros((0, 3)), np.zeros((0, 3)), epsilon=EPSILON).ok


def test_natural_size():
    size = natural([np.array([3.0, -4.0])], [np.array([1.0, 1.0])], np.array([2.0, -0.5]))
    assert size == pytest.approx(3.5)


def test_numbers_are_shown_with_the_digits_that_tell_them_apart():
    def shown(a, b):
        g = gap(np.asarray(a), np.asarray(b), epsilon=EPSILON)
        return g.shown, g.due

    assert shown(0.5, 0.25) == ("0.5", "0.25")
    assert shown(0.1, 0.1 + 2e-8) == ("0.1", "0.10000002")
    assert shown(np.nan, 1.0) == ("nan", "1")
    assert shown(1 + 1j, 1 + 1.00000001j) == ("1+1j", "1+1.00000001j")

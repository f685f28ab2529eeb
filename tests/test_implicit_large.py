"""Implicit rules of thousands of unknowns, solved without a matrix."""

import numpy as np
import pytest

import diptych
from frameworks import DIFFERENTIATING, same
from implicit_problems import METHODS, ONE, X, root, root_by_gmres

pytestmark = pytest.mark.usefixtures("fresh_compiler")

# Large systems without a matrix.

N = 2000


def times(diagonal, y):
    xp = diptych.namespace(y)
    zero = xp.zeros_like(y[:1])
    return diagonal * y - xp.concat([y[1:], zero]) - 0.5 * xp.concat([zero, y[:-1]])


@diptych.implicit(lambda y, d, b: times(d, y) - b, host=True)
def tridiagonal(d, b):
    bands = np.stack([np.full(N, -1.0), d, np.full(N, -0.5)])
    return _banded(bands, b)


def _banded(bands, b):
    from scipy.linalg import solve_banded

    return solve_banded((1, 1), bands, b)


def _transposed(d, b):
    return _banded(np.stack([np.full(N, -0.5), d, np.full(N, -1.0)]), b)


@DIFFERENTIATING
def test_tridiagonal_system_of_2000(fw):
    pytest.importorskip("scipy")
    rng = np.random.default_rng(0)
    d_, b_, v_ = 3 + rng.random(N), rng.standard_normal(N), rng.standard_normal(N)
    d, b, v = fw.array(d_), fw.array(b_), fw.array(v_)
    y, w = fw.numpy(tridiagonal(d, b)), _transposed(d_, np.ones(N))
    bars = fw.pull(tridiagonal, [d, b])
    same(fw, bars[0], -w * y, 1e-8)
    same(fw, bars[1], w, 1e-8)
    # L = sum(y): H v = A^-T (v w) y + w A^-1 (v y).
    bands = np.stack([np.full(N, -1.0), d_, np.full(N, -0.5)])
    want = _transposed(d_, v_ * w) * y + w * _banded(bands, v_ * y)
    found = diptych.hvp(lambda d: tridiagonal(d, b).sum(), (d,), (v,))[1]
    np.testing.assert_allclose(fw.numpy(found), want, rtol=1e-8, atol=1e-10)


@DIFFERENTIATING
@pytest.mark.parametrize("size", [1e-30, 1e-200, 1e200, 0.0])
def test_tiny_and_huge_cotangents(fw, size):
    pytest.importorskip("scipy")
    d_, b_ = np.full(N, 3.0), np.ones(N)
    _, pullback = diptych.vjp(tridiagonal, fw.array(d_), fw.array(b_))
    bar = fw.numpy(pullback(fw.array(np.full(N, size)))[1])
    want = size * _transposed(d_, np.ones(N))
    np.testing.assert_allclose(bar, want, rtol=1e-8)


@DIFFERENTIATING
@METHODS
def test_tiny_cotangent_in_float32(fw, method):
    x = fw.array(X, "float32")
    rule = root if method == "dense" else root_by_gmres
    bar = fw.pull(rule, [x], fw.array(np.full(3, 1e-30), "float32"))[0]
    assert fw.dtype(bar) == "float32"
    np.testing.assert_allclose(fw.numpy(bar), 1e-30 * ONE, rtol=1e-4)


@DIFFERENTIATING
def test_gmres_where_the_residual_does_not_fall(fw):
    """A rotation: the first step of GCR leaves the residual as it was, and it would break down."""
    turn = np.kron(np.eye(10), np.array([[0.0, 1.0], [-1.0, 0.0]])) + 0.01 * np.eye(20)

    @diptych.implicit(lambda y, b: turned(y) - b, method="gmres")
    def back(b):
        xp = diptych.namespace(b)
        a, c = b[0::2], b[1::2]
        y = xp.stack([0.01 * a - c, a + 0.01 * c], axis=1) / (1 + 1e-4)
        return xp.reshape(y, (-1,))

    def turned(y):
        xp = diptych.namespace(y)
        pairs = xp.stack([0.01 * y[0::2] + y[1::2], 0.01 * y[1::2] - y[0::2]], axis=1)
        return xp.reshape(pairs, (-1,))

    bar = np.random.default_rng(0).standard_normal(20)
    found = fw.pull(back, [fw.array(np.arange(20.0) + 1)], fw.array(bar))[0]
    same(fw, found, np.linalg.solve(turn.T, bar), 1e-9)

"""Square roots as implicit rules, and what tests of such rules share."""

import numpy as np
import pytest

import diptych

METHODS = pytest.mark.parametrize("method", ["dense", "gmres"])


def newton(x, steps):
    y = x * 0 + 1.0
    for _ in range(steps):
        y = (y + x / y) / 2
    return y


def square(y, x):
    return y * y - x


@diptych.implicit(square)
def root(x):
    return newton(x, 8)


@diptych.implicit(square, method="gmres")
def root_by_gmres(x):
    return newton(x, 8)


@diptych.implicit(square, method="cg")
def root_by_cg(x):
    return newton(x, 8)


ROOTS = pytest.mark.parametrize("root", [root, root_by_gmres, root_by_cg], ids=lambda r: r.__name__)
X = np.array([0.5, 2.0, 3.0])
# The first, second and third derivative of the square root.
ONE, TWO, THREE = 0.5 * X**-0.5, -0.25 * X**-1.5, 0.375 * X**-2.5

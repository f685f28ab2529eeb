"""The demo's own measure: its closed forms are right, and what is wrong is called so."""

import numpy as np
import pytest

import demo_table
from demo_table import CASES, Cell, Probe, Row, measure

CASE = demo_table.Case("cube", "", (1.0, 2.0), tuple(lambda x, c=c: x**c for c in (3, 2, 1, 0)))
WITNESSES = {"sin": (3, -5 / -1, 5), "sinh": (3, 3, 3)}


def cell_of(*runs, **options):
    probes = [Probe(f"call {i}", 0, run, **options) for i, run in enumerate(runs)]
    return measure(Row("row", tuple(probes)), CASE, lambda x: x**3, lambda x: x**3, CASE.x())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_closed_forms_against_central_differences(case, order):
    x, step = case.x(), 1e-5
    slope = (case.closed[order](x + step) - case.closed[order](x - step)) / (2 * step)
    # Rules that are wrong on purpose state this multiple of the true derivative, order by order.
    multiples = (1, *WITNESSES.get(case.name, (1, 1, 1)))
    slope = slope * multiples[order + 1] / multiples[order]
    np.testing.assert_allclose(case.closed[order + 1](x), slope, rtol=1e-6, atol=1e-8)


def test_right_is_right():
    assert cell_of(lambda f, x: f(x), lambda f, x: x * x * x).verdict == "right"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda f, x: f(x) * (1 + 1e-6),
        lambda f, x: f(x)[:1],
        lambda f, x: f(x) * np.nan,
        lambda f, x: np.zeros(2),
        lambda f, x: np.array([f(x)[0], -f(x)[1]]),
    ],
    ids=["scaled", "a part", "nan", "zero", "one sign"],
)
def test_wrong_is_wrong_even_beside_an_error(wrong):
    def fails(f, x):
        raise RuntimeError("no")

    assert cell_of(wrong).verdict == "WRONG"
    assert cell_of(lambda f, x: f(x), fails, wrong).verdict == "WRONG"


def test_raising_is_told_from_what_the_framework_lacks():
    def fails(f, x):
        raise RuntimeError("no")

    assert cell_of(lambda f, x: f(x), fails).verdict == "raises"
    assert cell_of(fails, control=lambda f, x: f(x)).verdict == "raises"
    assert cell_of(fails, control=fails).verdict == "none"


def test_nothing_measured_is_not_right():
    assert Cell().verdict == "none"
    row = Row("row", (Probe("call", 0, lambda f, x: f(x)),), only=("another",))
    assert measure(row, CASE, lambda x: x**3, lambda x: x**3, CASE.x()).verdict == "-"


@pytest.mark.parametrize("hopeful", [True, False])
def test_calls_compiled_together_fail_one_by_one(hopeful):
    compiled = []

    def compiler(f):
        compiled.append(f)
        return f

    def fails(f, x):
        raise RuntimeError("no")

    probes = (Probe("good", 0, lambda f, x: f(x)), Probe("bad", 0, fails))
    row = Row("row", probes, compiler=compiler)
    cell = measure(row, CASE, lambda x: x**3, lambda x: x**3, CASE.x(), hopeful)
    assert cell.right == ["good"]
    assert cell.raised == ["bad: RuntimeError: no"]
    assert len(compiled) == 2 + hopeful


def test_regression_agrees_with_scikit_learn():
    for name in ("torch", "jax"):
        pytest.importorskip(name)
    import demo_newton

    reference = demo_newton.fit_sklearn()
    for fit in (demo_newton.fit_torch(), demo_newton.fit_jax()):
        np.testing.assert_allclose(fit.weights, reference.weights, atol=1e-6)
        assert fit.objective == pytest.approx(reference.objective, rel=1e-12)

"""A derivative that is off by little in a branch far from the example, and sound twins."""

import importlib
import math
from types import SimpleNamespace

import numpy as np
import pytest
from kinds import every_framework

import diptych
from diptych.proof.claims import nearby
from diptych.proof.elementwise import filled, runs, sheets, windows
from diptych.proof.prober import prober_of
from diptych.proof.subject import Subject, example_of
from diptych.proof.target import target_of

scanned = importlib.import_module("diptych.proof.claims.scanned")  # the function has its name

EXAMPLE = np.array([0.5, 1.0, 2.0, 0.7])


@pytest.fixture
def found(monkeypatch):
    """Returns what is found in branches, no other neighbour being tried."""
    monkeypatch.setattr(nearby, "neighbours", lambda subject: [])
    monkeypatch.setattr(nearby, "boundaries", lambda subject: [])

    def found(f, *args, **options):
        report = diptych.check(f, *args, claims=["vjp", "neighbours"], budget=300.0, **options)
        return report.findings

    return found


def _sum(coefficients, x):
    total = 0 * x
    for c in reversed(coefficients):
        total = total * x + c
    return total


def exprel(threshold, off):
    """Returns `expm1(x) / x`, its derivative a series near zero, off by a share at the boundary."""

    @diptych.rule
    def f(x):
        xp = diptych.namespace(x)
        safe = xp.where(x == 0, xp.ones_like(x), x)
        return xp.where(x == 0, xp.ones_like(x), xp.expm1(safe) / safe)

    @f.vjp
    def _(res, bar):
        xp = diptych.namespace(bar)
        near = xp.abs(res.x) < threshold
        x = xp.where(near, xp.ones_like(res.x), res.x)
        terms = [(n + 1) / math.factorial(n + 2) for n in range(16)]
        terms[2] += off * 0.5 / threshold**2
        formula = (x * xp.exp(x) - xp.expm1(x)) / (x * x)
        return bar * xp.where(near, _sum(terms, res.x), formula)

    return f


def log_sinh(boundary, off):
    """Returns `log(sinh(x))`, its slope from a boundary on off by a share."""

    @diptych.rule
    def f(x):
        xp = diptych.namespace(x)
        return x + xp.log(-xp.expm1(-2 * x) / 2)

    @f.vjp
    def _(res, bar):
        xp = diptych.namespace(bar)
        return bar * (1 + xp.where(res.x > boundary, off, 0.0)) / xp.tanh(res.x)

    return f


@every_framework
@pytest.mark.parametrize("off", [1e-3, 1e-5, 1e-6])
@pytest.mark.parametrize(
    ("make", "boundary"),
    [(exprel, 1e-4), (exprel, 1e-2), (exprel, 0.5), (log_sinh, 5.0), (log_sinh, 88.0)],
)
def test_a_branch_that_is_off_by_little_is_found(found, framework, make, boundary, off):
    findings = found(make(boundary, off), EXAMPLE, frameworks=framework)
    assert {f.claim for f in findings} == {"vjp", "jvp"}
    assert {f.cause for f in findings} == {"where"}
    assert all("'x' filled with" in f.message for f in findings)
    assert all(np.isclose(f.measured / f.expected - 1, off, rtol=0.2) for f in findings)


@every_framework
@pytest.mark.parametrize(
    ("make", "boundary"),
    [(exprel, 1e-4), (exprel, 1e-2), (exprel, 0.5), (log_sinh, 5.0), (log_sinh, 88.0)],
)
def test_the_sound_twin_has_no_finding(found, framework, make, boundary):
    assert found(make(boundary, 0.0), EXAMPLE, frameworks=framework) == []


@every_framework
def test_a_branch_on_the_difference_of_two_arguments_is_found(found, framework):
    @diptych.rule
    def f(x, y):
        xp = diptych.namespace(x)
        return xp.sin(x - y) * y

    @f.vjp
    def _(res, bar):
        xp = diptych.namespace(bar)
        d = res.x - res.y
        slope = xp.where(xp.abs(d) < 1e-3, 1 - 1e-5 + 0 * d, xp.cos(d))
        return bar * slope * res.y, bar * (xp.sin(d) - xp.cos(d) * res.y)

    findings = found(f, EXAMPLE, EXAMPLE[::-1].copy() + 0.1, frameworks=framework)
    assert {f.argument for f in findings if f.claim == "vjp"} == {"x"}


@every_framework
@pytest.mark.parametrize("off", [0.0, 1e-5])
def test_a_branch_on_a_norm(found, framework, off):
    @diptych.rule
    def f(x):
        xp = diptych.namespace(x)
        return xp.sqrt(1 + xp.sum(x * x)) * xp.ones_like(x[:2])

    @f.vjp
    def _(res, bar):
        xp = diptych.namespace(bar)
        squares = xp.sum(res.x * res.x)
        share = 1 + xp.where(squares < 1e-4, off, 0.0)
        return share * xp.sum(bar) * res.x / xp.sqrt(1 + squares)

    findings = found(f, EXAMPLE, frameworks=framework)
    assert bool(findings) == bool(off)
    assert all("where its norm is 0.00" in f.message for f in findings)


def _sheets(f, *args):
    prober = prober_of("torch")
    with prober.session(0):
        target, full = target_of(f, prober, args)
        subject = Subject(target, prober, example_of(target, full, prober.numpy, prober.is_array))
        return subject, list(sheets(subject, 0, np.random.default_rng(0)))


def test_only_elementwise_functions_get_a_sheet():
    torch = pytest.importorskip("torch")
    x = torch.tensor(EXAMPLE)
    for f in (torch.sin, torch.relu, lambda v: v * torch.arange(1.0, 2.0)):
        assert len(_sheets(f, x)[1]) == 1
    for f in (torch.sum, lambda v: v - v.mean(), lambda v: torch.cumsum(v, 0), torch.flip):
        assert not _sheets(f if f is not torch.flip else lambda v: torch.flip(v, [0]), x)[1]


def test_a_point_of_a_sheet_is_named_so_that_it_can_be_made_again():
    torch = pytest.importorskip("torch")
    subject, (there,) = _sheets(torch.sin, torch.tensor(EXAMPLE))
    neighbour = filled(subject, there, 0, 7)
    value = np.ravel(there.values[0])[7]
    assert repr(float(value)) in neighbour.how
    assert np.array_equal(neighbour.example.values[0], np.full(4, value))


def test_noise_is_that_of_the_nearest_points():
    x = np.array([3.0, 1.0, 2.0, 5.0, 4.0])
    noise = np.array([0.0, 0.0, 0.0, 7.0, 0.0])
    assert np.array_equal(windows(x, noise, width=1), [0, 0, 0, 7, 7])


def test_stretches_of_wrong_points():
    x = np.array([3.0, 1.0, 2.0, 5.0, 4.0])
    assert list(runs(x, np.array([1, 0, 1, 1, 0], bool))) == [(2.0, 3.0), (5.0, 5.0)]


def test_the_last_stairs_of_what_saturates_are_no_slope():
    torch = pytest.importorskip("torch")
    # Of one minus the probability float64 knows two values here, and the longest step leads to one.
    logits = torch.full((4,), 35.9908453265622, dtype=torch.float64)
    counts = torch.full((4,), 0.6081652055841489, dtype=torch.float64)

    def log_prob(logits, counts):
        return torch.distributions.ContinuousBernoulli(logits=logits).log_prob(counts)

    prober = prober_of("torch")
    with prober.session(0):
        target, full = target_of(log_prob, prober, (logits, counts))
        there = Subject(target, prober, example_of(target, full, prober.numpy, prober.is_array))
        trial = SimpleNamespace(wanted="auto", subject=there)
        value, error = scanned._slopes(trial, there, 0, np.ones(4))
    # d/dl of l y + log(l / (e^l - 1)) with y = 0.608..., by mpmath at 60 digits
    assert np.all(np.abs(value + 0.36404995) <= 3 * error)

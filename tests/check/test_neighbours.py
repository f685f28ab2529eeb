"""Defects that show only near the example, and sound functions that must stay without findings."""

import importlib.util

import numpy as np
import pytest
from kinds import every_framework

import diptych
from diptych.proof.claims import nearby
from diptych.proof.neighbours import neighbours
from diptych.proof.prober import prober_of
from diptych.proof.subject import Subject, example_of
from diptych.proof.target import target_of


@pytest.fixture
def near(monkeypatch):
    """Checks at those neighbours whose description contains a text, however long that takes."""

    def near(f, *args, only="", **options):
        chosen = lambda subject: [n for n in neighbours(subject) if only in n.how]  # noqa: E731
        monkeypatch.setattr(nearby, "neighbours", chosen)
        claims = ["vjp", "finite", "neighbours"]
        return diptych.check(f, *args, claims=claims, budget=300.0, **options)

    return near


def xp_of(x):
    return diptych.namespace(x)


def softplus(x):
    xp = xp_of(x)
    return xp.where(x > 30, x, xp.log1p(xp.exp(xp.minimum(x, 30 * xp.ones_like(x)))))


def rule_of(body, vjp):
    made = diptych.rule(body)
    made.vjp(vjp)
    return made


POSITIVE = np.array([0.5, 1.0, 2.0, 0.7])


def _wrong_for_negative(res, bar):
    xp = xp_of(bar)
    return bar * xp.where(res.x < 0, 0 * res.x, 2 * res.x)


def _blocked(res, bar):
    xp = xp_of(bar)
    n = 64 * (res.x.shape[0] // 64) if res.x.shape[0] > 64 else res.x.shape[0]
    mask = xp.asarray((np.arange(res.x.shape[0]) < n).astype(float))
    return bar * 2 * res.x * mask


def _nan_at_zero(res, bar):
    return bar * 2 * res.x**3 / res.x**2


def _square(x):
    return x * x


FOUND = {
    "another quadrant": (_square, _wrong_for_negative, POSITIVE, "signs"),
    "the last block": (_square, _blocked, POSITIVE, "129 long"),
    "zero": (_square, _nan_at_zero, POSITIVE, "zero"),
    "far away": (
        softplus,
        lambda res, bar: bar * xp_of(bar).exp(res.x) / (1 + xp_of(bar).exp(res.x)),
        POSITIVE,
        "times 1e3",
    ),
}


@every_framework
@pytest.mark.parametrize("name", list(FOUND))
def test_a_defect_elsewhere_is_found(near, framework, name):
    body, vjp, x, only = FOUND[name]
    report = near(rule_of(body, vjp), x, frameworks=framework, only=only)
    assert [o.status for o in report.outcomes if o.claim == "vjp"] == ["pass"]
    assert report.findings, report
    assert all(f.neighbour for f in report.findings)
    assert all(f.neighbour in f.message for f in report.findings)


@every_framework
def test_ties(near, framework):
    @diptych.rule
    def spread(x):
        xp = xp_of(x)
        return xp.sum((x - xp.mean(x)) ** 2)

    def vjp(res, bar):
        xp = xp_of(bar)
        tied = xp.asarray(float(res.x.shape[0] > 1)) * (res.x[0] == res.x[-1])
        return 2 * bar * (res.x - xp.mean(res.x)) + xp.astype(tied, bar.dtype)

    spread.vjp(vjp)
    report = near(spread, POSITIVE, frameworks=framework, only="equal")
    assert report.findings


@every_framework
def test_a_default_that_the_derivative_ignores(near, framework):
    def power(x, p=2.0):
        return x**2 if p == 2.0 else x**p

    made = diptych.rule(static=("p",))(power)
    made.vjp(lambda res, bar: bar * 2 * res.x)
    report = near(made, POSITIVE, frameworks=framework, only="p=")
    assert report.findings
    assert "p=" in report.findings[0].neighbour


@every_framework
def test_repeated_indices(near, framework):
    @diptych.rule
    def take(x, i):
        return x[i]

    def vjp(res, bar):
        xp = xp_of(bar)
        found = np.zeros(res.x.shape[0], int) - 1
        index = np.asarray(res.i)
        found[index] = np.arange(len(index))  # assigns where it should add
        chosen = xp.asarray(np.maximum(found, 0))
        return xp.where(xp.asarray(found >= 0), bar[chosen], 0 * res.x), None

    take.vjp(vjp)
    report = near(take, np.arange(1.0, 6.0), np.array([3, 1, 4]), frameworks=framework, only="'i'")
    assert report.findings, report


SOUND = {
    "kink": lambda x: xp_of(x).maximum(x, xp_of(x).zeros_like(x)),
    "ties": lambda x: xp_of(x).sort(x),
    "largest": lambda x: xp_of(x).max(x),
    "only positive": lambda x: xp_of(x).log(x),
    "step": lambda x: xp_of(x).floor(x),
    "waves": lambda x: xp_of(x).sin(1e4 * x),
    "one shape only": lambda x: x[:4] * xp_of(x).ones_like(x)[:4] if x.shape == (4,) else 1 / 0,
    "size": lambda x: xp_of(x).sqrt(xp_of(x).sum(x * x) + 1.0),
}


@every_framework
@pytest.mark.parametrize("name", list(SOUND))
def test_sound_functions_have_no_finding(near, framework, name):
    prober = prober_of(framework)
    with prober.session(0):
        x = prober.array(POSITIVE)
    report = near(SOUND[name], x, only="" if framework == "torch" else "'")
    assert not report.findings, report


def test_neighbours_can_be_turned_off():
    report = diptych.check(rule_of(*FOUND["another quadrant"][:2]), POSITIVE, neighbours=False)
    assert not [f for f in report.findings if f.neighbour]
    assert {o.status for o in report.outcomes if o.claim == "neighbours"} == {"skipped"}


@every_framework
def test_neighbours_keep_what_belongs_together(framework):
    prober = prober_of(framework)
    args = (np.ones((3, 4)), np.ones((4, 5)), np.array([0, 2]))
    target, full = target_of(lambda a, b, i: (a @ b)[i], prober, args)
    subject = Subject(target, prober, example_of(target, full, prober.numpy, prober.is_array))
    found = list(neighbours(subject))
    assert len({n.how for n in found}) == len(found) > 50
    shapes = [[x.shape for x in n.example.values] for n in found]
    assert [(3, 6), (6, 5), (2,)] not in shapes
    assert [(3, 5), (5, 5), (2,)] in shapes  # the 4 of both
    assert [(2, 3, 4), (2, 4, 5), (2, 2)] in shapes  # a batch axis
    dtypes = {tuple(x.dtype for x in n.example.values) for n in found}
    assert dtypes == {(np.dtype(float), np.dtype(float), np.dtype(int))}


@every_framework
def test_a_broadcast_argument_whose_cotangent_is_not_summed(near, framework):
    @diptych.rule
    def product(x, y):
        return x * y

    product.vjp(lambda res, bar: (bar * res.y, bar * res.x))
    x = np.arange(1.0, 13.0).reshape(3, 4)
    report = near(product, x, x + 1, frameworks=framework, only="broadcast")
    assert {f.cause for f in report.findings} == {"missing sum"}
    assert "sum over axis" in report.findings[0].message


def test_what_counts_along_an_axis_stays_within_it():
    pytest.importorskip("torch")
    prober = prober_of("torch")
    with prober.session(0):
        table, rows = prober.array(np.arange(10.0).reshape(5, 2)), prober.array(np.array([4, 0, 3]))
        target, args = target_of(lambda t, i: t[i], prober, (table, rows))
        subject = Subject(target, prober, example_of(target, args, prober.numpy, prober.is_array))
        made = {n.how: n.example.values for n in neighbours(subject)}
    for how, (t, i) in made.items():
        if how.startswith("axes of length 5") or "batch" in how:
            assert not t.size or np.all(i < t.shape[0]), how


def test_keys_of_random_numbers_are_varied_without_a_minus():
    from diptych.proof.options import indices

    if not importlib.util.find_spec("jax"):
        pytest.skip("JAX has unsigned keys")
    prober = prober_of("jax")
    key = np.array([0, 7], np.uint32)
    target, args = target_of(lambda x, k: x, prober, (np.ones(2), key))
    subject = Subject(target, prober, example_of(target, args, prober.numpy, prober.is_array))
    assert all(n.example.values[1].dtype == np.uint32 for n in indices(subject))


@every_framework
def test_one_axis_alone(near, framework):
    """The mask of attention is aligned to the other corner in the derivative."""

    def weights(q, k, corner):
        xp = xp_of(q)
        rows, columns = np.arange(q.shape[0])[:, None], np.arange(k.shape[0])[None]
        return xp.asarray((columns <= rows + corner).astype(float))

    @diptych.rule
    def attention(q, k):
        return (q @ k.T) * weights(q, k, k.shape[0] - q.shape[0])

    @attention.vjp
    def _(res, bar):
        masked = bar * weights(res.q, res.k, 0)
        return masked @ res.k, masked.T @ res.q

    q, k = np.random.default_rng(0).normal(size=(2, 4, 2))
    assert near(attention, q, k, frameworks=framework, only="axes of length").ok
    report = near(attention, q, k, frameworks=framework, only="axis 0 of 'q'")
    assert "axis 0 of 'q' made 5 long" in {f.neighbour for f in report.findings}


@every_framework
def test_a_cotangent_that_does_not_matter_at_a_kink(near, framework):
    @diptych.rule
    def relu(x):
        return xp_of(x).maximum(x, xp_of(x).zeros_like(x))

    @relu.vjp
    def _(res, bar):
        xp = xp_of(bar)
        return xp.where(res.x == 0, 0.5 * xp.ones_like(bar), xp.where(res.x > 0, bar, 0 * bar))

    report = near(relu, POSITIVE, frameworks=framework, only="one entry zero")
    assert {f.cause for f in report.findings} == {"not linear"}


def test_a_body_that_cuts_the_graph_is_no_reference_nearby(near):
    torch = pytest.importorskip("torch")

    class Sine(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.from_numpy(np.sin(x.detach().numpy())) + 0 * x

        @staticmethod
        def backward(ctx, bar):
            return bar * ctx.saved_tensors[0].cos()

    assert near(Sine.apply, torch.from_numpy(POSITIVE.copy()), only="times 1e6").ok


def test_where_a_function_jumps_it_has_no_derivative_to_be_finite():
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 4)))
    for f in (
        torch.linalg.qr,
        lambda a: torch.linalg.qr(a)[1],
        lambda a: torch.linalg.eigh((a + a.mT) / 2)[1].abs(),
    ):
        report = diptych.check(f, x, claims=["finite"], budget=300.0)
        assert report.ok, report
    root = lambda a: (a * a).sum().sqrt() * a.sum()  # noqa: E731 - which is smooth at zero
    assert not diptych.check(root, x, claims=["finite"], budget=300.0).ok

"""The reference of last resort says how much rounding hides, and no more."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import diptych  # noqa: E402
from diptych.proof.differences import ByDifferences  # noqa: E402
from diptych.proof.prober import prober_of  # noqa: E402
from diptych.proof.subject import Subject, example_of  # noqa: E402
from diptych.proof.target import target_of  # noqa: E402


def differences(f, *args):
    prober = prober_of("torch")
    target, full = target_of(f, prober, args)
    return ByDifferences(
        Subject(target, prober, example_of(target, full, prober.numpy, prober.is_array))
    )


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def shut_gate(x, w):
    return (1 - torch.sigmoid(x)) * torch.tanh(w)


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (lambda x: 1 - torch.tanh(x) ** 2, [double(9.0, 17.0, 18.5, 25.0)]),
        (lambda x: torch.log_softmax(30 * x, -1), [double(1.0, -0.1, 0.3)]),
        (lambda x: torch.log_softmax(30 * x, -1)[0], [double(2.0, -0.1, 0.3)]),
        (lambda x: 0.5 * (x + torch.sqrt(x * x + 4)), [double(-1e6, -3e5, 1e6, 2.0)]),
        (lambda x: torch.sigmoid(x.float()).double() - 1, [double(9.0, 14.0, 17.0)]),
        (shut_gate, [double(20.0, 30.0, 34.0), double(1.0, -2.0, 19.0)]),
        (torch.nn.functional.cross_entropy, [double(90.0, 3.0, 1.0), torch.tensor(0)]),
        (torch.nn.functional.cross_entropy, [double(37.0, 3.0, 1.0), torch.tensor(0)]),
        (lambda x: torch.nn.functional.logsigmoid(50 * x), [double(0.7, 0.9, -1.0)]),
    ],
)
def test_what_rounding_hides_is_no_finding(f, args):
    report = diptych.check(f, *args, claims=["vjp", "jvp"], reference="differences")
    assert report.findings == []


def test_a_shut_gate_hides_the_weights_behind_it():
    x, w = double(30.0), double(19.0)
    found = differences(shut_gate, x, w).push([None, np.ones(1)])
    assert found.values[0] == 0
    assert 1e-16 < found.errors[0] < 1e-12


def test_nothing_is_hidden_where_values_are_exact():
    found = differences(lambda x, w: torch.stack([x[0], w[0]]), double(1.0), double(1e6))
    measured = found.push([np.full(1, 0.7), None])  # not all sums are such as float32 has
    assert measured.errors[0][1] < 1e-11 * 1e6


def test_what_cancels_in_all_terms_is_not_called_nonlinear():
    x = torch.tensor([[0.3, 1.2, -0.4]], dtype=torch.float64)  # one row correlates with itself: 1
    assert diptych.check(torch.corrcoef, x, claims=["linear"]).findings == []

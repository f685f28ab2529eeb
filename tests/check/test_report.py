"""The report as people read it and as programs do."""

import json

import numpy as np
import pytest

import diptych
from diptych.proof.outcome import Finding, Outcome
from diptych.proof.plain import plain
from diptych.proof.report import BrokenDerivativeError, Report
from diptych.proof.table import merged, notes_of, rows_of

FACTOR = Finding("vjp", "torch", "x", "factor", "It is twice the right one. Divide by 2.", 2.0, 1.0)


def made(*outcomes, **options):
    return Report("f", outcomes, 0.5, 3, **options)


def passed(claim="vjp", framework="torch", **more):
    return Outcome(claim, framework, "pass", error=1e-16, threshold=1e-9, seconds=0.01, **more)


def broken(claim="vjp", framework="torch", *findings):
    return Outcome(claim, framework, "broken", "", 1.0, 1e-9, 2.0, list(findings or [FACTOR]))


def skipped(claim="jvp", framework="torch", note="no forward mode"):
    return Outcome(claim, framework, "skipped", note)


# What counts as ok.


def test_ok_needs_a_claim_that_passed():
    assert made(passed()).ok
    assert not made(skipped()).ok
    assert not made().ok
    assert not made(passed(), broken()).ok


def test_nothing_tested_raises_and_says_so():
    with pytest.raises(BrokenDerivativeError, match="nothing could be tested"):
        made(skipped()).raise_if_broken()


def test_broken_raises_with_the_findings_as_text():
    with pytest.raises(AssertionError, match="It is twice the right one"):
        made(broken()).raise_if_broken()
    made(passed()).raise_if_broken()


# The table.


def test_frameworks_stand_side_by_side():
    report = made(passed(framework="torch"), passed(framework="jax"), skipped(framework="jax"))
    rows = rows_of(report.outcomes)
    assert [(r.claim, [o and o.framework for o in r.cells]) for r in rows] == [
        ("vjp", ["torch", "jax"]),
        ("jvp", [None, "jax"]),
    ]


def test_a_claim_about_both_frameworks_has_a_row_of_its_own():
    outcomes = [passed(), passed(framework="jax"), passed("frameworks", "torch and jax")]
    joint = rows_of(outcomes)[-1]
    assert joint.joint
    assert joint.claim == "frameworks"
    assert "(both)" in made(*outcomes).render()


def test_a_claim_tested_twice_on_a_framework_loses_neither_outcome():
    rows = rows_of([passed(), broken(), passed(framework="jax")])
    assert [[o and o.status for o in r.cells] for r in rows] == [["pass", "pass"], ["broken", None]]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_wider_than_asked_and_nothing_is_cut(width):
    long = "wrong by more than rounding explains " * 12
    finding = Finding("vjp", "torch", "weights['attention.query']", "where", long.strip())
    note = "forward over reverse: no forward mode; reverse over forward: no forward mode"
    outcomes = [
        passed("vjp", "torch"),
        passed("vjp", "jax"),
        skipped("jvp", "torch", note),
        Outcome("order", "jax", "pass", note, 2e-13, 6e-7, 3.2),
        broken("vjp", "torch", finding),
    ]
    text = made(*outcomes).render(width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    # In one line each, whatever the width: verdict, errors and time.
    assert "pass    1e-16/1e-09  10 ms" in text
    assert "pass    2e-13/6e-07  3.2 s" in text
    words = " ".join(text.split())
    assert " ".join(long.split()) in words
    assert f"order on jax: {note}" in words


def test_a_skipped_claim_says_why_and_a_reported_one_what():
    reported = Outcome("cost", "torch", "reported", "VJP 2.1x the primal")
    text = made(passed(), skipped(), reported).render()
    assert "skipped: no forward mode" in text
    assert "VJP 2.1x the primal" in text


def test_the_same_finding_on_two_frameworks_is_said_once():
    on_jax = Finding("vjp", "jax", "x", "factor", "It is twice the right one.", 2.0, 1.0)
    other = Finding("vjp", "jax", "y", "sign", "Negate it.")
    shown = merged([FACTOR, on_jax, other])
    assert [(s.finding.argument, s.frameworks) for s in shown] == [
        ("x", ["torch", "jax"]),
        ("y", ["jax"]),
    ]
    text = made(broken(), broken("vjp", "jax", on_jax, other)).render()
    assert "1. vjp on torch and jax, 'x': factor" in text
    assert "2 findings" in text


def test_findings_of_one_framework_are_never_merged():
    twice = [FACTOR, FACTOR]
    assert len(merged(twice)) == 2


def test_equal_notes_are_said_once():
    note = "against differences"
    outcomes = [
        Outcome(c, f, "pass", note, 0.0, 1e-9) for c in ("jvp", "vjp") for f in ("torch", "jax")
    ]
    assert notes_of(outcomes) == [("jvp, vjp", note)]
    assert notes_of(outcomes[1:]) == [("jvp on jax, vjp", note)]


def test_names_are_never_read_as_markup():
    finding = Finding("vjp", "torch", "x[red]", "factor", "See [bold]here[/bold].")
    text = Report("f[/]", [broken("vjp", "torch", finding)], 0.1, 0).render()
    assert "f[/]" in text
    assert "x[red]" in text
    assert "See [bold]here[/bold]." in text


def test_colour_only_where_it_is_wanted():
    assert "\x1b[" not in made(passed(), broken()).render()
    assert "\x1b[" in made(passed(), broken()).render(color=True)


def test_intentional_is_said():
    assert "straight-through" in str(made(passed(), intentional="straight-through estimator"))


def test_str_follows_the_terminal_between_80_and_120_columns(monkeypatch):
    long = Finding("vjp", "torch", "x", "wrong", "word " * 60)
    report = made(broken("vjp", "torch", long))
    for columns, width in ((40, 80), (110, 110), (300, 120)):
        monkeypatch.setenv("COLUMNS", str(columns))
        widest = max(map(len, str(report).splitlines()))
        assert width - 10 < widest <= width


# JSON.

KEYS = {"schema", "diptych", "name", "ok", "verdict", "seconds", "seed", "intentional",
        "outcomes", "findings"}  # fmt: skip


def test_json_has_the_documented_keys():
    record = json.loads(made(broken(), skipped()).to_json())
    assert set(record) == KEYS
    assert record["verdict"] == "broken"
    assert record["diptych"] == diptych.__version__
    assert set(record["outcomes"][0]) == {
        "claim", "framework", "status", "note", "error", "threshold", "seconds", "findings", "data",
    }  # fmt: skip
    assert record["outcomes"][0]["findings"] == 1
    assert set(record["findings"][0]) == {
        "claim", "framework", "argument", "cause", "message", "measured", "expected", "index",
        "neighbour",
    }  # fmt: skip
    assert all(f"`{key}`" in Report.record.__doc__ for key in KEYS)
    assert json.loads(made(skipped()).to_json())["verdict"] == "untested"
    assert json.loads(made(passed()).to_json())["verdict"] == "ok"


def no_constant(name):
    raise AssertionError(f"{name} is no JSON")


def test_json_is_valid_whatever_the_values_are():
    odd = Finding(
        "vjp", "torch", None, "not finite", "m", np.complex128(complex(1, np.nan)),
        np.float32(np.inf), (np.int64(1), 2),
    )  # fmt: skip
    outcome = Outcome("vjp", "torch", "broken", "", float("inf"), float("nan"), 0.0, [odd])
    outcome.data = {"steps": np.array([1.0, -np.inf]), ("a", 1): (1, {2}), "what": object}
    record = json.loads(made(outcome).to_json(), parse_constant=no_constant)
    assert record["findings"][0]["measured"] == {"real": 1.0, "imag": "NaN"}
    assert record["findings"][0]["expected"] == "Infinity"
    assert record["findings"][0]["index"] == [1, 2]
    assert record["outcomes"][0]["error"] == "Infinity"
    assert record["outcomes"][0]["threshold"] == "NaN"
    assert record["outcomes"][0]["data"]["steps"] == [1.0, "-Infinity"]
    assert record["outcomes"][0]["data"]["('a', 1)"] == [1, [2]]


def test_plain_knows_the_numbers_of_other_libraries():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert plain(np.asarray(1.5, ml_dtypes.bfloat16)) == 1.5
    assert plain(np.bool_(True)) is True
    assert plain(np.float32(2.5)) == 2.5
    torch = pytest.importorskip("torch")
    assert plain(torch.tensor([1.0, float("nan")])) == [1.0, "NaN"]


def test_json_of_a_real_check_reads_back():
    pytest.importorskip("torch")

    @diptych.rule
    def f(x):
        return x * x

    @f.vjp
    def f_vjp(res, out_bar):
        return 3 * res.x * out_bar

    report = diptych.check(
        f, np.array([1.0, 2.0]), frameworks="torch", claims=["vjp", "jvp"], neighbours=False
    )
    record = json.loads(report.to_json(), parse_constant=no_constant)
    assert record["findings"]
    assert {f["cause"] for f in record["findings"]} == {"factor"}
    measured = [f["measured"] / f["expected"] for f in record["findings"]]
    assert measured == pytest.approx([1.5] * len(measured))

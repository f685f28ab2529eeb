"""The checker finds a rule with one small mistake in it, whatever the rule and the mistake."""

import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import mutated_elsewhere as elsewhere
import mutated_rules
from mutants import findings, measured, mutants, rebuilt, tried

LEAST = 0.98


def cases(framework, monkeypatch):
    """Returns the rules to mutate; PyTorch takes a tenth of JAX's time, and gets most of them."""
    found = list(mutated_rules.CASES)
    if framework == "torch":
        found += [*elsewhere.demo_cases(), *elsewhere.function_db_cases()]
    else:
        found = [c for c in found if c.name in elsewhere.ALSO_JAX]
    witnesses, module = elsewhere.witness_cases(framework)
    monkeypatch.setattr(module, "VJP_SCALE", 1.0)  # then they are rules like others
    monkeypatch.setattr(module, "JVP_SCALE", 1.0)
    return [*found, *(witnesses if framework == "torch" else witnesses[:1])]


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_mutants_are_found(framework, monkeypatch):
    pytest.importorskip(framework)
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mutants divide by zero
        for case in cases(framework, monkeypatch):
            assert not findings(case, rebuilt(case.rule), framework), case.name
            results += tried(case, framework, every=2)  # the benchmark takes all
    changing = [r for r in results if r.changes and not r.raises]
    missed = [r for r in results if r.changes and not r.found]
    for r in missed:
        print("missed:", r.case, r.framework, r.kind, r.what)
    assert len(changing) > (400 if framework == "torch" else 25)
    assert sum(r.found for r in changing) >= LEAST * len(changing)
    assert len(missed) <= (1 - LEAST) * sum(r.changes for r in results)


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize("case", mutated_rules.CASES, ids=lambda case: case.name)
def test_the_typical_rules_are_right(case, framework):
    pytest.importorskip(framework)
    body = case.rule._statement.body
    rule, plain = (measured(framework, f, case.args()) for f in (case.rule, body))
    assert not rule.raised
    assert not rule.differs(plain)


def test_mutants_are_what_they_are_called():
    case = next(c for c in mutated_rules.CASES if c.name == "complex_product")
    made = [(m.kind, m.what.partition(": ")[2]) for m in mutants(case.rule)]
    assert ("conj", "xp.conj(res.w) -> res.w") in made
    assert ("residual", "res.z -> res.w") in made
    assert ("product", "xp.conj(res.w) * bar -> bar") in made
    assert {kind for kind, _ in made} == {
        "sign", "factor", "zero", "conj", "residual", "product"
    }  # fmt: skip


def test_one_that_changes_nothing_is_not_looked_for():
    pytest.importorskip("torch")
    case = next(c for c in mutated_rules.CASES if c.name == "huber")
    harmless = [t for t in tried(case, "torch") if not t.changes]
    # No entry of the example is exactly 1.
    assert any(t.kind == "comparison" for t in harmless)
    assert not any(t.found for t in harmless)

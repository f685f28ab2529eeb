"""Each broken derivative is found by the right claim with the right cause; no sound one is."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import corpus

import diptych
from diptych.proof.causes import CAUSES
from diptych.proof.claims import CLAIMS

BROKEN = corpus.entries(sound=False)
SOUND = corpus.entries(sound=True)


def found_in(entry):
    """Returns the findings: of a broken one those of its claims, of a sound one those of all.

    Only those are varied or compiled that ask for it.
    """
    options = {"neighbours": False, "compile": False}
    if not entry.sound:
        options |= {"claims": (*entry.claims, "neighbours")}
    # Neighbours are tried to the end of their list: no test hangs on how fast the machine is.
    options |= {"budget": 300.0, **entry.options}
    return diptych.check(entry.f, *entry.args(), **options).findings


def marked(entries):
    return [
        pytest.param(
            e,
            id=e.name,
            marks=[pytest.mark.xfail(reason=corpus.NOT_YET[e.name], strict=True)]
            if e.name in corpus.NOT_YET
            else [],
        )
        for e in entries
    ]


@pytest.mark.filterwarnings("ignore")  # the corpus is other people's code
@pytest.mark.parametrize("entry", marked(BROKEN))
def test_a_broken_derivative_is_found_with_its_cause(entry):
    if set(entry.claims) == {"frameworks"} and not all(map(find_spec, ("torch", "jax"))):
        pytest.skip("what differs between frameworks shows with both")
    findings = found_in(entry)
    said = [(f.claim, f.cause, f.message) for f in findings]
    assert any(entry.matches(f) for f in findings), said
    assert all(f.cause in CAUSES for f in findings)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("entry", marked(SOUND))
def test_a_sound_derivative_has_no_finding(entry):
    assert [(f.claim, f.cause, f.message) for f in found_in(entry)] == []


# Those in whose neighbours a false finding was once made: rounding inside, jumps, indices, keys.
VARIED = (
    "torch_step",
    "torch_through_float",
    "torch_norm_near_zero",
    "torch_oscillating",
    "Float32Only",
    "jax_lookup",
    "jax_sample",
    "jax_corrcoef_row",
    "torch_unit_circle",
    "torch_offset_1e+07_0",
)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("entry", marked([e for e in SOUND if e.name in VARIED]))
def test_a_sound_derivative_has_no_finding_nearby(entry):
    options = {**entry.options, "neighbours": True, "budget": 300.0}
    options |= {"claims": ["vjp", "jvp", "finite", "neighbours"], "compile": False}
    report = diptych.check(entry.f, *entry.args(), **options)
    assert [(f.claim, f.cause, f.message) for f in report.findings] == []


def test_the_corpus_is_as_large_as_it_says():
    if len({e.framework for e in BROKEN}) < 3:
        pytest.skip("one framework alone is installed")
    assert len(BROKEN) >= 60
    assert len(SOUND) >= 40


def test_every_cause_and_claim_that_an_entry_names_exists():
    for entry in BROKEN:
        assert all([entry.claims, entry.causes, entry.seen]), entry.name
        assert set(entry.causes) <= set(CAUSES), entry.name
        assert set(entry.claims) <= {*CLAIMS, "frameworks"}, entry.name


def test_what_is_not_found_yet_is_in_the_corpus():
    names = {e.name for e in (*BROKEN, *SOUND)}
    if len({e.framework for e in BROKEN}) < 3:
        pytest.skip("one framework alone is installed")
    assert set(corpus.NOT_YET) <= names

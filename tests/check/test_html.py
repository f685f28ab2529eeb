"""The page: that it is whole, reads without eyes or colours, and plots what was measured."""

import importlib.util
import math
import pickle
import re
from html.parser import HTMLParser
from importlib import resources
from types import SimpleNamespace

import numpy as np
import pytest

import diptych
from diptych.proof import plots
from diptych.proof.curves import POINTS, record_line
from diptych.proof.html import document, page
from diptych.proof.outcome import Finding, Outcome
from diptych.proof.report import Report

INSTALLED = [name for name in ("torch", "jax") if importlib.util.find_spec(name) is not None]
needs_framework = pytest.mark.skipif(not INSTALLED, reason="a check needs a framework")
VOID = {"meta", "br", "img", "input", "link", "hr"}


class Page(HTMLParser):
    """What a page holds; unbalanced elements are errors."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def said(self):
        return " ".join(" ".join(self.text).split())


def made(*, framework="torch", name="f", **more):
    curve = {
        "steps": [1e-12, 1e-6, 1e-2], "rule": [1e-4, 1e-10, 1e-4],
        "reference": [1e-4, 0.0, float("nan")], "reference_name": "AD of the body",
    }  # fmt: skip
    pairs = {
        "name": "x", "entries": 4, "measured": [1.0, 2.0, float("nan"), -3e9],
        "expected": [1.0, 1.0, 1.0, 1e-9], "wrong": [False, True, True, True],
    }  # fmt: skip
    finding = Finding("vjp", framework, "x", "factor", "It is twice. Divide.", 2.0, 1 + 2j, (0, 1))
    outcomes = [
        Outcome("vjp", framework, "broken", "against AD", 1.0, 1e-9, 0.1, [finding],
                {"curve": curve, "pairs": [pairs]}),
        Outcome("jvp", framework, "skipped", "no forward mode"),
        Outcome("cost", framework, "reported", "VJP 2x", None, None, 0.2, [],
                {"seconds": {"primal": 1e-6, "vjp": 2.5e-3}, "flops": {"primal": 84.0},
                 "scale": 4}),
        Outcome("memory", framework, "pass", "keeps 24 bytes", None, None, 0.2, [],
                {"residual_bytes": 24, "input_output_bytes": 12_000}),
        Outcome("frameworks", "torch and jax", "pass", "", 1e-16, 1e-9, 0.1),
    ]  # fmt: skip
    return Report(name, [Outcome(**{**vars(o), **more}) for o in outcomes], 1.0, 0)


def checked(factor, n=2, **options):
    @diptych.rule
    def f(x):
        return x * x * x

    @f.vjp
    def f_vjp(res, out_bar):
        return factor(res.x) * 3 * res.x**2 * out_bar

    x = np.linspace(0.5, 2.0, n)
    return diptych.check(
        f, x, frameworks=INSTALLED[0], claims=["jvp", "vjp"], neighbours=False, **options
    )


# One page, whole and by itself.


def test_the_page_loads_nothing_and_its_elements_are_balanced():
    text = page(made())
    found = Page(text)
    assert not any("src" in attrs for _, attrs in found.elements)
    assert all(attrs.get("href", "#").startswith("#") for _, attrs in found.elements)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in found.elements}
    assert "url(" not in text
    assert "@import" not in text
    policy = [m["content"] for m in found.all("meta") if "http-equiv" in m]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_names_and_messages_are_escaped():
    bad = "<script>alert('x')</script> & \"q\""
    finding = Finding(bad, "torch", bad, "factor", bad, 1.0, 2.0, (0,), bad)
    data = {"pairs": [{"name": bad, "entries": 1, "measured": [1.0], "expected": [1.0],
                       "wrong": [False]}]}  # fmt: skip
    outcome = Outcome(bad, "torch", "broken", bad, 1.0, 1.0, 0.1, [finding], data)
    text = document([Report(bad, [outcome], 1.0, 0, intentional=bad)] * 2, bad)
    assert "<script" not in text
    assert Page(text).said.count(bad) >= 10


def test_everything_of_the_report_is_there():
    said = Page(page(made())).said
    for text in ("broken", "1/1e-09", "no forward mode", "VJP 2x", "It is twice. Divide.", "(0, 1)",
                 "1+2j", "against AD", "1e-16/1e-09", "divide by that factor"):  # fmt: skip
        assert text in said, text


def test_a_claim_about_all_frameworks_spans_their_columns():
    one, other = made(), made(framework="jax")
    both = Report("f", [*one.outcomes[:4], *other.outcomes], 1.0, 0)
    spans = [attrs["colspan"] for attrs in Page(page(both)).all("td") if "colspan" in attrs]
    assert spans == ["2"]


def test_an_empty_report_makes_a_page():
    assert "nothing could be tested" in Page(page(Report("f", [], 0.0, 0))).said


def test_to_html_makes_folders(tmp_path):
    path = made().to_html(tmp_path / "a" / "b.html")
    assert path.read_text(encoding="utf-8") == page(made())


# For readers without a mouse, without sight, and without some colours.


def test_every_plot_is_named_and_described_and_ids_are_unique():
    found = Page(document([made(), made(framework="jax"), made()], "all"))
    ids = [attrs["id"] for _, attrs in found.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    drawn = [a for a in found.all("svg") if a.get("aria-hidden") != "true"]
    assert len(drawn) >= 9
    for attrs in drawn:
        assert attrs["role"] == "img"
        assert set(attrs["aria-labelledby"].split()) <= set(ids)
    links = [attrs["href"].removeprefix("#") for attrs in found.all("a")]
    assert len(links) == 3
    assert set(links) <= set(ids)


def test_scrolling_regions_can_be_reached_with_the_keyboard():
    for _, attrs in Page(page(made())).elements:
        if attrs.get("class") == "scroll":
            assert attrs["tabindex"] == "0"
            assert attrs["aria-label"]


def test_tables_have_headers_and_the_page_one_first_heading():
    found = Page(page(made()))
    assert all(attrs.get("scope") in ("col", "row") for attrs in found.all("th"))
    assert len(found.all("h1")) == 1
    assert found.all("html") == [{"lang": "en"}]


def test_verdicts_are_words_and_signs_not_only_colours():
    assert "✗ broken" in Page(page(made())).said


def luminance(color):
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_has_contrast_in_light_and_in_dark():
    css = resources.files("diptych.proof").joinpath("page.css").read_text()
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", block))
        for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    )
    assert set(light) == set(dark)
    assert "prefers-color-scheme: dark" in css
    for colors in (light, dark):
        for ground in ("page", "card"):
            for ink in ("ink", "soft", "good", "bad", "other"):
                assert contrast(colors[ink], colors[ground]) >= 4.5, (ink, ground)


# What the plots show.


@needs_framework
def test_a_right_rule_draws_a_v():
    report = checked(lambda x: 1.0)
    report.record()
    for outcome in report.outcomes:
        curve = outcome.data["curve"]
        best = int(np.argmin(curve["rule"]))
        assert min(curve["rule"]) < 1e-8
        assert 0 < best < len(curve["steps"]) - 1
        # Truncation: a hundredth of the step, a ten-thousandth of the error.
        steps, errors = np.array(curve["steps"])[-4:], np.array(curve["rule"])[-4:]
        slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
        assert slope == pytest.approx(2.0, abs=0.3)
        # Rounding: the error grows as the step shrinks.
        assert curve["rule"][0] > 1e3 * curve["rule"][best]
    assert "truncation shrinks" in Page(page(report)).said


@needs_framework
def test_a_wrong_rule_stays_away_where_the_reference_does_not():
    report = checked(lambda x: 1.5)
    report.record()
    for outcome in report.outcomes:
        curve = outcome.data["curve"]
        assert min(curve["rule"]) > 0.2
        assert min(curve["reference"]) < 1e-8
        assert curve["reference_name"] == "AD of the body"
    assert "however small the step" in Page(page(report)).said


@needs_framework
def test_wrong_entries_are_plotted_however_many_there_are():
    def factor(x):
        xp = diptych.namespace(x)
        return xp.where(x == 2.0, 1.5, 1.0)  # the last entry of many

    report = checked(factor, n=5000)
    pairs = next(o for o in report.outcomes if o.claim == "vjp").data["pairs"][0]
    assert pairs["entries"] == 5000
    assert len(pairs["wrong"]) <= POINTS
    assert sum(pairs["wrong"]) == 1
    worst = pairs["wrong"].index(True)
    assert pairs["measured"][worst] / pairs["expected"][worst] == pytest.approx(1.5)
    assert "1 of them wrong" in Page(page(report)).said


@needs_framework
def test_differences_are_plotted_along_random_directions():
    report = checked(lambda x: 1.0, n=50, reference="differences")
    report.record()
    vjp = next(o for o in report.outcomes if o.claim == "vjp")
    assert "random directions" in vjp.data["pairs"][0]["name"]
    assert vjp.data["curve"]["reference_name"] == "differences"


def test_cost_and_memory_are_drawn_as_measured():
    text = page(made())
    bars = {
        label: (float(width), said)
        for label, width, said in re.findall(
            r'class="end">([^<]+)</text><rect class="bar \w+"[^>]*? width="([\d.]+)"[^>]*/>'
            r"<text[^>]*>([^<]+)<",
            text,
        )
    }
    assert bars["the value"][1] == "84"  # the last of this label: FLOPs
    assert bars["VJP"][1] == "2.5 ms"
    assert bars["residuals"][1] == "24 B"
    assert bars["inputs, outputs"][1] == "12 kB"
    assert bars["residuals"][0] < 0.01 * bars["inputs, outputs"][0]
    assert "1 µs" in text


def test_what_is_not_finite_is_counted_not_drawn():
    said = Page(page(made())).said
    assert "Not finite, so not drawn: 1 entry" in said
    assert "nan" not in "".join(re.findall(r'd="([^"]*)"', page(made()))).lower()


@needs_framework
def test_where_nothing_is_truncated_the_page_does_not_say_so():
    @diptych.rule(linear=True)
    def f(x):
        return 3 * x

    report = diptych.check(f, np.linspace(0.5, 2.0, 3), frameworks=INSTALLED[0], claims="jvp",
                           neighbours=False)  # fmt: skip
    said = Page(page(report)).said
    assert "no truncation, only rounding" in said
    assert "truncation shrinks" not in said


# Axes.


@pytest.mark.parametrize(
    "values", [[0.0], [1.0, 1.0], [-1e-30, 1e-30], [-5.0, 1e9], [1e-9, 1.0], [3.0, 3.0 + 1e-15], []]
)
def test_linear_and_signed_axes_hold_their_values(values):
    for make in (plots.linear, plots.signed):
        scale = make(values, "")
        assert all(-0.01 <= scale.at(v) <= 1.01 for v in values)
        places = [scale.at(v) for v, _ in scale.ticks]
        assert all(-0.01 <= p <= 1.01 for p in places)
        assert 1 <= len(scale.ticks) <= 8


@pytest.mark.parametrize("values", [[0.0], [1e-300, 1e300], [1e-14, 0.1], [math.inf, 1.0], []])
def test_logarithmic_axes_hold_their_values(values):
    scale = plots.logarithmic(values, "")
    assert all(0 <= scale.at(v) <= 1.01 for v in values if math.isfinite(v))
    assert 2 <= len(scale.ticks) <= 8


def test_numbers_are_short():
    assert plots.power(-12) == "10⁻¹²"
    assert plots.power(0) == "1"
    assert plots.short(-1.5e-12) == "\u22121.5e\u221212"
    assert plots.short(0.000123456) == "0.000123"


@needs_framework
def test_a_report_travels_to_another_process_with_its_plots():
    report = checked(lambda x: 1.0)
    report.record()
    again = pickle.loads(pickle.dumps(report))
    assert again.record() == report.record()
    assert all("curve" in o.data for o in again.outcomes)
    unasked = pickle.loads(pickle.dumps(checked(lambda x: 1.0)))  # the rule itself stays behind
    assert "curve" not in unasked.record()["outcomes"][0]["data"]


@needs_framework
def test_a_check_waits_for_no_curve():
    calls = []

    def counted(x):
        calls.append(1)
        return x * 2.0

    report = diptych.check(counted, np.ones(2), frameworks=INSTALLED[0], claims=["jvp"],
                           neighbours=False)  # fmt: skip
    before = len(calls)
    report.record()
    assert len(calls) > before
    between = len(calls)
    report.record()
    assert len(calls) == between


def test_a_curve_that_fails_is_said_and_the_page_is_written():
    def fails():
        raise RuntimeError("gone")

    outcome = Outcome("vjp", "torch", "pass", later=fails)
    report = Report("f", [outcome], 1.0, 0)
    assert "vjp" in Page(page(report)).said
    assert report.record()["outcomes"][0]["data"] == {"not plotted": "RuntimeError: gone"}


@needs_framework
def test_a_cotangent_of_another_shape_is_still_the_claims_to_judge():
    trial = SimpleNamespace(neighbour=None, notes={})
    record_line(trial, [np.ones((3, 4))], [np.ones(3)], [np.ones(5)], [np.ones((3, 4))])
    assert trial.notes == {}

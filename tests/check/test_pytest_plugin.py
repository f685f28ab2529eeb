"""The pytest plugin, in pytest runs of its own."""

import importlib
import importlib.metadata
import importlib.util
import sys
import tomllib
from pathlib import Path

import pytest

from diptych import pytest_plugin
from diptych.pytest_plugin import _file_name

pytest_plugins = ["pytester"]

INSTALLED = [name for name in ("torch", "jax") if importlib.util.find_spec(name) is not None]
ROOT = Path(__file__).parents[2]
# Where this tree is installed the entry point loads the plugin; `-p` too would load it twice.
LOADED = any(
    entry.value == "diptych.pytest_plugin"
    for entry in importlib.metadata.entry_points(group="pytest11")
)

pytestmark = pytest.mark.skipif(not INSTALLED, reason="a check needs a framework")

TESTS = """
import diptych, numpy as np, pytest

@diptych.rule
def square(x):
    return x * x

@square.vjp
def square_vjp(res, out_bar):
    return 2 * res.x * out_bar

@diptych.rule
def wrong(x):
    return x * x

@wrong.vjp
def wrong_vjp(res, out_bar):
    return -2 * res.x * out_bar

@diptych.rule
def silent(x):
    return x * x

X = np.array([1.0, 2.0])
FAST = dict(frameworks="{framework}", claims=["vjp"], neighbours=False)

def test_sound(check_derivatives):
    report = check_derivatives(square, X, **FAST)
    assert report.ok

def test_twice(check_derivatives):
    check_derivatives(square, X, **FAST)
    check_derivatives(square, 2 * X, **FAST)

def test_wrong(check_derivatives):
    secret_local = "of the test"
    check_derivatives(wrong, X, **FAST)

def test_misused(check_derivatives):
    check_derivatives(square, **FAST)
"""


@pytest.fixture
def runs(pytester, monkeypatch):
    # pytester forgets every module that a run imported, and PyTorch cannot be imported twice.
    monkeypatch.setattr(
        "_pytest.pytester.SysModulesSnapshot.restore", lambda _: sys.modules.pop("test_rules", None)
    )
    pytester.makepyfile(test_rules=TESTS.format(framework=INSTALLED[0]))

    def run(*arguments):
        load = () if LOADED else ("-p", "diptych.pytest_plugin")
        quiet = ("-p", "no:cacheprovider", "-p", "no:randomly")
        return pytester.runpytest_inprocess(*load, *quiet, *arguments)

    return run


def test_a_sound_rule_passes_and_the_report_is_returned(runs):
    runs("-k", "sound or twice").assert_outcomes(passed=2)


def test_a_broken_rule_fails_with_its_findings_and_no_traceback(runs):
    result = runs("-k", "wrong")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*diptych.check of wrong*", "*BROKEN*", "1. vjp on *'x': sign"])
    text = result.stdout.str()
    assert "Traceback" not in text
    assert "pytest_plugin.py" not in text
    assert "secret_local" not in text
    assert "check_derivatives(" not in text


def test_a_check_that_raises_shows_the_line_of_the_test(runs):
    result = runs("-k", "misused")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">*check_derivatives(square, **FAST)", "E *KindError*"])
    assert "report = check(f" not in result.stdout.str()


def test_nothing_tested_is_a_failure(pytester, runs):
    pytester.makepyfile(
        test_rules=f"""
        import numpy as np
        def test_nothing(check_derivatives):
            check_derivatives(lambda x: x * 2.0, np.ones(2), frameworks="{INSTALLED[0]}",
                              claims=["compile"], compile=False)
        """
    )
    result = runs()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*nothing could be tested*"])


def test_one_page_holds_every_check(pytester, runs):
    result = runs("--diptych-html", "out/page.html", "-k", "not misused")
    result.assert_outcomes(passed=2, failed=1)
    text = (pytester.path / "out" / "page.html").read_text(encoding="utf-8")
    assert text.count("<article") == 4
    assert text.count("test_rules.py::test_twice: square</a>") == 2
    assert "diptych-section-id" not in text
    for k in range(4):
        assert f'<article id="r{k}"' in text
        assert f'href="#r{k}"' in text
    result.stdout.fnmatch_lines(["diptych: checked 4 times, see *page.html"])


def test_a_folder_holds_a_page_for_each_check_and_an_index(pytester, runs):
    runs("--diptych-html", "pages", "-k", "not misused")
    folder = pytester.path / "pages"
    names = sorted(p.name for p in folder.iterdir())
    assert names == [
        "index.html",
        "test_rules.py-test_sound.html",
        "test_rules.py-test_twice-2.html",
        "test_rules.py-test_twice.html",
        "test_rules.py-test_wrong.html",
    ]
    index = (folder / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{name}"' in index for name in names[1:])
    assert "sign" in (folder / "test_rules.py-test_wrong.html").read_text(encoding="utf-8")
    assert all("diptych-section-id" not in (folder / n).read_text() for n in names)


@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="needs xdist")
def test_workers_send_their_reports(pytester, runs):
    load = () if LOADED else ("-p", "diptych.pytest_plugin")
    pytester.runpytest_subprocess(*load, "-n", "1", "--diptych-html", "page.html", "-k", "sound")
    text = (pytester.path / "page.html").read_text(encoding="utf-8")
    assert "test_rules.py::test_sound: square" in text
    assert '<article id="r0"' in text


def test_without_the_option_nothing_is_written(pytester, runs):
    before = set(pytester.path.rglob("*.html"))
    runs("-k", "sound")
    assert set(pytester.path.rglob("*.html")) == before


def test_a_session_without_checks_still_writes_a_page(pytester, runs):
    runs("--diptych-html", "page.html", "-k", "no_such_test")
    assert "None." in (pytester.path / "page.html").read_text(encoding="utf-8")


def test_file_names_are_safe_and_differ():
    taken = set()
    names = [_file_name(n, taken) for n in ("a.py::t[x/../y z]", "a.py::T[x/../y z]", "é", "é")]
    assert len({n.lower() for n in names}) == 4
    assert all("/" not in n and " " not in n and not n.startswith(".") for n in names)


def test_pyproject_registers_the_plugin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entries = project["entry-points"]["pytest11"]
    assert [importlib.import_module(m) for m in entries.values()] == [pytest_plugin]

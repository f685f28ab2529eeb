"""The pages' sources: every program runs, and every page has what a page must have."""

import ast
import re
from pathlib import Path

import pytest

pytest.importorskip("yaml")

from diptych.learn import site as checks
from diptych.learn.pages import Site, fences, summary

ROOT = Path(__file__).parents[2]
SITE = Site.read(ROOT / "mkdocs.yml")
PAGES = SITE.pages
TUTORIAL = SITE.tutorial
# In this order; a solution may stand within its exercise.
PARTS = [
    r"^# \S",
    r'^!!! abstract "What you will be able to do"$',
    r'^!!! warning "Common mistakes"$',
    r'^!!! question "Exercise"$',
    r'^ *\?\?\? success "Solution"$',
    r"^## Sources$",
]


def test_every_page_is_in_the_navigation():
    assert sorted(SITE.nav) == sorted(PAGES)
    assert len(set(SITE.nav)) == len(SITE.nav)


def test_the_tutorial_has_all_its_pages_in_order():
    assert len(TUTORIAL) >= 15
    numbers = [f"{n:02}" for n in range(1, len(TUTORIAL) + 1)]
    assert [Path(page).name[:2] for page in TUTORIAL] == numbers


def test_every_python_fence_declares_exec():
    assert list(checks.undeclared(SITE)) == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_one_session_named_after_it(page):
    found = {fence.options.get("session") for fence in fences(SITE.text(page)) if fence.runs}
    assert found <= {Path(page).stem}


@pytest.mark.parametrize("page", PAGES)
def test_options_are_spelt_as_markdown_exec_knows_them(page):
    for fence in fences(SITE.text(page)):
        if fence.runs:
            assert fence.options.keys() <= {"exec", "source", "session", "result", "html", "title"}
            assert fence.options["exec"] == "on"
            assert fence.options.get("source", "material-block") == "material-block"
            assert fence.options.get("result", "text") == "text"
            assert fence.options.get("html", "1") == "1"


@pytest.mark.parametrize("page", TUTORIAL)
def test_a_page_has_its_parts_in_order(page):
    text, at = SITE.text(page), 0
    for part in PARTS:
        found = re.compile(part, re.MULTILINE).search(text, at)
        assert found is not None, f"{part} is missing, or out of order"
        at = found.end()
    assert "http" in text[at:]  # links to sources
    assert summary(text).count(";") >= 2


@pytest.mark.parametrize("page", TUTORIAL)
def test_a_page_has_a_picture_with_its_text(page):
    pictures = [f for f in fences(SITE.text(page)) if f.options.get("html") == "1"]
    assert pictures
    for fence in pictures:
        assert re.search(r"print\(\s*picture\(", fence.code), "a notebook shows pictures alone"
        assert "alt=" in fence.code


@pytest.mark.parametrize("page", TUTORIAL)
def test_solutions_and_mistakes_are_run(page):
    """A solution asserts its answer; the mistakes are shown, not told."""
    text = SITE.text(page)
    lines = text.splitlines()
    ran = [fence for fence in fences(text) if fence.runs]
    # A page may have a function of its own that asserts.
    asserting = {
        function.name
        for fence in ran
        for function in ast.walk(ast.parse(fence.code))
        if isinstance(function, ast.FunctionDef)
        and any(
            isinstance(node, ast.Assert) or getattr(node, "attr", "") == "raise_if_broken"
            for node in ast.walk(function)
        )
    }
    asserts = re.compile("|".join([r"\bassert", *(rf"\b{name}\(" for name in asserting)]))
    for kind, must in (("??? success", asserts), ("!!! warning", re.compile(""))):
        for begin, line in enumerate(lines):
            if line.lstrip().startswith(kind):
                depth = len(line) - len(line.lstrip())
                end = next(
                    (
                        n
                        for n in range(begin + 1, len(lines))
                        if lines[n].strip() and len(lines[n]) - len(lines[n].lstrip()) <= depth
                    ),
                    len(lines),
                )
                inside = [f for f in ran if begin < f.line <= end]
                assert inside, f"line {begin + 1}: {kind} runs nothing"
                assert any(must.search(fence.code) for fence in inside)


@pytest.mark.parametrize("page", PAGES)
def test_tabs_are_named_alike_everywhere(page):
    names = re.findall(r'^ *===[!+]* *"?([^"\n]*)"?', SITE.text(page), re.MULTILINE)
    assert set(names) <= {"PyTorch", "JAX", "diptych"}


def test_figures_are_named_and_known():
    known = {"chain", "modes", "vee"}
    found = [name for page in PAGES for name in re.findall(r'data-figure="(\w+)"', SITE.text(page))]
    assert set(found) <= known


def test_what_a_page_teaches_is_one_line():
    text = (
        '# A\n\nB.\n\n!!! abstract "What"\n\n    - Say `a|b`,\n      and c.\n    - Do d;\n\n- e\n'
    )
    assert summary(text) == r"Say `a\|b`, and c; do d"

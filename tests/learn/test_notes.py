"""Every part of the notes that the tutorial grew from lives on a page of it.

`notes.md` is the notes as they were. Each heading and each program of them is listed with the page
that it became, and with what must stand there.
"""

import ast
import re
from pathlib import Path

import pytest

pytest.importorskip("yaml")

from diptych.learn.pages import Site, fences

NOTES = (Path(__file__).parent / "notes.md").read_text()
SITE = Site.read(Path(__file__).parents[2] / "mkdocs.yml")

HEADINGS = {
    "custom_jvp_vjp_tutorials": ("index.md", ["JVP", "VJP", "PyTorch", "JAX"]),
    "What are vector-jacobian products and jacobian-vector products?": (
        "tutorial/01_two_directions.md",
        ["Jacobian-vector product", "vector-Jacobian product", "primal", "tangent", "chain rule"],
    ),
    "When to use which?": (
        "tutorial/02_which_mode.md",
        ["few inputs and many outputs", "many inputs and few outputs"],
    ),
    "Torch": ("tutorial/03_torch_function.md", ["# PyTorch: torch.autograd.Function"]),
    "torch.autograd.Function": (
        "tutorial/03_torch_function.md",
        ["ctx", "forward", "backward", "setup_context", "jvp", "vmap"],
    ),
    "Implementing a custom torch backward pass using `torch.autograd.Function`": (
        "tutorial/04_torch_backward.md",
        ["static", "save_for_backward", "saved_tensors", "needs_input_grad"],
    ),
    "Torch Double backward Functions": (
        "tutorial/06_torch_double_backward.md",
        ["intermediate/custom_function_double_backward_tutorial", "create_graph"],
    ),
    "JAX": (
        "tutorial/08_jax_custom_jvp.md",
        ["notebooks/Custom_derivative_rules_for_Python_code"],
    ),
    "Custom vjps and jvps": ("tutorial/09_jax_custom_vjp.md", ["custom_vjp", "custom_jvp"]),
}
# The programs, by the classes that they define: all names that one defines stand on its page.
PROGRAMS = {
    ("CustomBackward",): "tutorial/03_torch_function.md",
    ("CustomTorchBackward",): "tutorial/04_torch_backward.md",
    ("Sin", "SinBackward"): "tutorial/06_torch_double_backward.md",
}
# Statements of the prose that are in no heading.
STATEMENTS = {
    "carrying both a primals and tangents": ("tutorial/01_two_directions.md", "Forward"),
    "all the way up to the root": ("tutorial/01_two_directions.md", "chain rule"),
    "small number of inputs (parameters) and a large number of outputs": (
        "tutorial/02_which_mode.md",
        "few inputs and many outputs",
    ),
    "large number of inputs (parameters) and a small number of ouputs": (
        "tutorial/02_which_mode.md",
        "many inputs and few outputs",
    ),
    "jvps in the making as of July 2024": ("tutorial/05_torch_forward_vmap.md", "jvp"),
    "We require two functions": ("tutorial/03_torch_function.md", "There are five now"),
    "uses a context object `ctx`": ("tutorial/03_torch_function.md", "context object"),
    "as many `None`s as there are static args": ("tutorial/04_torch_backward.md", "`None`"),
    "This function does some custom gradient logic": (
        "tutorial/04_torch_backward.md",
        "custom_logic",
    ),
}


def prose(text):
    """Returns a text without its programs."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def programs():
    return [fence for fence in fences(NOTES) if fence.python]


def classes(code):
    return tuple(n.name for n in ast.parse(code).body if isinstance(n, ast.ClassDef))


def has(page, phrase):
    """Returns whether a page has a phrase, however its lines are broken."""
    return phrase in " ".join(SITE.text(page).split())


def test_each_heading_is_listed():
    found = re.findall(r"^#+ (.*)$", prose(NOTES), re.MULTILINE)
    assert found == list(HEADINGS)


def test_each_program_is_listed():
    assert [classes(fence.code) for fence in programs()] == list(PROGRAMS)


@pytest.mark.parametrize(("heading", "where"), HEADINGS.items())
def test_a_heading_lives_on_its_page(heading, where):
    page, phrases = where
    assert page in SITE.nav
    assert [phrase for phrase in phrases if not has(page, phrase)] == []


@pytest.mark.parametrize("program", programs(), ids=lambda fence: classes(fence.code)[0])
def test_a_program_lives_on_its_page_and_runs_there(program):
    page = PROGRAMS[classes(program.code)]
    names = {
        node.name if not isinstance(node, ast.arg) else node.arg
        for node in ast.walk(ast.parse(program.code))
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.arg))
    }
    ran = "\n".join(fence.code for fence in fences(SITE.text(page)) if fence.runs)
    assert sorted(name for name in names if not re.search(rf"\b{name}\b", ran)) == []


@pytest.mark.parametrize(("said", "where"), STATEMENTS.items())
def test_a_statement_lives_on_its_page(said, where):
    assert said in NOTES  # it is the notes'
    page, phrase = where
    assert has(page, phrase)


def test_the_frameworks_own_pages_are_linked():
    links = set(re.findall(r"\]\(https?://[^/]+/([^)#]+?)(?:\.html)?\)", NOTES))
    assert links
    text = "".join(SITE.text(page) for page in SITE.tutorial)
    names = {link.rsplit("/", 1)[-1] for link in links}
    assert [name for name in names if name not in text] == []

"""The programs on the pages of docs/ run, in order, and print what the pages say they print."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ["what_a_gradient_check_must_check.md"]
# What a program is said to print is there for who reads the source; the site shows what it printed.
FENCE = re.compile(
    r"^```python [^\n]*\n(.*?)^```\n(?:\n```\{ \.text \.dt-said \}\n(.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")
RUN = """
import contextlib, io, json, re, sys, types, warnings
module = types.ModuleType("page")
sys.modules["page"] = module
printed = []
for i, code in enumerate(json.loads(sys.stdin.read())):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, f"fence {i}", "exec"), vars(module))
    printed.append(out.getvalue())
print(json.dumps(printed))
"""


def fences(page):
    """Returns each program of a page with what it is said to print."""
    return FENCE.findall((DOCS / page).read_text())


def run(page):
    """Returns what each program prints; in a process of its own, since pages set options."""
    import json

    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps([code for code, _ in fences(page)]),
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_programs_print_what_the_page_says(page):
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    for (code, text), printed in zip(fences(page), run(page), strict=True):
        # Lines are wrapped on the page; the last digits differ between machines.
        words, said = " ".join(printed.split()), " ".join(text.split())
        assert NUMBER.sub("#", words) == NUMBER.sub("#", said), code
        numbers, expected = NUMBER.findall(words), NUMBER.findall(said)
        np.testing.assert_allclose(np.float64(numbers), np.float64(expected), rtol=1e-3)


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_is_seen_and_nothing_printed_is_left_out(page):
    text = (DOCS / page).read_text()
    assert text.count("```") == 2 * sum(1 + bool(said) for _, said in fences(page))
    assert len(text.splitlines()) < 350
    assert all(len(line) <= 118 for line in text.splitlines())

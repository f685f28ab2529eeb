"""The switch that shows the suite green with one framework only does hide the other."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import importlib.util
try:
    import {name}
except ModuleNotFoundError as error:
    assert error.name == "{name}", error.name
    assert importlib.util.find_spec("{name}") is None
    print("hidden")
else:
    print("there")
"""


def see(name: str, frameworks: str | None) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "DIPTYCH_FRAMEWORKS"}
    if frameworks is not None:
        environment["DIPTYCH_FRAMEWORKS"] = frameworks
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(name=name)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout.strip() or run.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(("name", "other"), [("torch", "jax"), ("jax", "torch")])
def test_other_framework_is_hidden_from_subprocesses(name, other):
    assert see(other, name) == "hidden"


def test_hidden_here_means_hidden_from_import_and_from_find_spec():
    promised = os.environ.get("DIPTYCH_FRAMEWORKS")
    for name in ("torch", "jax"):
        there = importlib.util.find_spec(name) is not None
        if promised is not None:
            assert there == (name in promised.split(","))
        assert see(name, promised) == ("there" if there else "hidden")


def test_unknown_framework_is_an_error():
    script = Path(__file__).parent / "hide_frameworks" / "sitecustomize.py"
    run = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "DIPTYCH_FRAMEWORKS": "tensorflow"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "expected ['jax', 'torch'], got ['tensorflow']" in run.stderr

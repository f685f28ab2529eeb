"""README's code runs and says what its comments say, and its table is what comes out now."""

import importlib.util
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FENCES, CHECKS = [], []
for fence in re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE):
    (CHECKS if "diptych.check(" in fence else FENCES).append(fence)


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def frameworks_of(code):
    return [
        name for name in ("torch", "jax") if re.search(rf"^import {name}\b", code, re.MULTILINE)
    ]


def test_every_fence_is_python_or_indented():
    assert README.count("```") == 2 * len(FENCES + CHECKS)
    assert [frameworks_of(code) for code in FENCES] == [[], ["torch"], ["jax"]]


@pytest.mark.parametrize("code", FENCES, ids=lambda code: "-".join(frameworks_of(code)) or "rule")
def test_fence_runs_and_prints_what_it_says(code, monkeypatch):
    for name in frameworks_of(code):
        pytest.importorskip(name)
    printed = []
    module = types.ModuleType("readme")
    module.print = lambda value: printed.append(np.asarray(value))
    monkeypatch.setitem(sys.modules, "readme", module)  # torch.compile looks globals up there
    # The first fence states the rule that the others use.
    for part in dict.fromkeys([FENCES[0], code]):
        exec(compile(part, "README.md", "exec"), vars(module))
    said = re.findall(r"print\(.*\) +# (\S+) and (\S+)$", code, re.MULTILINE)
    assert len(said) == code.count("print(")
    for value, numbers in zip(printed, said, strict=True):
        np.testing.assert_allclose(value, [float(number) for number in numbers], rtol=1e-6)


@pytest.mark.parametrize("code", CHECKS)
def test_a_check_prints_what_is_said(code, capsys):
    pytest.importorskip("torch")
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    after = README.partition(code)[2].removeprefix("```\n\n")
    said = re.match(r"(?: {4}.*\n)+", after)
    assert capsys.readouterr().out.split() == said.group().split()


def test_markers_are_there_once():
    before, _, after = load(ROOT / "docs" / "generate_readme_table.py").split(README)
    assert "## Transforms" in before
    assert "## License" in after


@pytest.mark.slow
def test_table_is_what_is_measured_now():
    for name in ("torch", "jax", "sklearn", "equinox", "flatbuffers"):
        pytest.importorskip(name)
    generator = load(ROOT / "docs" / "generate_readme_table.py")
    assert generator.split(README)[1] == generator.measured()

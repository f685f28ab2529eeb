"""From the start page to a proven rule of one's own: short, and every command works as typed."""

import importlib.util
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("yaml")

from diptych.learn.pages import Site, fences

ROOT = Path(__file__).parents[2]
SITE = Site.read(ROOT / "mkdocs.yml")


@pytest.fixture(scope="module")
def path():
    spec = importlib.util.spec_from_file_location("newcomer_path", SITE.docs / "newcomer_path.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_read_in_under_ten_minutes(path):
    assert 1 < path.minutes() < 10
    assert "minutes at 200 a minute" in path.report()
    assert path.commands()[0].startswith("pip install")


def test_what_runs_unseen_is_not_counted(path):
    text = 'one two\n\n```python exec="on" session="a"\nx y z\n```\n\n```shell\nls now\n```\n'
    assert path.shown(text).split() == ["one", "two", "ls", "now"]


@pytest.mark.slow
def test_its_commands_do_what_the_page_says(path, tmp_path):
    pytest.importorskip("torch")
    [code] = [
        fence.code
        for fence in fences(SITE.text("first_rule.md"))
        if fence.options.get("title") == "my_rule.py"
    ]
    (tmp_path / "my_rule.py").write_text(code)
    [command] = [c for c in path.commands() if c.startswith("diptych ")]
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    broken = code.replace("-res.x", "res.x")
    assert broken != code
    (tmp_path / "my_rule.py").write_text(broken)
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1

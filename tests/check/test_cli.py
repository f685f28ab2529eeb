"""The command line: what it prints, and above all with which status it exits."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import diptych
from diptych import cli

INSTALLED = [name for name in ("torch", "jax") if importlib.util.find_spec(name) is not None]
ROOT = Path(__file__).parents[2]

RULES = """
import diptych, numpy as np

@diptych.rule(examples=[(np.array([1.0, 2.0]),), (np.array(3.0),)])
def square(x):
    return x * x

@square.vjp
def square_vjp(res, out_bar):
    return 2 * res.x * out_bar

@diptych.rule(static=("n",))
def power(x, n):
    return x**n

@power.vjp
def power_vjp(res, out_bar):
    return res.n * res.x ** (res.n - 1) * out_bar

def plain(x, y):
    return x * x * y
"""
BROKEN = """
import diptych, numpy as np
from {name} import square  # defined elsewhere: checked once

@diptych.rule(examples=[(np.array([1.0, 2.0]),)])
def wrong(x):
    return x * x

@wrong.vjp
def wrong_vjp(res, out_bar):
    return 3 * res.x * out_bar
"""
FAST = ["--no-neighbours", "--no-compile", "--claim", "vjp"]
if INSTALLED:
    FAST += ["--framework", INSTALLED[0]]

pytestmark = pytest.mark.skipif(not INSTALLED, reason="a check needs a framework")


@pytest.fixture
def here(tmp_path, monkeypatch, request):
    """The name of a package in the current directory that no other test has."""
    name = f"pkg_{zlib.crc32(request.node.name.encode()):x}"
    package = tmp_path / name
    (package / "sub").mkdir(parents=True)
    (package / "__init__.py").write_text(RULES)
    (package / "sub" / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    for module in [m for m in sys.modules if m.split(".")[0] == name]:
        del sys.modules[module]


def run(*args):
    return CliRunner().invoke(cli.app, ["check", *args])


def add(name, text, module="wrong.py"):
    (Path(name) / "sub" / module).write_text(text.format(name=name))


# Exit statuses.


def test_a_sound_function_exits_with_0(here):
    result = run(f"{here}:power", "--input", "uniform(3, low=1)", "--input", "3", *FAST)
    assert result.exit_code == 0, result.output
    assert "nothing is wrong" in result.stdout


def test_a_broken_one_exits_with_1_and_names_the_cause(here):
    add(here, BROKEN)
    result = run(f"{here}.sub.wrong:wrong", *FAST)
    assert result.exit_code == 1, result.output
    assert "vjp on" in result.stdout
    assert "'x': factor" in result.stdout


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("no_such_module:f", "cannot be imported"),
        ("{here}:squares", "did you mean square"),
        ("{here}:power", "no example of its arguments"),
        ("{here}.sub", "no diptych rule"),
        ("nothing.py:f", "there is no file"),
        ("{here}:np.pi", "float"),
    ],
)
def test_what_cannot_be_checked_exits_with_2_and_says_why(here, target, expected):
    result = run(target.format(here=here), *FAST)
    assert result.exit_code == 2
    assert expected in result.stderr or expected in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--input", "normal(3"),
        ("--input", "missing.npy"),
        ("--input", "ones(2)"),  # one argument too few
        ("--input", "ones(2)", "--input", "ones(3)"),  # shapes that do not fit
        ("--input", "ones(2)", "--input", "ones(2)", "--claim", "vjpp"),
        ("--input", "ones(2)", "--input", "ones(2)", "--order", "0"),
        ("--input", "ones(2)", "--input", "ones(2)", "--framework", "numpy"),
        ("--input", "2", "--input", "3"),  # no array
        ("--unknown",),
    ],
)
def test_wrong_use_exits_with_2(here, arguments):
    options = [x for x in FAST if x not in ("--claim", "vjp")] if "--claim" in arguments else FAST
    result = run(f"{here}:plain", *arguments, *options)
    assert result.exit_code == 2, result.output
    assert result.stderr.strip()


def test_a_function_that_raises_is_named_with_its_line(here):
    add(here, "def f(x):\n    raise RuntimeError('no such luck')\n")
    result = run(f"{here}.sub.wrong:f", "-i", "ones(2)", *FAST)
    assert result.exit_code == 2
    assert "RuntimeError: no such luck (wrong.py, line 2)" in result.stderr


def test_a_mistake_of_ours_exits_with_2(here, monkeypatch, capsys):
    def fails(*args, **kwargs):
        raise AssertionError("our own")

    monkeypatch.setattr(cli, "_run", fails)
    monkeypatch.setattr(sys, "argv", ["diptych", "check", f"{here}:square"])
    with pytest.raises(SystemExit) as status:
        cli.main()
    assert status.value.code == 2
    assert "our own" in capsys.readouterr().err


# What can be checked.


def test_the_examples_of_a_rule_are_all_checked(here):
    result = run(f"{here}:square", "--json", *FAST)
    record = json.loads(result.stdout)
    assert [r["target"] for r in record["reports"]] == [f"{here}:square [0]", f"{here}:square [1]"]


def test_inputs_replace_the_examples(here):
    result = run(f"{here}:square", "-i", "[1.0, -2.0]", "--json", *FAST)
    assert [r["target"] for r in json.loads(result.stdout)["reports"]] == [f"{here}:square"]


def test_static_arguments_stay_numbers_and_floats_become_arrays(here):
    assert run(f"{here}:power", "-i", "2.0", "-i", "3.0", *FAST).exit_code == 0
    assert run(f"{here}:plain", "-i", "2.0", "-i", "3.0", *FAST).exit_code == 0


def test_a_function_is_checked_where_it_runs(here):
    framework = INSTALLED[-1]
    module = {"torch": "torch", "jax": "jax.numpy"}[framework]
    add(here, f"import {module} as xp\ndef f(x):\n    return xp.sin(x)\n")
    result = run(f"{here}.sub.wrong:f", "-i", "normal(3)", "--json", "--no-neighbours",
                 "--no-compile", "--claim", "vjp")  # fmt: skip
    assert result.exit_code == 0, result.output
    outcomes = json.loads(result.stdout)["reports"][0]["outcomes"]
    assert {o["framework"] for o in outcomes} == {framework}


def test_a_file_is_checked_by_its_path(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "beside_me.py").write_text("two = 2\n")
    (folder / "a_file.py").write_text("import beside_me\ndef f(x):\n    return x * 1.5\n")
    assert run(f"{folder / 'a_file.py'}:f", "-i", "ones(2)", *FAST).exit_code == 0


def test_a_package_is_searched_for_rules_with_examples(here):
    add(here, BROKEN)
    add(here, "raise ImportError('needs something')\n", "missing.py")
    add(here, "raise SystemExit('ran')\n", "__main__.py")
    result = run(here, *FAST)
    assert result.exit_code == 1, result.output  # broken weighs more than unchecked
    assert f"{here}:square [1]" in result.stdout
    assert f"{here}.sub.wrong:wrong: vjp" in result.stdout
    assert "3 checked, 1 broken, 1 could not be checked, 1 rule carries no example" in result.stdout
    assert f"could not check {here}.sub.missing: ImportError: needs something" in result.stderr
    record = json.loads(run(here, "--json", *FAST).stdout)
    assert [r["target"].partition(":")[2] for r in record["reports"]] == [
        "square [0]", "square [1]", "wrong",
    ]  # fmt: skip
    assert record["without_examples"] == [f"{here}:power"]
    assert record["status"] == 1


def test_a_package_with_a_module_that_does_not_import_exits_with_2(here):
    add(here, "1 / 0\n")
    result = run(here, *FAST)
    assert result.exit_code == 2
    assert "2 checked, 0 broken, 1 could not be checked" in result.stdout
    assert "ZeroDivisionError" in result.stderr


def test_a_sound_package_exits_with_0(here):
    assert run(here, *FAST).exit_code == 0


def test_json_is_all_of_stdout_also_where_nothing_could_be_checked(here):
    record = json.loads(run("no_such_module", "--json").stdout)
    assert record["status"] == 2
    assert record["errors"][0]["target"] == "no_such_module"


def test_the_page_is_written(here):
    assert run(f"{here}:square", "--html", "out/report.html", *FAST).exit_code == 0
    assert "<html" in Path("out/report.html").read_text(encoding="utf-8")
    (Path(here) / "file").write_text("")
    assert run(f"{here}:square", "--html", f"{here}/file/report.html", *FAST).exit_code == 2


def test_progress_is_shown_on_a_terminal_and_leaves_json_alone(here, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes what it writes to for a terminal
    shown = run(here, *FAST)
    assert "0/2" in shown.stderr
    assert f"{here}:square [0]" in shown.stderr
    quiet = run(here, "--json", *FAST)
    assert quiet.stderr == ""
    assert json.loads(quiet.stdout)["ok"]


# As a program.


def as_program(*arguments, cwd, **environment):
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "diptych", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        check=False,
    )


def test_python_m_diptych_finds_the_current_directory_and_any_encoding(here, tmp_path):
    done = as_program("check", f"{here}:square", "-i", "ones(1)", *FAST, cwd=tmp_path,
                      PYTHONIOENCODING="ascii")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"nothing is wrong" in done.stdout


def test_version():
    result = CliRunner().invoke(cli.app, ["--version"])
    assert result.stdout == f"diptych {diptych.__version__}\n"


def test_pyproject_names_the_command():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, name = project["scripts"]["diptych"].split(":")
    assert getattr(importlib.import_module(module), name) is cli.main
    needed = {d.partition(">")[0] for d in project["dependencies"]}
    assert {"rich", "typer"} <= needed


def test_import_diptych_loads_neither_rich_nor_typer_nor_mpmath():
    program = (
        "import sys, diptych, diptych.proof.outcome; "
        "print(sorted({'rich', 'typer', 'mpmath', 'torch', 'jax', 'click'} & set(sys.modules)))"
    )
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"

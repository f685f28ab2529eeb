"""`diptych learn` serves the tutorial on loopback, and says kindly what it lacks."""

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from diptych.learn import serve

ROOT = Path(__file__).parents[2]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A folder that looks like the installed package, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    package = tmp_path / "lib" / "python" / "diptych" / "learn"
    docs = package / "tutorial" / "docs"
    docs.mkdir(parents=True)
    (docs / "index.md").write_text("# Here\n\nThe tutorial.\n")
    (package / "tutorial" / "mkdocs.yml").write_text(
        "site_name: t\nuse_directory_urls: false\ntheme: {name: material, font: false}\n"
        "plugins: [search, markdown-exec]\nnav: [{Start: index.md}]\n"
    )
    return package


def test_in_a_checkout_it_is_the_checkouts():
    where = serve.place()
    assert where.folder == where.sources == ROOT
    assert where.built == ROOT / "site"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="another folder there")
def test_installed_it_is_built_in_the_users_cache(installed, tmp_path):
    where = serve.place(installed)
    assert where.sources == installed / "tutorial"
    assert where.folder.parent == tmp_path / "cache" / "diptych"
    (installed / "tutorial" / "docs" / "index.md").write_text("# Changed\n")
    assert serve.place(installed).folder != where.folder  # other sources are built anew


def test_it_is_built_and_shown(installed):
    pytest.importorskip("zensical")
    from rich.console import Console

    where = serve.place(installed)
    assert serve.make(where, Console(quiet=True))
    assert "The tutorial." in (where.built / "index.html").read_text()
    assert not (installed / "tutorial" / "site").exists()


def test_it_serves_on_loopback_until_it_is_interrupted(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("hello")
    (site / "a.js").write_text("export {}")
    program = (
        "import sys\nfrom pathlib import Path\nfrom diptych.learn import serve\n"
        "here = Path(sys.argv[1])\nserve.place = lambda: serve.Place(here, here)\n"
        "from diptych import cli\nsys.argv[1:] = ['learn', '--no-browser', '--port', '0']\n"
        "cli.main()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-u", "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+/", child.stdout.readline())
        with urllib.request.urlopen(found[0], timeout=10) as answer:
            assert answer.read() == b"hello"
        with urllib.request.urlopen(found[0] + "a.js", timeout=10) as answer:
            assert answer.headers["Content-Type"] == "text/javascript"
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=10) == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_what_is_missing_is_named_with_what_installs_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(serve, "place", lambda: serve.Place(tmp_path, tmp_path))
    monkeypatch.setattr(serve, "find_spec", lambda name: name not in ("zensical", "jax") or None)
    assert serve.learn(browser=False, port=None, rebuild=False) == 2
    assert 'pip install "diptych[jax,learn]"' in capsys.readouterr().out


def test_a_port_that_is_taken_is_said(monkeypatch, capsys, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("")
    monkeypatch.setattr(serve, "place", lambda: serve.Place(tmp_path, tmp_path))
    with serve.server(tmp_path, 0) as taken:
        port = taken.server_address[1]
        assert serve.learn(browser=False, port=port, rebuild=False) == 2
    assert f"port {port} cannot be used" in capsys.readouterr().out


def test_the_command_line_loads_none_of_it():
    code = "import sys, diptych, diptych.cli; print([m for m in sys.modules if 'learn' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_the_wheel_holds_the_tutorials_sources(tmp_path):
    pytest.importorskip("hatchling")
    import zipfile

    code = f"from hatchling.build import build_wheel; print(build_wheel({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    wheel = tmp_path / done.stdout.split()[-1]
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = [ROOT / "mkdocs.yml", *(p for p in (ROOT / "docs").rglob("*") if p.is_file())]
    for path in sources:
        inside = path.relative_to(ROOT)
        if not any(part.startswith((".", "__pycache__")) for part in inside.parts):
            assert f"diptych/learn/tutorial/{inside.as_posix()}" in names
    assert not [name for name in names if "tutorial/src" in name or "tutorial/site" in name]

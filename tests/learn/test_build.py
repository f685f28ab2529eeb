"""The build sees what a builder overlooks: what raises, does not run, or ends the build early."""

import subprocess
import sys

import pytest

pytest.importorskip("zensical")
pytest.importorskip("markdown_exec")

from diptych.learn import site as checks
from diptych.learn.build import build
from diptych.learn.pages import Site, fences

CONFIG = """site_name: t
use_directory_urls: false
theme: {name: material, font: false}
plugins: [search, markdown-exec]
markdown_extensions: [admonition, pymdownx.superfences, pymdownx.tabbed: {alternate_style: true}]
"""
GOOD = """# A page

```python exec="on" source="material-block" session="SESSION" result="text"
print(6 * 7)
```

=== "PyTorch"

    ```python exec="on" source="material-block" session="SESSION" result="text"
    import dataclasses

    @dataclasses.dataclass
    class Found:
        here: int

    print(Found(1))
    ```
"""


def made(folder, pages, nav=()):
    """Returns a site of these pages."""
    (folder / "docs").mkdir()
    for name, text in pages.items():
        (folder / "docs" / f"{name}.md").write_text(text.replace("SESSION", name))
    listed = "".join(f"  - {name}: {name}.md\n" for name in nav or pages)
    (folder / "mkdocs.yml").write_text(f"{CONFIG}nav:\n{listed}")
    return Site.read(folder / "mkdocs.yml")


def run(code):
    return f'# A page\n\n```python exec="on" session="SESSION"\n{code}\n```\n'


WRONG = {
    "raises": (run("raise ValueError('here')"), "raises.md, fence 1 raised\nTraceback"),
    "leaves": (run("import sys; sys.exit(0)"), "SystemExit: 0"),
    "warns": (run("import warnings; warnings.warn('oh')"), "warns.md, fence 1 warns: UserWarning"),
    "shares": (run("").replace("SESSION", "index"), 'shares.md, fence 1: session="shares" is due'),
    "plain": ("# A\n\n```python\n1\n```\n", "plain.md:3 is a Python fence that does not say"),
    "off": ('# A\n\n```python exec="off"\n1\n```\n', "off.md:3 is a Python fence that does not"),
    "short": ('# A\n\n```py exec="on"\n1\n```\n', "short.md:3 is a Python fence that does not"),
    "misspelt": ("# A\n\n```python exce='on'\n1\n```\n", "misspelt.md:3 is a Python fence that"),
    "comma": (
        '# A\n\n```python exec="on", session=more\n1\n```\n',
        "comma.md has 1 fences to run, and 0 ran",
    ),
    "image": ('# A\n\n<img src="https://x.org/a.png" alt="">\n', "loads https://x.org/a.png"),
    "style": ('# A\n\n<p style="background: url(//x.org/b)">a</p>\n', "style.html loads //x.org/b"),
}


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    pages = {name: page for name, (page, _) in WRONG.items()}
    pages["raises"] += run("raise KeyError")
    folder = tmp_path_factory.mktemp("wrong")
    site = made(folder, {"index": GOOD, **pages}, nav=["index", *pages, "absent"])
    return site, build(site)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_seen(wrong, name):
    assert WRONG[name][1] in "\n".join(wrong[1].problems)


def test_a_page_that_is_not_there_is_seen(wrong):
    assert "absent.md is in the navigation, but was not built" in wrong[1].problems


def test_only_the_first_error_of_a_page_is_told(wrong):
    _, outcome = wrong
    assert sum(problem.startswith("raises.md") for problem in outcome.problems) == 1
    assert outcome.fences["raises.md"] == 2


def test_a_good_site_is_built_and_counted(tmp_path):
    site = made(tmp_path, {"index": GOOD, "more": GOOD})
    outcome = build(site)
    assert outcome.problems == []
    assert outcome.fences == outcome.expected == {"index.md": 2, "more.md": 2}
    text = site.html("more.md").read_text()
    assert "42" in text
    assert "Found(here=1)" in text
    assert (site.built / "notebooks").is_dir()


def test_a_fence_that_ends_the_process_and_a_dead_link_are_seen(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    ends = build(made(tmp_path / "a", {"index": run("import os; os._exit(0)")}))
    assert "the build ended before its end" in "\n".join(ends.problems)
    dead = build(made(tmp_path / "b", {"index": "# A\n\n[away](nowhere.md)\n"}))
    assert "the build ended with RuntimeError: Aborted" in "\n".join(dead.problems)


def test_the_command_fails_and_says_why(tmp_path):
    site = made(tmp_path, {"index": run("1 / 0")})
    done = subprocess.run(
        [sys.executable, "-m", "diptych.learn.build", site.config], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stdout
    assert "1 fences ran, of 1 in the sources, on 1 pages; 1 pages in the navigation" in done.stdout


def test_what_a_page_loads_from_elsewhere():
    page = """<link rel="stylesheet" href="//x.org/a.css"><script src="http://x.org/a.js"></script>
    <link rel="canonical" href="https://x.org/"><a href="https://x.org/">link</a>
    <img srcset="a.png 1x, https://x.org/b.png 2x"><style>@import "https://x.org/c.css";</style>
    <svg><use xlink:href="#a"/></svg><img src="../b.png"><script>fetch("/a")</script>"""
    found = [address.split()[0] for address in checks.outside(page, ".html")]
    assert found == [
        "//x.org/a.css",
        "http://x.org/a.js",
        "https://x.org/b.png",
        "https://x.org/c.css",
    ]
    style = "a {background: url('https://x.org/a.png')} b {background: url(a.png)}"
    assert checks.outside(style, ".css") == ["https://x.org/a.png"]


def test_fences_within_fences_are_none():
    text = "````text\n```python\nx\n```\n````\n\n~~~python\ny\n~~~\n"
    assert [(f.language, f.line, f.end) for f in fences(text)] == [("text", 1, 5), ("python", 7, 9)]

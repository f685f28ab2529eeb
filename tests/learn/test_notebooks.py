"""A page as a notebook: its prose, its programs in order, and nothing that needs the site."""

import pytest

pytest.importorskip("yaml")
pytest.importorskip("nbformat")

import nbformat
from hypothesis import given
from hypothesis import strategies as st

from diptych.learn import notebooks
from diptych.learn.notebooks import Part, parts
from diptych.learn.pages import Site, fences

OPEN = '```python exec="on" source="material-block" session="p"'
PAGE = f"""# Title

See [the next](02_next.md#a-part), [limits](../limits.md), [out](https://x.org) and $[a](b)$.

!!! abstract "What you will be able to do"
    - one
    - two

=== "PyTorch"

    Words.

    {OPEN} result="text"
    if 1:

        print("torch")
    ```

=== "JAX"

    {OPEN}
    b = 2
    ```

<div class="dt-figure" data-figure="chain">
</div>

!!! warning "Common mistakes"

    Wrong:

    {OPEN}
    c = 3
    ```

    Right.

!!! question "Exercise"

    Find $x$.

    ??? success "Solution"

        It is 4.

        {OPEN}
        assert 2 + 2 == 4
        ```

```text
shown
!!! warning "no box"
```

```{{ .text .dt-said }}
said
```

A word {{ .classy }}.
"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "docs" / "tutorial").mkdir(parents=True)
    (tmp_path / "docs" / "tutorial" / "01_page.md").write_text(PAGE)
    (tmp_path / "mkdocs.yml").write_text("site_name: t\nuse_directory_urls: false\n")
    return Site.read(tmp_path / "mkdocs.yml")


def test_programs_are_the_pages_in_order():
    found = [part.text for part in parts(PAGE) if part.kind == "code"]
    assert found == [fence.code.strip("\n") for fence in fences(PAGE) if fence.runs]
    assert found[0] == 'if 1:\n\n    print("torch")'
    assert len(found) == 4


def test_a_notebook(site):
    made = notebooks.notebook(site, "tutorial/01_page.md")
    nbformat.validate(made)
    assert made.cells[1].source == notebooks.SETUP
    prose = [cell.source for cell in made.cells if cell.cell_type == "markdown"]
    text = "\n\n".join(prose)
    assert "[the next](../tutorial/02_next.html#a-part)" in text
    assert "[limits](../limits.html), [out](https://x.org) and $[a](b)$" in text
    assert "> **What you will be able to do**\n>\n> - one\n> - two" in text
    assert "**PyTorch**\n\nWords." in text
    assert "**JAX**" in prose
    assert "[The interactive figure](../tutorial/01_page.html)" in text
    assert "dt-figure" not in text
    assert "> **Common mistakes**\n>\n> Wrong:" in text
    assert "> Right." in text
    assert "> **Exercise**\n>\n> Find $x$." in text
    assert "> > **Solution**\n> >\n> > It is 4." in text
    assert '```text\nshown\n!!! warning "no box"\n```' in text
    assert "said" not in text
    assert "A word ." in text


def test_notebooks_are_written_and_the_same_each_time(site):
    [path] = notebooks.write(site)
    assert path == site.built / "notebooks" / "01_page.ipynb"
    first = path.read_bytes()
    notebooks.write(site)
    assert path.read_bytes() == first


def test_a_notebooks_print_shows_pictures(capsys):
    pytest.importorskip("IPython")
    from diptych.learn.notebook import print as show
    from diptych.learn.picture import Picture

    show("one", 2, sep="-")
    assert capsys.readouterr().out == "one-2\n"
    show(Picture("<figure></figure>"))
    assert "HTML" in capsys.readouterr().out  # what IPython says of it without a notebook


words = st.text("abc .$|", min_size=1, max_size=12).filter(lambda text: text.strip())
blocks = st.recursive(
    st.one_of(words.map(lambda w: ("prose", w.strip())), st.integers().map(lambda n: ("code", n))),
    lambda inner: st.tuples(
        st.sampled_from(['!!! note "T"', '??? tip "T"', '=== "T"']),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=8,
)


def written(block, indent=""):
    kind, inner = block
    if kind == "prose":
        return [f"{indent}{inner}", ""]
    if kind == "code":
        return [f"{indent}{OPEN}", f"{indent}x = {inner}", f"{indent}```", ""]
    lines = [f"{indent}{kind}", ""]
    return lines + [line for block in inner for line in written(block, indent + "    ")]


def numbers(block):
    kind, inner = block
    if kind == "prose":
        return []
    return [inner] if kind == "code" else [n for block in inner for n in numbers(block)]


def said(block):
    kind, inner = block
    if kind == "code":
        return []
    return [inner] if kind == "prose" else [w for block in inner for w in said(block)]


@given(st.lists(blocks, max_size=5))
def test_nothing_is_lost_and_the_order_is_kept(page):
    found = list(parts("\n".join(line for block in page for line in written(block))))
    assert all(isinstance(part, Part) and part.text.strip() for part in found)
    code = [part.text for part in found if part.kind == "code"]
    assert code == [f"x = {n}" for block in page for n in numbers(block)]
    text = "\n".join(part.text for part in found if part.kind == "markdown")
    at = 0
    for word in (w for block in page for w in said(block)):
        at = text.index(word, at)

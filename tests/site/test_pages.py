"""Every page of the navigation: it reads on a phone and a desktop, in light and dark, for all."""

import pytest
from looking import SCREENSHOTS, SITE, address

pytestmark = pytest.mark.site

# Text outside of programs that KaTeX should have typeset, and what it could not.
RAW = r"""() => {
  const raw = [...document.querySelectorAll('.arithmatex')]
    .filter((each) => !each.querySelector('.katex') || each.querySelector('.katex-error'))
    .map((each) => each.textContent);
  const content = document.querySelector('.md-content');
  const walk = document.createTreeWalker(content, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode;
    if (node.parentElement.closest('pre, code, script, style, .katex, .dt-plot')) continue;
    if (/\\[([]|\$\$|\\(frac|sum|langle|mathbb)/.test(node.textContent)) raw.push(node.textContent);
  }
  return raw;
}"""

# What is wider than the window and does not scroll by itself.
WIDE = """() => document.documentElement.scrollWidth > document.documentElement.clientWidth
  ? [...document.querySelectorAll('.md-content *')]
      .filter((each) => each.getBoundingClientRect().right > window.innerWidth + 1)
      .map((each) => each.tagName + '.' + each.className).slice(0, 5).concat('the page is wide')
  : []"""


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", SITE.nav)
def test_page(window, path, scheme, width):
    """No error, no other host, no raw formula, no overflow, no barrier that axe finds."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    opened = window(scheme, width)
    page = opened.open(path)
    shown = page.evaluate("document.body.dataset.mdColorScheme")
    assert shown == {"light": "default", "dark": "slate"}[scheme]
    assert page.locator("h1").count() == 1
    assert page.evaluate(RAW) == []
    assert page.evaluate(WIDE) == []

    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    name = address(path).removesuffix(".html").replace("/", "-")
    page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{width}.png", full_page=True)

    found = axe.run(page).response["violations"]
    assert [
        (each["id"], node["target"], node["failureSummary"])
        for each in found
        for node in each["nodes"][:3]
    ] == []
    opened.clean()


def test_next_links_lead_through_all_pages(window):
    """From the first page, "next" goes through the navigation in its order."""
    opened = window()
    page = opened.open(SITE.nav[0])
    walked = [page.url]
    for _ in SITE.nav[1:]:
        page.locator(".md-footer__link--next").click()
        opened.settle()
        walked.append(page.url)
    assert walked == [opened.base + address(path) for path in SITE.nav]
    assert page.locator(".md-footer__link--next").count() == 0
    opened.clean()


def test_every_page_is_in_the_menu(window):
    """The menu of the first page has a link to each page, and they lead there."""
    opened = window()
    page = opened.open(SITE.nav[0])
    links = page.locator(".md-nav--primary a.md-nav__link").evaluate_all(
        "links => links.map((each) => each.href.split('#')[0])"
    )
    assert {opened.base + address(path) for path in SITE.nav} <= set(links)
    for path in SITE.nav:
        answer = page.request.get(opened.base + address(path))
        assert answer.ok, path


def test_the_menu_opens_by_touch_on_a_phone(window):
    """On a phone the menu is a drawer."""
    opened = window(width=360, has_touch=True)
    page = opened.open(SITE.nav[0])
    menu = page.locator(".md-nav--primary a.md-nav__link", has_text=SITE.titles[SITE.nav[0]])
    page.locator("label[for=__drawer].md-header__button").tap()
    page.wait_for_function("document.querySelector('#__drawer').checked")
    menu.first.wait_for(state="visible")
    opened.clean()


def test_tabs_stay_in_step_on_a_page_and_over_pages(window):
    """Who chooses JAX once sees JAX everywhere."""
    tabbed = [path for path in SITE.nav if '=== "JAX"' in SITE.text(path)]
    if len(tabbed) < 2:
        pytest.skip("fewer than two pages have tabs")
    opened = window()
    chosen = """name => [...document.querySelectorAll('.tabbed-set')]
      .filter((set) => [...set.querySelectorAll(':scope > .tabbed-labels label')]
        .some((label) => label.innerText.trim() === name))
      .map((set) => {
        const at = [...set.querySelectorAll(':scope > input')].findIndex((each) => each.checked);
        return set.querySelectorAll(':scope > .tabbed-labels label')[at].innerText.trim();
      })"""
    page = opened.open(tabbed[0])
    assert set(page.evaluate(chosen, "JAX")) == {"PyTorch"}
    page.locator(".tabbed-labels label", has_text="JAX").first.click()
    page.wait_for_timeout(200)
    assert set(page.evaluate(chosen, "JAX")) == {"JAX"}
    for path in tabbed[1:]:
        opened.open(path)
        assert set(page.evaluate(chosen, "JAX")) == {"JAX"}, path
    page.locator(".tabbed-labels label", has_text="PyTorch").first.click()
    page.wait_for_timeout(200)
    opened.open(tabbed[0])
    assert set(page.evaluate(chosen, "JAX")) == {"PyTorch"}
    opened.clean()


def test_a_page_says_something_without_scripts(window):
    """Where no script runs, a sentence stands in a figure's place."""
    opened = window(java_script_enabled=False)
    for path in SITE.nav:
        if 'class="dt-figure"' not in SITE.text(path):
            continue
        opened.page.goto(opened.base + address(path))
        figures = opened.page.locator(".dt-figure")
        for index in range(figures.count()):
            assert len(figures.nth(index).inner_text().split()) > 15

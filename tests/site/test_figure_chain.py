"""Walk the chain: operated by keyboard, its numbers are diptych's, in both frameworks."""

import re

import numpy as np
import pytest
from looking import FRAMEWORKS, choose, pick, press, read, said, slide

import diptych

pytestmark = pytest.mark.site

SET_OUT = {"x1": 0.5, "x2": 1.2, "t1": 1.0, "t2": 0.5, "g1": 1.0, "g2": 0.5}
ELSEWHERE = {"x1": -0.7, "x2": 0.9, "t1": -1.5, "t2": 0.3, "g1": 0.8, "g2": -1.1}


# Every node of the figure's functions, with something added to each, to ask for its cotangent.


def sine(xp, x, plus):
    v1, v2 = x[0] + plus[0], x[1] + plus[1]
    v3 = v1 * v2 + plus[2]
    v4 = xp.sin(v3) + plus[3]
    return [v1, v2, v3, v4, v4 + v1 + plus[4]]


def logsumexp(xp, x, plus):
    v1, v2 = x[0] + plus[0], x[1] + plus[1]
    v3, v4 = xp.exp(v1) + plus[2], xp.exp(v2) + plus[3]
    v5 = v3 + v4 + plus[4]
    return [v1, v2, v3, v4, v5, xp.log(v5) + plus[5]]


def polynomial(xp, x, plus):
    v1, v2 = x[0] + plus[0], x[1] + plus[1]
    v3 = v1 + v2 + plus[2]
    return [v1, v2, v3, v3 * v3 + plus[3], v3 * v2 + plus[4]]


FUNCTIONS = {"sine": (sine, 5, 1), "logsumexp": (logsumexp, 6, 1), "polynomial": (polynomial, 5, 2)}


def array(framework, values):
    if framework == "torch":
        import torch

        return torch.tensor(values, dtype=torch.float64)
    import jax.numpy as jnp

    return jnp.asarray(values, dtype=jnp.float64)


def expected(framework, name, settings):
    """What diptych says of every node, and of the whole."""
    nodes, count, outputs = FUNCTIONS[name]
    x = array(framework, [settings["x1"], settings["x2"]])
    t = array(framework, [settings["t1"], settings["t2"]])
    g = array(framework, [settings["g1"], settings["g2"]][:outputs])
    zero = array(framework, [0.0] * count)

    def every(x, plus):
        xp = diptych.namespace(x)
        return xp.stack(nodes(xp, x, plus))

    primal, tangent = diptych.jvp(lambda x: every(x, zero), (x,), (t,))
    _, pull = diptych.vjp(lambda plus: every(x, plus)[-outputs:], zero)
    (cotangent,) = pull(g)
    primal, tangent, cotangent, g = map(np.asarray, (primal, tangent, cotangent, g))
    return {
        "primal": primal,
        "tangent": tangent,
        "cotangent": cotangent,
        "Jt": tangent[-outputs:],
        "Jg": cotangent[:2],
        "product": float(g @ tangent[-outputs:]),
    }


def table(figure):
    """The columns of the table below the graph, without the nodes' names."""
    cells = figure.locator("tbody tr").evaluate_all(
        "rows => rows.map((row) => [...row.querySelectorAll('td')].map((td) => td.dataset.value))"
    )
    return np.array([[np.nan if cell is None else float(cell) for cell in row] for row in cells]).T


def walk(figure):
    """Presses "Next step" to the end, and counts the steps."""
    button = figure.locator("button[name=next]")
    steps = 0
    while button.get_attribute("aria-disabled") == "false":
        press(button, "Enter")
        steps += 1
        assert figure.locator("[data-live=step]").inner_text().startswith(f"Step {steps} of")
    return steps


@pytest.mark.parametrize("settings", [SET_OUT, ELSEWHERE], ids=["as set out", "elsewhere"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_numbers_are_diptychs(window, name, settings):
    opened = window()
    figure = opened.figure("chain")
    pick(figure, "function", name)
    outputs = FUNCTIONS[name][2]
    for slider, value in settings.items():
        if slider != "g2" or outputs == 2:
            slide(figure, slider, value)
    walk(figure)
    primal, tangent = table(figure)
    pushed, forward = read(figure, "Jt"), read(figure, "forward-product")
    assert figure.locator("[data-name=reverse-product]").get_attribute("data-value") is None
    choose(figure, "direction", "reverse")
    walk(figure)
    _, cotangent = table(figure)
    pulled, reverse = read(figure, "Jg"), read(figure, "reverse-product")

    for framework in FRAMEWORKS:
        right = expected(framework, name, settings)
        np.testing.assert_allclose(primal, right["primal"], rtol=1e-13)
        np.testing.assert_allclose(tangent, right["tangent"], rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(cotangent, right["cotangent"], rtol=1e-13)
        np.testing.assert_allclose(pushed, right["Jt"], rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(pulled, right["Jg"], rtol=1e-13)
        np.testing.assert_allclose(forward, right["product"], rtol=1e-12)
        np.testing.assert_allclose(reverse, right["product"], rtol=1e-12)
    shown = figure.locator("[data-name=forward-product]").inner_text()
    assert shown == figure.locator("[data-name=reverse-product]").inner_text()
    assert said(shown) == pytest.approx(forward[0], abs=1e-6)
    opened.clean()


def test_it_starts_at_the_numbers_that_the_page_prints(window):
    opened = window()
    figure = opened.figure("chain")
    text = opened.page.locator(".md-content").inner_text()
    printed = {
        name: float(re.search(rf"{name}\s+J t:.*?<g, J t> = ([-\d.]+)", text, re.DOTALL)[1])
        for name in FUNCTIONS
    }
    for name in FUNCTIONS:
        pick(figure, "function", name)
        press(figure.locator("button[name=end]"), "Enter")
        assert read(figure, "forward-product")[0] == pytest.approx(printed[name], abs=1e-11)


def test_a_step_shows_what_is_known_and_says_it(window):
    opened = window()
    figure = opened.figure("chain")
    next_step = figure.locator("button[name=next]")
    assert np.isnan(table(figure)).all()
    press(next_step, "Space", 3)
    assert np.isnan(table(figure)[:, 3:]).all()
    assert not np.isnan(table(figure)[:, :3]).any()
    words = figure.locator("[data-live=step]").inner_text()
    assert "0.6000" in words
    assert "1.4500" in words
    press(figure.locator("button[name=back]"), "Space")
    assert np.isnan(table(figure)[:, 2:]).all()
    press(figure.locator("button[name=reset]"), "Space")
    assert np.isnan(table(figure)).all()


def test_a_fork_adds_its_cotangents(window):
    """Step by step in reverse: v1 gets 1 from v5, and v2 cos(v3) more from v3."""
    opened = window()
    figure = opened.figure("chain")
    choose(figure, "direction", "reverse")
    primal, cotangent = table(figure)
    assert not np.isnan(primal).any()
    assert np.isnan(cotangent).all()
    press(figure.locator("button[name=next]"), "Enter", 2)
    assert table(figure)[1][0] == 1
    press(figure.locator("button[name=next]"), "Enter", 2)
    assert table(figure)[1][0] == pytest.approx(1 + 1.2 * np.cos(0.6), rel=1e-14)
    assert "was used before" in figure.locator("[data-live=step]").inner_text()


def test_every_control_is_reached_by_tab(window):
    opened = window()
    figure = opened.figure("chain")
    figure.locator("select").focus()
    reached = []
    for _ in range(14):
        reached.append(opened.page.evaluate("document.activeElement.name"))
        opened.page.keyboard.press("Tab")
    for name in ("function", "x1", "x2", "t1", "t2", "g1", "next", "back", "end", "reset"):
        assert name in reached
    named = figure.locator("input, select, button").evaluate_all(
        "all => all.every((each) => each.labels?.length || each.textContent)"
    )
    assert named


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_graph_fits_a_phone(window, name):
    """At 360 pixels no text of the graph leaves its picture or is too small to read."""
    opened = window(width=360)
    figure = opened.figure("chain")
    pick(figure, "function", name)
    press(figure.locator("button[name=end]"), "Enter")
    out = figure.locator(".dt-graph svg").evaluate(
        """svg => {
          const whole = svg.getBoundingClientRect();
          return [...svg.querySelectorAll('text')].filter((text) => {
            const box = text.getBoundingClientRect();
            return box.left < whole.left - 1 || box.right > whole.right + 1 || box.height < 11;
          }).map((text) => text.textContent);
        }"""
    )
    assert out == []

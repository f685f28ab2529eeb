"""The V: its errors are those that NumPy finds, with derivatives from diptych."""

import numpy as np
import pytest
from looking import FRAMEWORKS, choose, pick, press, read, said, slide

import diptych

pytestmark = pytest.mark.site

FUNCTIONS = {
    "product": lambda xp, x: x * xp.sin(x),
    "sum": lambda xp, x: xp.exp(x) + x * x,
    "wave": lambda xp, x: xp.sin(x) * xp.exp(x),
}
# What is left of the derivative where its second term is missing.
WITHOUT = {
    "product": lambda x: np.sin(x),
    "sum": lambda x: np.exp(x),
    "wave": lambda x: np.cos(x) * np.exp(x),
}


def slope(framework, name, x):
    """The derivative, by diptych."""

    def f(x):
        return FUNCTIONS[name](diptych.namespace(x), x)

    if framework == "torch":
        import torch

        return float(diptych.grad(f)(torch.tensor(x, dtype=torch.float64)))
    import jax.numpy as jnp

    return float(diptych.grad(f)(jnp.asarray(x, dtype=jnp.float64)))


def error(dtype, name, x, h, kind, claimed, true):
    """The error of a difference in NumPy, and what rounding may change of it."""
    x, h = np.asarray(x, dtype), np.asarray(h, dtype)
    up, down = x + h, (x - h if kind == "central" else x)
    width = 2 * h if kind == "central" else h
    found = (FUNCTIONS[name](np, up) - FUNCTIONS[name](np, down)) / width
    noise = 4 * np.finfo(dtype).eps * abs(FUNCTIONS[name](np, up)) / width
    return abs(float(found) - claimed) / abs(true), float(noise) / abs(true)


@pytest.mark.parametrize("kind", ["central", "one-sided"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_are_numpys(window, name, kind):
    opened = window()
    figure = opened.figure("vee")
    pick(figure, "function", name)
    choose(figure, "kind", kind)
    slide(figure, "point", 0.8)
    for exponent in (-2, -5, -9):
        slide(figure, "step", exponent)
        for dtype in ("float64", "float32"):
            shown = read(figure, dtype)[0]
            for framework in FRAMEWORKS:
                true = slope(framework, name, 0.8)
                right, noise = error(dtype, name, 0.8, 10.0**exponent, kind, true, true)
                assert shown == pytest.approx(right, rel=1e-6, abs=noise)
            text = figure.locator(f'[data-name="{dtype}"]').inner_text()
            assert said(text) == pytest.approx(shown, rel=0.05)
    opened.clean()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_mistake_makes_a_plateau(window, name):
    opened = window()
    figure = opened.figure("vee")
    pick(figure, "function", name)
    assert figure.locator("[data-live=verdict]").get_attribute("data-shape") == "V"
    true = slope(FRAMEWORKS[0], name, 1.0)
    heights = {"factor": 1.0, "sign": 2.0, "term": abs(WITHOUT[name](1.0) - true) / abs(true)}
    for mistake, height in heights.items():
        choose(figure, "mistake", mistake)
        verdict = figure.locator("[data-live=verdict]")
        assert verdict.get_attribute("data-shape") == "plateau"
        assert "plateau" in verdict.inner_text()
        for exponent in (-3, -4, -5):
            slide(figure, "step", exponent)
            assert read(figure, "float64")[0] == pytest.approx(height, rel=1e-4)
            assert read(figure, "float32")[0] == pytest.approx(height, rel=0.05)
    choose(figure, "mistake", "none")
    assert read(figure, "float64")[0] < 1e-8
    opened.clean()


def test_the_v_falls_and_rises(window):
    """Rounding on the left, truncation on the right; in float32 both come earlier."""
    opened = window()
    figure = opened.figure("vee")
    control = figure.locator("input[name=step]")
    press(control, "Home")
    curve = {"float64": [], "float32": []}
    for _ in range(17):  # from 1e-16 to 1, eight presses to a power of ten
        for dtype, errors in curve.items():
            errors.append(read(figure, dtype)[0])
        press(control, "ArrowRight", 8)
    for dtype, lowest in (("float64", range(9, 13)), ("float32", range(12, 16))):
        assert int(np.argmin(curve[dtype])) in lowest
        assert curve[dtype][0] > 0.05
        assert curve[dtype][-1] > 0.05
    assert min(curve["float64"]) < 1e-9
    assert 1e-7 < min(curve["float32"]) < 1e-3

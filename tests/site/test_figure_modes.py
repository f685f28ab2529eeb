"""Which mode? What it says is what was measured, and nothing beyond."""

import importlib.metadata
import json
import sys

import numpy as np
import pytest
from looking import ROOT, choose, press, read, slide

pytestmark = pytest.mark.site

DATA = json.loads((ROOT / "docs/assets/figures/modes.json").read_text("utf-8"))
AXES = [np.log(DATA[name]) for name in ("inputs", "outputs", "depths")]
MODES = ("jacfwd", "jacrev")


def measured(key, framework, mode, *sizes):
    """The value for sizes, from straight lines in logarithms."""
    interpolate = pytest.importorskip("scipy.interpolate")
    table = interpolate.RegularGridInterpolator(AXES, np.log(DATA[key][framework][mode]))
    inside = [np.clip(np.log(s), axis[0], axis[-1]) for s, axis in zip(sizes, AXES, strict=True)]
    return float(np.exp(table(inside)[0]))


@pytest.mark.parametrize("framework", ["jax", "torch"])
@pytest.mark.parametrize("powers", [(4, 6, 4), (10, 0, 8), (5.5, 2.5, 3.5)])
def test_numbers_are_the_measured_ones(window, framework, powers):
    opened = window()
    figure = opened.figure("modes")
    choose(figure, "framework", framework)
    for name, power in zip(("inputs", "outputs", "depth"), powers, strict=True):
        slide(figure, name, power)
    sizes = [2.0**power for power in powers]
    for key in ("seconds", "bytes"):
        for mode in MODES:
            right = measured(key, framework, mode, *sizes)
            assert read(figure, f"{key}-{mode}")[0] == pytest.approx(right, rel=1e-9)
    opened.clean()


@pytest.mark.parametrize("framework", ["jax", "torch"])
@pytest.mark.parametrize(("power", "depth"), [(0, 4), (3, 2.5), (6, 0), (6, 4), (10, 8)])
def test_the_crossing_is_where_the_curves_meet(window, framework, power, depth):
    opened = window()
    figure = opened.figure("modes")
    choose(figure, "framework", framework)
    slide(figure, "outputs", power)
    slide(figure, "depth", depth)
    sizes = 2.0**power, 2.0**depth
    for key in ("seconds", "bytes"):
        found = read(figure, f"{key}-crossing")
        words = figure.locator(f'[data-name="{key}-crossing"]').inner_text()
        ends = [
            np.log(measured(key, framework, "jacfwd", n, *sizes))
            - np.log(measured(key, framework, "jacrev", n, *sizes))
            for n in DATA["inputs"]
        ]
        ends = [gap for gap in ends if abs(gap) > 1e-12]
        assert len(found) == np.count_nonzero(np.diff(np.sign(ends)))
        for n in found:
            assert DATA["inputs"][0] <= n <= DATA["inputs"][-1]
            values = [measured(key, framework, mode, n, *sizes) for mode in MODES]
            assert values[0] == pytest.approx(values[1], rel=1e-9)
        first, last = (MODES[int(ends[k] > 0)] for k in (0, -1))
        best = {"seconds": "is faster", "bytes": "needs less"}[key]
        if found:
            assert words.startswith(f"The curves cross: {first} {best} up to")
            assert words.endswith(f"{last} beyond.")
        else:
            assert f"over all measured n {first} {best}." in words


def test_sliders_end_where_the_measurements_end(window):
    opened = window()
    figure = opened.figure("modes")
    for name, key in (("inputs", "inputs"), ("outputs", "outputs"), ("depth", "depths")):
        control = figure.locator(f'input[name="{name}"]')
        press(control, "End")
        assert 2 ** float(control.input_value()) == DATA[key][-1]
        press(control, "Home")
        assert 2 ** float(control.input_value()) == DATA[key][0]
    assert read(figure, "bytes-jacrev")[0] == DATA["bytes"]["jax"]["jacrev"][0][0][0]


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_memory_is_measured_the_same_again(framework):
    """Bytes are counted, so they are the same from run to run with the same versions."""
    pytest.importorskip(framework)
    if importlib.metadata.version(framework).split("+")[0] != DATA["versions"][framework]:
        pytest.skip("modes.json was measured with other versions")
    for name in ("torch", "jax"):  # the script imports both
        pytest.importorskip(name)
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import modes_grid
    finally:
        sys.path.pop(0)
    measure = {"jax": modes_grid.measure_jax, "torch": modes_grid.measure_torch}[framework]
    for mode in MODES:
        for i, j, k in ((2, 3, 2), (4, 1, 1)):
            sizes = DATA["inputs"][i], DATA["outputs"][j], DATA["depths"][k]
            assert measure(mode, *sizes)[1] == DATA["bytes"][framework][mode][i][j][k]

"""The same functions in both frameworks, for tests of the proof."""

import importlib.util

import numpy as np
import pytest

import diptych

FRAMEWORKS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(name) is None, reason=f"{name} is not installed"
        ),
    )
    for name in ("torch", "jax")
]


def every_framework(test):
    """Runs a test on each framework that is installed."""
    return pytest.mark.parametrize("framework", FRAMEWORKS)(test)


def product(vjp=None, jvp=None):
    """Returns the rule `sin(x) * y` with these derivatives; the right VJP if none is given."""

    @diptych.rule
    def sine_times(x, y):
        xp = diptych.namespace(x, y)
        return xp.sin(x) * y

    def right(res, bar):
        xp = diptych.namespace(bar)
        return bar * res.y * xp.cos(res.x), bar * xp.sin(res.x)

    if vjp is not None or jvp is None:
        sine_times.vjp(vjp or right)
    if jvp is not None:
        sine_times.jvp(jvp)
    return sine_times


def example(seed=0, shape=(3, 4)):
    """Returns two arrays."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape), rng.normal(size=shape)


def check(f, *args, **options):
    """Returns a report without neighbours and compilation, which tests ask for by themselves."""
    return diptych.check(f, *args, **{"neighbours": False, "compile": False, **options})

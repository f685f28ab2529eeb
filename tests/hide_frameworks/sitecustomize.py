"""Hides the frameworks that a run is not about, as if they were not installed.

`DIPTYCH_FRAMEWORKS=torch` hides JAX. Python imports a module of this name at its start when its
folder is on the path, so that subprocesses of the tests are blind to the same frameworks;
`tests/conftest.py` imports it by hand in the first process.
"""

import importlib.machinery
import os
import sys

FRAMEWORKS = {"torch": ("torch",), "jax": ("jax", "jaxlib", "equinox", "lineax")}


class _Filtered:
    """A path finder that finds all but some packages; unlike an error, `find_spec` can ask it."""

    def __init__(self, finder, hidden):
        self.finder = finder
        self.hidden = hidden

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.hidden:
            return None
        return self.finder.find_spec(name, path, target)

    def invalidate_caches(self):
        self.finder.invalidate_caches()

    def find_distributions(self, *args, **kwargs):
        return self.finder.find_distributions(*args, **kwargs)


def promised() -> set[str] | None:
    """Returns the frameworks that this run is about; `None` where nothing was said."""
    text = os.environ.get("DIPTYCH_FRAMEWORKS")
    if text is None:
        return None
    names = {name.strip() for name in text.split(",") if name.strip()}
    if unknown := names - FRAMEWORKS.keys():
        raise ValueError(
            f"DIPTYCH_FRAMEWORKS: expected {sorted(FRAMEWORKS)}, got {sorted(unknown)}"
        )
    return names


def hide() -> None:
    """Hides the packages of every framework that was not promised."""
    names = promised()
    if names is None or any(isinstance(finder, _Filtered) for finder in sys.meta_path):
        return
    hidden = {package for name in FRAMEWORKS.keys() - names for package in FRAMEWORKS[name]}
    if loaded := hidden & sys.modules.keys():
        raise RuntimeError(f"too late to hide {sorted(loaded)}: imported already")
    sys.meta_path[:] = [
        _Filtered(finder, hidden) if finder is importlib.machinery.PathFinder else finder
        for finder in sys.meta_path
    ]


hide()

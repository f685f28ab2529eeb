"""What holds for every test: which frameworks there are, and how they are set up."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

import pytest

# Read when the frameworks are imported, by subprocesses too: float64, several devices to shard
# over, one thread for each of the suite's workers.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    ).strip()

_HIDE = Path(__file__).parent / "hide_frameworks"
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(_HIDE), *filter(None, [os.environ.get("PYTHONPATH")])]
)
_spec = importlib.util.spec_from_file_location("hide_frameworks", _HIDE / "sitecustomize.py")
hide_frameworks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hide_frameworks)


def pytest_report_header():
    """Says which frameworks are there; one that was promised and does not load ends the run."""
    promised = hide_frameworks.promised()
    found = []
    for name in hide_frameworks.FRAMEWORKS:
        if promised is not None and name in promised:
            importlib.import_module(name)
        if importlib.util.find_spec(name) is not None:
            found.append(name)
    return f"frameworks: {', '.join(found) or 'none'}"


def pytest_configure():
    """Keeps PyTorch to one thread for each worker."""
    if importlib.util.find_spec("torch") is not None and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def fresh_compiler():
    """Every callable object that is compiled counts as a recompilation of one and the same code."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"]._dynamo.reset()

"""Makes the helpers beside the JAX tests importable; without JAX nothing here is collected.

Float64 and the devices to shard over are set in `tests/conftest.py`, before JAX is imported.
"""

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

collect_ignore_glob = [] if importlib.util.find_spec("jax") else ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def _as_set_up():
    """Fails where the set-up came too late: float32 and one device would prove much less."""
    import jax

    assert jax.config.jax_enable_x64
    assert len(jax.devices()) >= 4

"""Makes the helpers beside the PyTorch tests importable, whatever pytest's import mode.

Without PyTorch nothing here is collected: every module imports it at its top.
"""

import importlib.util
import sys
from pathlib import Path

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]

"""diptych: one derivative rule, both directions (JVP and VJP), under PyTorch and JAX."""

from typing import TYPE_CHECKING, Any

from diptych import errors
from diptych.arguments import Spec
from diptych.implicit import implicit
from diptych.namespace import namespace
from diptych.rule import Rule, rule
from diptych.transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp, vmap

if TYPE_CHECKING:
    from diptych.proof.check import check
    from diptych.proof.report import Report

__all__ = [
    "Report",
    "Rule",
    "Spec",
    "check",
    "errors",
    "grad",
    "hessian",
    "hvp",
    "implicit",
    "jacobian",
    "jvp",
    "namespace",
    "rule",
    "value_and_grad",
    "vjp",
    "vmap",
]
__version__ = "0.1.0"

_LAZY = {"check": "diptych.proof.check", "Report": "diptych.proof.report"}


def __getattr__(name: str) -> Any:
    # The proof is loaded when it is first asked for: most programs only run rules.
    if name not in _LAZY:
        raise AttributeError(f"module 'diptych' has no attribute {name!r}")
    import importlib

    found = globals()[name] = getattr(importlib.import_module(_LAZY[name]), name)
    return found

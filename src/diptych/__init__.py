"""diptych: one derivative rule, both directions (JVP and VJP), under PyTorch and JAX."""

from diptych import errors
from diptych.arguments import Spec
from diptych.implicit import implicit
from diptych.namespace import namespace
from diptych.rule import Rule, rule
from diptych.transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp, vmap

__all__ = [
    "Rule",
    "Spec",
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

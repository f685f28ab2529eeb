"""The claims that a check tests: one function each, by the names that users select."""

from __future__ import annotations

from diptych.proof.claims.batching import vmap
from diptych.proof.claims.captures import captures
from diptych.proof.claims.compiling import compile
from diptych.proof.claims.cost import cost
from diptych.proof.claims.dtypes import dtypes
from diptych.proof.claims.first import adjoint, jvp, primal, vjp
from diptych.proof.claims.honoured import honoured
from diptych.proof.claims.linear import linear
from diptych.proof.claims.memory import memory
from diptych.proof.claims.nearby import finite, near
from diptych.proof.claims.orders import order
from diptych.proof.claims.purity import purity
from diptych.proof.claims.shapes import shapes
from diptych.proof.claims.subsets import partial
from diptych.proof.claims.trial import Claim

CLAIMS: dict[str, Claim] = {
    "primal": primal,
    "jvp": jvp,
    "vjp": vjp,
    "adjoint": adjoint,
    "linear": linear,
    "order": order,
    "vmap": vmap,
    "compile": compile,
    "dtypes": dtypes,
    "shapes": shapes,
    "purity": purity,
    "partial": partial,
    "captures": captures,
    "finite": finite,
    "memory": memory,
    "cost": cost,
    "honoured": honoured,
    "neighbours": near,
}

"""The claims that a check tests: one function each, by the names that users select."""

from __future__ import annotations

from diptych.proof.claims.dtypes import dtypes
from diptych.proof.claims.first import adjoint, jvp, primal, vjp
from diptych.proof.claims.linear import linear
from diptych.proof.claims.nearby import finite, near
from diptych.proof.claims.orders import order
from diptych.proof.claims.shapes import shapes
from diptych.proof.claims.trial import Claim

CLAIMS: dict[str, Claim] = {
    "primal": primal,
    "jvp": jvp,
    "vjp": vjp,
    "adjoint": adjoint,
    "linear": linear,
    "order": order,
    "dtypes": dtypes,
    "shapes": shapes,
    "finite": finite,
    "neighbours": near,
}

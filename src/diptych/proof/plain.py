"""Anything that a report holds as JSON: what JSON has no words for is spelt out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def plain(x: Any) -> Any:
    """Returns `x` as dictionaries, lists, strings, numbers, truth values and `None`.

    NaN and the infinities become the strings "NaN", "Infinity" and "-Infinity"; a complex number
    becomes `{"real": ..., "imag": ...}`, an array or a tuple a list, and what is none of these its
    text.

    Examples:
        >>> plain({"at": (1, 2), "value": 1 + 2j, "error": float("inf")})
        {'at': [1, 2], 'value': {'real': 1.0, 'imag': 2.0}, 'error': 'Infinity'}
    """
    if x is None or isinstance(x, (bool, int, str)):
        return x
    if isinstance(x, float):
        return float(x) if math.isfinite(x) else _spelt(x)
    if isinstance(x, complex):
        return {"real": plain(float(x.real)), "imag": plain(float(x.imag))}
    if isinstance(x, Mapping):
        return {str(key): plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [plain(item) for item in x]
    if isinstance(x, (set, frozenset)):
        return sorted((plain(item) for item in x), key=str)
    return _array(x)


def _array(x: Any) -> Any:
    """Returns an array or number of any library as lists and numbers; anything else as text."""
    if not hasattr(x, "dtype"):
        return str(x)
    try:
        array = np.asarray(x)
        if array.dtype.kind not in "biufcOUS":  # bfloat16 and its like
            array = array.astype(np.float64)
        values = array.tolist()
    except Exception:
        return str(x)
    return str(x) if values is x else plain(values)


def _spelt(x: float) -> str:
    return "NaN" if math.isnan(x) else "Infinity" if x > 0 else "-Infinity"

"""The array-API namespace of what a rule was given, so that one body runs in every framework."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from diptych import backends
from diptych.arguments import flatten

_namespaces: dict[type, ModuleType] = {}


def namespace(*arrays: Any) -> ModuleType:
    """Returns the array-API namespace of these arrays.

    Args:
        arrays: arrays or pytrees of them; numbers, `None` and NumPy arrays may stand beside
            those of a framework.

    Returns:
        `array_api_compat.torch`, `jax.numpy`, or `array_api_compat.numpy` if there are no others.

    Raises:
        KindError: if arrays of two frameworks are among them.

    Examples:
        >>> import diptych, numpy as np
        >>> xp = diptych.namespace(np.ones(3))
        >>> float(xp.sum(xp.exp(np.zeros(2))))
        2.0
    """
    if backends.compiling():
        return backends.load("torch").namespace()
    if len(arrays) == 1:
        kind = type(arrays[0])
        found = _namespaces.get(kind)
        if found is not None:
            return found
        name = backends.owner(kind)
        if name is not None:
            found = backends.load(name).namespace()
            if len(_namespaces) < 100:  # types may be made at run time
                _namespaces[kind] = found
            return found
    leaves = [leaf for array in arrays for leaf in flatten(array)[0]]
    return backends.backend_of(leaves, "diptych.namespace").namespace()

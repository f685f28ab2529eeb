"""Values that take no part in differentiation, as keys of caches."""

from __future__ import annotations

from typing import Any


class Static:
    """Values compared by content where they can be hashed, and by identity where they cannot."""

    __slots__ = ("_hash", "hashable", "values")

    def __init__(self, values: tuple[Any, ...]):
        self.values = values
        self.hashable = True
        self._hash = hash(tuple([self._hash_one(value) for value in values]))

    def _hash_one(self, value: Any) -> tuple[type, int]:
        try:
            return type(value), id(value) if hasattr(value, "__array__") else hash(value)
        except Exception:  # whatever a user's __hash__ raises
            self.hashable = False
            return type(value), id(value)

    def unhashable(self) -> list[int]:
        """Returns the positions of the values that cannot be hashed."""
        found = []
        for i, value in enumerate(self.values):
            try:
                hash(value)
            except Exception:
                found.append(i)
        return found

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Static)
            and self._hash == other._hash
            and len(self.values) == len(other.values)
            and all(_same(a, b) for a, b in zip(self.values, other.values, strict=True))
        )


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is not type(b) or hasattr(a, "__array__"):
        return False
    if isinstance(a, tuple):  # equal, but not the same: (1,) and (1.0,)
        return len(a) == len(b) and all(map(_same, a, b))
    try:
        hash(a)
        if isinstance(a, (float, complex)):
            return repr(a) == repr(b)  # 0.0 and -0.0 are not the same; NaN is
        return bool(a == b)
    except Exception:  # whatever a user's __eq__ raises
        return False

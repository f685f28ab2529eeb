"""A pytree's floating-point leaves as one flat real vector: the space that linear algebra works in.

A complex leaf is its real part, then its imaginary part. The inner product of two vectors is then
`Re(sum(conj(a) * b))` of the trees, and the adjoint of a map between vectors its transpose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from diptych.arguments import align, flatten, unflatten

if TYPE_CHECKING:
    from diptych.backends import Backend


def norm(xp: Any, v: Any) -> Any:
    """Returns the length of a vector."""
    return xp.sqrt(xp.sum(v * v))


def differentiable(backend: Backend, x: Any) -> bool:
    """Returns whether a leaf is an array that has a derivative."""
    return backend.is_array(x) and backend.is_differentiable(x)


def is_complex(x: Any) -> bool:
    """Returns whether an array is complex."""
    return "complex" in str(x.dtype)


def real_part(backend: Backend, x: Any) -> Any:
    """Returns the real part of an array, which may be real."""
    return backend.namespace().real(x) if is_complex(x) else x


def count(arrays: Sequence[Any]) -> int:
    """Returns how many real numbers there are in these arrays."""
    total = 0
    for x in arrays:
        numbers = 2 if is_complex(x) else 1
        for n in x.shape:
            numbers = numbers * n
        total = total + numbers
    return total


class Space(NamedTuple):
    """The space of one pytree's vectors.

    Args:
        backend: the framework of its arrays.
        leaves, treedef: the pytree.
        free: which leaves are floating-point arrays: those that are in the vector.
        dtype: that of the vector: the widest of the leaves, at least float32.
    """

    backend: Backend
    leaves: list[Any]
    treedef: Any
    free: list[int]
    dtype: Any

    @classmethod
    def of(cls, backend: Backend, tree: Any) -> Space:
        """Returns the space of this pytree."""
        xp = backend.namespace()
        leaves, treedef = flatten(tree)
        leaves = [
            backend.from_number(x, backend.meta(x))
            if isinstance(x, (float, complex)) and backend.is_array(x)
            else x
            for x in leaves
        ]  # NumPy takes numbers for arrays
        free = [i for i, x in enumerate(leaves) if differentiable(backend, x)]
        dtypes = [real_part(backend, leaves[i]).dtype for i in free]
        return cls(backend, leaves, treedef, free, xp.result_type(xp.float32, *dtypes))

    @property
    def size(self) -> int:
        """The number of real unknowns."""
        return count([self.leaves[i] for i in self.free])

    def vector(self, tree: Any) -> Any:
        """Returns the vector of a pytree of this structure, in which `None` is zero."""
        leaves = align(self.treedef, tree, "a vector", "the pytree", "pass one of its structure")
        zeros = self.backend.zeros
        return self.concatenated(
            [
                zeros(self.backend.meta(self.leaves[i])) if leaves[i] is None else leaves[i]
                for i in self.free
            ]
        )

    def concatenated(self, arrays: Sequence[Any]) -> Any:
        """Returns the vector of these arrays, of whatever shapes."""
        xp = self.backend.namespace()
        parts = []
        for x in arrays:
            x = x if hasattr(x, "dtype") else xp.asarray(x)
            pair = (xp.real(x), xp.imag(x)) if is_complex(x) else (x,)
            parts += [xp.astype(xp.reshape(part, (-1,)), self.dtype) for part in pair]
        return parts[0] if len(parts) == 1 else xp.concat(parts)

    def tree(self, vector: Any, rest: Sequence[Any] | None = None) -> Any:
        """Returns the pytree of a vector.

        Args:
            vector: array (size,).
            rest: what the leaves that are not free are; without it what they were.
        """
        xp = self.backend.namespace()
        leaves = list(self.leaves if rest is None else rest)
        start = 0
        for i in self.free:
            like = self.leaves[i]
            numbers = count([like])
            part = vector[start : start + numbers]
            start = start + numbers
            if is_complex(like):
                part = part[: numbers // 2] + 1j * part[numbers // 2 :]
            leaves[i] = xp.astype(xp.reshape(part, like.shape), like.dtype)
        return unflatten(self.treedef, leaves)

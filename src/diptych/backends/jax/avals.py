"""What JAX's abstract values are asked for, where the name differs between versions.

`varying`: the mesh axes over which a value differs from device to device under shard_map; the
attribute is `manual_axis_type` in jax 0.10.2 and `vma` before. Tried on jax 0.10.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import ad, batching


def varying(aval: Any) -> frozenset[Any]:
    """Returns the mesh axes over which a value of this type varies."""
    kind = getattr(aval, "manual_axis_type", None)
    if kind is not None:
        return frozenset(kind.varying)
    return frozenset(getattr(aval, "vma", ()))


def to_cotangent(aval: Any) -> Any:
    """Returns the type of a cotangent of a value of this type."""
    return (getattr(aval, "to_ct_aval", None) or aval.to_cotangent_aval)()


def axis_name(axis: Any) -> Any:
    """Returns the name of the axis of a `vmap`, by which collectives know it; `None` without one.

    Under a name even what depends on no batched array may differ from example to example.
    """
    return axis.name if isinstance(axis.name, (str, tuple)) else None


def with_batch(aval: Any, axis: Any) -> Any:
    """Returns the type with a batch axis in front, sharded as the axis is on an explicit mesh."""
    return core.unmapped_aval(axis.size, 0, aval, getattr(axis, "explicit_mesh_axis", None))


def batch_in_front(x: Any, dim: Any, axis: Any) -> Any:
    """Returns a value under `vmap` with its batch axis in front, also if it had none."""
    mesh_axis = getattr(axis, "explicit_mesh_axis", None)
    if dim is not None or mesh_axis is None:
        return batching.bdim_at_front(x, dim, axis.size)
    aval = with_batch(jax.typeof(x), axis)
    return jax.lax.broadcast(x, (axis.size,), out_sharding=aval.sharding)


def vary_over(x: Any, axes: Iterable[Any]) -> Any:
    """Returns `x` varying over these mesh axes as well."""
    missing = frozenset(axes) - varying(jax.typeof(x))
    return jax.lax.pcast(x, tuple(missing), to="varying") if missing else x


def vary_like(x: Any, aval: Any) -> Any:
    """Returns `x` varying over every axis over which values of this type do.

    Constants that a rule returns are the same on all devices; their type must not say so.
    """
    return vary_over(x, varying(aval))


def vary_together(leaves: Sequence[Any]) -> Sequence[Any]:
    """Returns the leaves varying over every mesh axis over which one of them does.

    A replicated argument beside varying ones is thereby cast, and the cast's transpose sums its
    cotangent over the devices: under shard_map that sum is the rule's own duty otherwise.
    """
    axes: frozenset[Any] = frozenset().union(*[varying(jax.typeof(x)) for x in leaves])
    return [vary_over(x, axes) for x in leaves] if axes else leaves


def result_type_of(avals: Sequence[Any], shape: tuple[int, ...], dtype: Any) -> Any:
    """Returns the type of a result of this shape and dtype that varies as these operands do."""
    aval = jax.core.ShapedArray(shape, dtype)
    axes: frozenset[Any] = frozenset().union(*[varying(a) for a in avals])
    if not axes:
        return aval
    model = next(a for a in avals if varying(a) == axes)
    spec = jax.sharding.PartitionSpec(*[None] * len(shape))
    sharding = jax.sharding.NamedSharding(model.sharding.mesh, spec)
    return model.update(shape=shape, dtype=dtype, weak_type=False, sharding=sharding)


def zeros_like_type(meta: Any) -> Any:
    """Returns zeros of a meta's shape and dtype, weak, sharded and varying as its type says."""
    aval = meta.device
    if aval is None or getattr(aval, "sharding", None) is None:
        return jnp.zeros(meta.shape, meta.dtype)
    if meta.weak:
        # A Python number's tangent must promote as the number does, or it widens what it meets.
        return ad.instantiate_zeros(ad.Zero(aval))
    explicit = any(axis is not None for axis in aval.sharding.spec)
    sharding = aval.sharding if explicit else None
    return vary_like(jax.lax.full(meta.shape, 0, meta.dtype, sharding=sharding), aval)

"""JAX's transforms, as rows of the table.

Each transform is something done to an elementwise function: an operator that differentiates it once
(`OPERATORS`), or a wrapping that leaves its values as they are (`WRAPPINGS`). What must come out of
any composition of them is then a derivative in closed form.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from demo_table import Function, Probe, Row, compose, nestings


def _total(f: Function) -> Function:
    return lambda x: f(x).sum()


def _d_vjp(f: Function) -> Function:
    def pulled(x):
        out, pull = jax.vjp(f, x)
        return pull(jnp.ones_like(out))[0]

    return pulled


def _d_linearize(f: Function) -> Function:
    return lambda x: jax.linearize(f, x)[1](jnp.ones_like(x))


def _d_linear_transpose(f: Function) -> Function:
    def pulled(x):
        out, push = jax.linearize(f, x)
        return jax.linear_transpose(push, x)(jnp.ones_like(out))[0]

    return pulled


OPERATORS: dict[str, Callable[[Function], Function]] = {
    "grad": lambda f: jax.grad(_total(f)),
    "value_and_grad": lambda f: lambda x: jax.value_and_grad(_total(f))(x)[1],
    "vjp": _d_vjp,
    "jacrev": lambda f: lambda x: jax.jacrev(f)(x).sum(1),
    "jvp": lambda f: lambda x: jax.jvp(f, (x,), (jnp.ones_like(x),))[1],
    "jacfwd": lambda f: lambda x: jax.jacfwd(f)(x).sum(1),
    "linearize": _d_linearize,
    "linear_transpose": _d_linear_transpose,
    "vmap-of-grad": lambda f: jax.vmap(jax.grad(f)),
    "vmap-of-jvp": lambda f: jax.vmap(lambda x: jax.jvp(f, (x,), (jnp.ones_like(x),))[1]),
}


# Wrappings: the same values, by way of a transform.


def _scan(f: Function) -> Function:
    def step(total, x):
        out = f(x)
        return total + out, out

    return lambda x: jax.lax.scan(step, jnp.zeros_like(x[0]), x)[1]


def _scan_carry(f: Function) -> Function:
    # The rule runs on the carry: each turn puts back the entry it was given.
    def whole(x):
        def step(carry, i):
            return jnp.roll(carry, 1).at[0].set(f(carry[-1])), None

        return jax.lax.scan(step, x, jnp.arange(x.shape[0]))[0]

    return whole


def _while_loop(f: Function) -> Function:
    def whole(x):
        def body(state):
            i, out = state
            return i + 1, out.at[i].set(f(x[i]))

        return jax.lax.while_loop(lambda s: s[0] < x.shape[0], body, (0, jnp.zeros_like(x)))[1]

    return whole


def _fori_loop(f: Function) -> Function:
    def whole(x):
        return jax.lax.fori_loop(
            0, x.shape[0], lambda i, out: out.at[i].set(f(x[i])), jnp.zeros_like(x)
        )

    return whole


def _cond(f: Function) -> Function:
    return lambda x: jax.lax.cond(x[0] > -10, f, lambda x: x, x)


def _switch(f: Function) -> Function:
    return lambda x: jax.lax.switch((x[0] > -10).astype(int), [lambda x: x, f], x)


def _associative_scan(f: Function) -> Function:
    def combine(left, right):
        return right[0], f(right[0])

    def whole(x):
        padded = jnp.concatenate([x[:1], x])
        return jax.lax.associative_scan(combine, (padded, padded))[1][1:]

    return whole


def _mesh() -> Mesh:
    return Mesh(np.array(jax.devices()[:4]), ("i",))


def _shard_map(f: Function) -> Function:
    spec = PartitionSpec("i")
    return jax.shard_map(f, mesh=_mesh(), in_specs=spec, out_specs=spec)


def _shard_map_replicated(f: Function) -> Function:
    # x is on every device, the weights are not: its cotangent must be summed across devices.
    def whole(x):
        shares = jnp.array([0.1, 0.2, 0.3, 0.4])
        mapped = jax.shard_map(
            lambda x, share: jax.lax.psum(f(x) * share, "i"),
            mesh=_mesh(),
            in_specs=(PartitionSpec(), PartitionSpec("i")),
            out_specs=PartitionSpec(),
        )
        return mapped(x, shares)

    return whole


def _mesh_jit(f: Function) -> Function:
    sharding = NamedSharding(_mesh(), PartitionSpec("i"))
    return jax.jit(f, in_shardings=sharding, out_shardings=sharding)


def _exported(f: Function) -> Function:
    def whole(x):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        data = jax.export.export(jax.jit(f))(shape).serialize(vjp_order=2)
        return jax.export.deserialize(data).call

    return lambda x: whole(x)(x)


def _in_custom_jvp(f: Function) -> Function:
    outer = jax.custom_jvp(lambda x: f(x))
    outer.defjvp(lambda primals, tangents: jax.jvp(f, primals, tangents))
    return lambda x: outer(x)


def _in_custom_vjp(f: Function) -> Function:
    outer = jax.custom_vjp(lambda x: f(x))
    outer.defvjp(
        lambda x: (f(x), x),
        lambda x, out_bar: jax.vjp(f, x)[1](out_bar),
    )
    return lambda x: outer(x)


class _Layer(eqx.Module):
    weight: jax.Array
    f: Function = eqx.field(static=True)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.f(self.weight * x)


def _module_grad(f: Function, x: jax.Array) -> jax.Array:
    loss = eqx.filter_jit(lambda layer: layer(jnp.ones_like(x)).sum())
    return eqx.filter_grad(loss)(_Layer(x, f)).weight


def _module_jvp(f: Function, x: jax.Array) -> jax.Array:
    layer = _Layer(x, f)
    tangent = eqx.tree_at(lambda layer: layer.weight, layer, jnp.ones_like(x))
    call = lambda layer: layer(jnp.ones_like(x))  # noqa: E731
    return eqx.filter_jvp(call, (layer,), (tangent,))[1]


WRAPPINGS: dict[str, Callable[[Function], Function]] = {
    "jit": jax.jit,
    "vmap": jax.vmap,
    "vmap(vmap)": lambda f: lambda x: jax.vmap(jax.vmap(f))(x.reshape(2, -1)).reshape(-1),
    "vmap(in_axes=1, out_axes=1)": lambda f: (
        lambda x: jax.vmap(f, in_axes=1, out_axes=1)(x.reshape(2, -1)).reshape(-1)
    ),
    "vmap(spmd_axis_name)": partial(jax.vmap, spmd_axis_name="i"),
    "scan": _scan,
    "scan, on the carry": _scan_carry,
    "while_loop": _while_loop,
    "fori_loop": _fori_loop,
    "cond": _cond,
    "switch": _switch,
    "map": lambda f: partial(jax.lax.map, f),
    "associative_scan": _associative_scan,
    "checkpoint": jax.checkpoint,
    "checkpoint(nothing_saveable)": partial(
        jax.checkpoint, policy=jax.checkpoint_policies.nothing_saveable
    ),
    "checkpoint(everything_saveable)": partial(
        jax.checkpoint, policy=jax.checkpoint_policies.everything_saveable
    ),
    "shard_map": _shard_map,
    "shard_map, replicated": _shard_map_replicated,
    "jit over a mesh": _mesh_jit,
    "export": _exported,
    "in custom_jvp": _in_custom_jvp,
    "in custom_vjp": _in_custom_vjp,
}


def _wrapped(name: str, *chains: str) -> tuple[Probe, ...]:
    """Returns probes `operators(wrapping(f))`; a chain is `value`, `grad`, `jvp(grad)`, ..."""
    wrap = WRAPPINGS[name]
    probes = []
    for chain in chains:
        parts = [] if chain == "value" else chain.replace(")", "").split("(")
        operators = [OPERATORS[part] for part in parts]
        probes.append(
            Probe(
                f"{chain} of {name}",
                len(parts),
                lambda f, x, operators=operators: compose(operators, wrap(f))(x),
                control=(lambda f, x: wrap(f)(x)) if name == "export" else None,
            )
        )
    return tuple(probes)


def _jitted(name: str, *probes: Probe) -> Row:
    return Row(name, probes, compiler=jax.jit, trial=jax.eval_shape)


def _three_deep() -> tuple[Probe, ...]:
    triples = itertools.product(("jvp", "grad"), repeat=3)
    return nestings(OPERATORS, *("{}({}({}))".format(*three) for three in triples))


def _shapes(f: Function, x: jax.Array) -> jax.Array:
    shapes = [jax.eval_shape(g, x) for g in (f, OPERATORS["grad"](f), OPERATORS["jvp"](f))]
    assert all(s.shape == x.shape and s.dtype == x.dtype for s in shapes), shapes
    return f(x)


def _diagonal(label: str, jacobian: Callable, order: int = 1) -> Probe:
    return Probe(label, order, lambda f, x: jacobian(f)(x), np.diag)


def rows() -> tuple[Row, ...]:
    """Returns the rows of JAX's table."""
    hessian = _diagonal("hessian", lambda f: jax.hessian(_total(f)), 2)
    return (
        Row("eager", (Probe("the value", 0, lambda f, x: f(x)), *nestings(OPERATORS, "grad"))),
        _jitted(
            "jit, eval_shape",
            *_wrapped("jit", "value", "grad", "jvp"),
            Probe("eval_shape", 0, _shapes),
        ),
        _jitted(
            "value_and_grad, vjp, jacrev",
            *nestings(OPERATORS, "grad", "value_and_grad", "vjp"),
            _diagonal("jacrev", jax.jacrev),
        ),
        _jitted(
            "jvp, jacfwd, linearize",
            *nestings(OPERATORS, "jvp", "linearize"),
            _diagonal("jacfwd", jax.jacfwd),
        ),
        _jitted(
            "linear_transpose", *nestings(OPERATORS, "linear_transpose", "grad(linear_transpose)")
        ),
        _jitted("reverse over reverse", *nestings(OPERATORS, "grad(grad)", "jacrev(jacrev)")),
        _jitted(
            "forward over reverse, hessian",
            *nestings(OPERATORS, "jvp(grad)", "jacfwd(jacrev)", "linearize(grad)"),
            hessian,
        ),
        _jitted("reverse over forward", *nestings(OPERATORS, "grad(jvp)", "jacrev(jacfwd)")),
        _jitted("forward over forward", *nestings(OPERATORS, "jvp(jvp)", "jacfwd(jacfwd)")),
        _jitted("three deep, all eight", *_three_deep()),
        _jitted(
            "vmap: nested, axes, spmd",
            *_wrapped("vmap", "grad", "jvp"),
            *_wrapped("vmap(vmap)", "grad"),
            *_wrapped("vmap(in_axes=1, out_axes=1)", "jvp"),
            *_wrapped("vmap(spmd_axis_name)", "grad"),
            *nestings(OPERATORS, "vmap-of-grad", "vmap-of-jvp"),
            Probe("vmap(grad(grad))", 2, lambda f, x: jax.vmap(jax.grad(jax.grad(f)))(x)),
        ),
        _jitted(
            "scan, map, associative_scan",
            *_wrapped("scan", "grad", "jvp", "jvp(grad)"),
            *_wrapped("scan, on the carry", "grad", "jvp"),
            *_wrapped("map", "grad"),
            *_wrapped("associative_scan", "jvp"),
        ),
        _jitted(
            "while_loop, fori_loop",
            *_wrapped("while_loop", "jvp"),
            *_wrapped("fori_loop", "grad", "jvp"),
        ),
        _jitted(
            "cond, switch", *_wrapped("cond", "grad", "jvp"), *_wrapped("switch", "grad", "jvp")
        ),
        _jitted(
            "checkpoint, with policies",
            *_wrapped("checkpoint", "grad", "jvp", "grad(grad)"),
            *_wrapped("checkpoint(nothing_saveable)", "grad"),
            *_wrapped("checkpoint(everything_saveable)", "grad"),
        ),
        _jitted(
            "shard_map, jit over a mesh",
            *_wrapped("shard_map", "value", "grad", "jvp"),
            *_wrapped("shard_map, replicated", "value", "grad", "jvp"),
            *_wrapped("jit over a mesh", "grad", "jvp"),
        ),
        Row("export and back", (*_wrapped("export", "value", "grad"), *_export_of_derivatives())),
        _jitted(
            "in custom_jvp and custom_vjp",
            *_wrapped("in custom_jvp", "grad", "jvp"),
            *_wrapped("in custom_vjp", "grad", "grad(grad)"),
        ),
        _jitted(
            "in Equinox modules",
            Probe("filter_grad of filter_jit", 1, _module_grad),
            Probe("filter_jvp", 1, _module_jvp),
        ),
    )


def _export_of_derivatives() -> tuple[Probe, ...]:
    return tuple(
        Probe(
            f"export of {name}",
            1,
            lambda f, x, d=OPERATORS[name]: _exported(d(f))(x),
            control=lambda f, x: _exported(f)(x),
        )
        for name in ("grad", "jvp")
    )

"""JAX's transforms, and witnesses that show which of them honour a custom derivative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diptych.backends.jax import backend
from diptych.proof.probes import Pack, Transform, of_moving

conj = backend.conj


def witness(thing: Any) -> tuple[Callable[..., Any], int | None, int | None] | None:
    """Returns a copy of a custom_vjp whose bwd gives twice, or of a custom_jvp three times."""
    if isinstance(thing, jax.custom_vjp):
        bwd: Any = thing.bwd
        copy: Any = jax.custom_vjp(thing.fun, nondiff_argnums=thing.nondiff_argnums)
        copy.defvjp(
            thing.fwd,
            lambda *args: jax.tree.map(lambda x: _times(2, x), bwd(*args)),
            symbolic_zeros=thing.symbolic_zeros,
            optimize_remat=thing.optimize_remat,
        )
        return copy, 2, None
    if isinstance(thing, jax.custom_jvp):
        jvp: Any = thing.jvp
        copy = jax.custom_jvp(thing.fun, nondiff_argnums=thing.nondiff_argnums)

        def pushed(*args: Any) -> Any:
            out, dot = jvp(*args)
            return out, jax.tree.map(lambda x: _times(3, x), dot)

        copy.defjvp(pushed, symbolic_zeros=thing.symbolic_zeros)
        return copy, 3, 3
    return None


def _times(factor: int, x: Any) -> Any:
    if getattr(x, "dtype", None) == jax.dtypes.float0 or not hasattr(x, "dtype"):
        return x
    return x if not isinstance(x, (jax.Array, np.ndarray)) else factor * x


def transforms() -> Sequence[Transform]:
    """Returns the transforms of one function that JAX has."""
    return [
        Transform("jax.grad", "reverse", lambda p: _contracted(p, _grad(p)(*_moved(p)))),
        Transform("jax.vjp", "reverse", _vjp),
        Transform("jax.jacrev", "reverse", _jacobian(jax.jacrev)),
        Transform("vmap(grad)", "reverse", _mapped_grad),
        Transform("grad(vmap)", "reverse", _grad_mapped),
        Transform("grad(checkpoint)", "reverse", _around(jax.checkpoint)),
        Transform("grad in a custom_vjp", "reverse", _in_custom_vjp),
        Transform("jax.jvp", "forward", _jvp),
        Transform("jax.linearize", "forward", _linearize),
        Transform("linear_transpose(linearize)", "reverse", _transposed),
        Transform("jax.jacfwd", "forward", _jacobian(jax.jacfwd)),
        Transform("vmap(jvp)", "forward", _mapped_jvp),
        Transform("jvp(vmap)", "forward", _jvp_mapped),
        Transform("jvp in a custom_jvp", "forward", _in_custom_jvp),
        Transform("grad(grad)", "second", _second("reverse", "reverse")),
        Transform("jvp(grad)", "second", _second("reverse", "forward")),
        Transform("grad(jvp)", "second", _second("forward", "reverse")),
        Transform("jvp(jvp)", "second", _second("forward", "forward")),
        Transform("jit(grad)", "reverse",
                  lambda p: _contracted(p, jax.jit(_grad(p))(*_moved(p))), True),
        Transform("grad(jit)", "reverse", _around(jax.jit), True),
        Transform("grad(scan)", "reverse", _around(_scan), True),
        Transform("grad(cond)", "reverse", _around(_cond), True),
        Transform("grad(lax.map)", "reverse", _around(_map), True),
        Transform("grad(shard_map)", "reverse", _around(_shard), True),
        Transform("export of the gradient", "reverse", _export, True),
        Transform("jit(jvp)", "forward", lambda p: jax.jit(lambda: _jvp(p))(), True),
        Transform("jvp(scan)", "forward", _pushed_around(_scan), True),
        Transform("jvp(cond)", "forward", _pushed_around(_cond), True),
        Transform("jvp(while_loop)", "forward", _pushed_around(_while), True),
        Transform("jvp(fori_loop)", "forward", _pushed_around(_fori), True),
        Transform("jvp(shard_map)", "forward", _pushed_around(_shard), True),
    ]  # fmt: skip


def loss_of(p: Pack) -> Callable[..., Any]:
    """Returns the real number `<bars, f>` as a function of the moving inputs."""
    function = of_moving(p.f, p.xs, p.moving, p.free)
    return lambda *moved: _inner(p.bars, function(*moved))


def _inner(a: Sequence[Any], b: Sequence[Any]) -> Any:
    parts = [jnp.sum(jnp.real(conj(x) * y)) for x, y in zip(a, b, strict=True)]
    return sum(parts[1:], parts[0])


def _contracted(p: Pack, bars: Sequence[Any]) -> Any:
    """Returns `<bars, dots>` for cotangents as JAX gives them, conjugated."""
    return _inner([conj(b) for b in bars], p.dots)


def _moved(p: Pack) -> tuple[Any, ...]:
    return tuple([p.xs[i] for i in p.moving])


def _argnums(p: Pack) -> tuple[int, ...]:
    return tuple(range(len(p.moving)))


def _grad(p: Pack) -> Callable[..., Any]:
    return jax.grad(loss_of(p), argnums=_argnums(p))


def _vjp(p: Pack) -> Any:
    pull = jax.vjp(of_moving(p.f, p.xs, p.moving, p.free), *_moved(p))[1]
    return _contracted(p, list(pull(tuple([conj(b) for b in p.bars]))))


def _jvp(p: Pack) -> Any:
    return jax.jvp(loss_of(p), _moved(p), tuple(p.dots))[1]


def _linearize(p: Pack) -> Any:
    return jax.linearize(loss_of(p), *_moved(p))[1](*p.dots)


def _transposed(p: Pack) -> Any:
    push = jax.linearize(loss_of(p), *_moved(p))[1]
    found: Any = jax.linear_transpose(push, *_moved(p))(jnp.ones_like(push(*p.dots)))
    return _contracted(p, found)


def _jacobian(transform: Callable[..., Any]) -> Callable[[Pack], Any]:
    def run(p: Pack) -> Any:
        if any(jnp.iscomplexobj(x) for x in _moved(p)):
            raise NotImplementedError
        return _contracted(p, transform(loss_of(p), argnums=_argnums(p))(*_moved(p)))

    return run


def _pairs(xs: Sequence[Any]) -> tuple[Any, ...]:
    return tuple([jnp.stack([x, x]) for x in xs])


def _mapped_grad(p: Pack) -> Any:
    return _contracted(p, [g[1] for g in jax.vmap(_grad(p))(*_pairs(_moved(p)))])


def _grad_mapped(p: Pack) -> Any:
    mapped = jax.vmap(loss_of(p))
    found = jax.grad(lambda *xs: mapped(*xs).sum(), argnums=_argnums(p))(*_pairs(_moved(p)))
    return _contracted(p, [g[1] for g in found])


def _mapped_jvp(p: Pack) -> Any:
    loss, n = loss_of(p), len(p.moving)

    def push(*both: Any) -> Any:
        return jax.jvp(loss, both[:n], both[n:])[1]

    return jax.vmap(push)(*_pairs([*_moved(p), *p.dots]))[1]


def _jvp_mapped(p: Pack) -> Any:
    return jax.jvp(jax.vmap(loss_of(p)), _pairs(_moved(p)), _pairs(p.dots))[1][1]


def _around(wrap: Callable[..., Any]) -> Callable[[Pack], Any]:
    """The gradient is taken of the function within another transform."""

    def run(p: Pack) -> Any:
        found = jax.grad(wrap(loss_of(p)), argnums=_argnums(p))(*_moved(p))
        return _contracted(p, found)

    return run


def _pushed_around(wrap: Callable[..., Any]) -> Callable[[Pack], Any]:
    def run(p: Pack) -> Any:
        return jax.jvp(wrap(loss_of(p)), _moved(p), tuple(p.dots))[1]

    return run


def _scan(loss: Callable[..., Any]) -> Callable[..., Any]:
    def scanned(*xs: Any) -> Any:
        stacked = tuple(x[None] for x in xs)
        return jax.lax.scan(lambda carry, each: (carry, loss(*each)), 0.0, stacked)[1][0]

    return scanned


def _map(loss: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *xs: jax.lax.map(lambda each: loss(*each), tuple(x[None] for x in xs))[0]


def _cond(loss: Callable[..., Any]) -> Callable[..., Any]:
    def chosen(*xs: Any) -> Any:
        yes = jnp.real(jnp.ravel(xs[0])[0]) < jnp.inf if xs[0].size else True
        return jax.lax.cond(yes, loss, lambda *xs: 0.0 * loss(*xs), *xs)

    return chosen


def _while(loss: Callable[..., Any]) -> Callable[..., Any]:
    def looped(*xs: Any) -> Any:
        start = (0, jnp.zeros_like(jax.eval_shape(loss, *xs)))
        return jax.lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 1, loss(*xs)), start)[1]

    return looped


def _fori(loss: Callable[..., Any]) -> Callable[..., Any]:
    def looped(*xs: Any) -> Any:
        start = jnp.zeros_like(jax.eval_shape(loss, *xs))
        return jax.lax.fori_loop(0, 1, lambda i, total: total + loss(*xs), start)

    return looped


def _shard(loss: Callable[..., Any]) -> Callable[..., Any]:
    mesh = jax.make_mesh((1,), ("i",), devices=jax.devices()[:1])
    spec = jax.sharding.PartitionSpec()
    return jax.shard_map(loss, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)


def _in_custom_vjp(p: Pack) -> Any:
    loss = loss_of(p)

    @jax.custom_vjp
    def outer(*xs: Any) -> Any:
        return loss(*xs)

    def bwd(xs: Any, bar: Any) -> Any:
        return tuple([bar * g for g in jax.grad(loss, argnums=_argnums(p))(*xs)])

    outer.defvjp(lambda *xs: (loss(*xs), xs), bwd)
    return _contracted(p, jax.grad(outer, argnums=_argnums(p))(*_moved(p)))


def _in_custom_jvp(p: Pack) -> Any:
    loss = loss_of(p)

    @jax.custom_jvp
    def outer(*xs: Any) -> Any:
        return loss(*xs)

    outer.defjvp(lambda primals, dots: jax.jvp(loss, primals, dots))
    return jax.jvp(outer, _moved(p), tuple(p.dots))[1]


def _export(p: Pack) -> Any:
    exported = jax.export.export(jax.jit(_grad(p)))(*_moved(p))
    return _contracted(p, list(exported.call(*_moved(p))))


def _second(first: str, second: str) -> Callable[[Pack], Any]:
    def run(p: Pack) -> Any:
        loss = loss_of(p)

        def slope(*xs: Any) -> Any:
            if first == "reverse":
                return _contracted(p, jax.grad(loss, argnums=_argnums(p))(*xs))
            return jax.jvp(loss, xs, tuple(p.dots))[1]

        if second == "reverse":
            return _contracted(p, jax.grad(slope, argnums=_argnums(p))(*_moved(p)))
        return jax.jvp(slope, _moved(p), tuple(p.dots))[1]

    return run

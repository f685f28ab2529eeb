"""JAX behind diptych's backend protocol."""

from __future__ import annotations

import math
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.core
import jax.extend.core
import jax.numpy as jnp
import numpy as np

from diptych import krylov, opened
from diptych.arguments import Spec, flatten
from diptych.backends import Meta
from diptych.backends.jax import rules
from diptych.backends.jax.avals import vary_like, vary_over, vary_together, varying, zeros_like_type
from diptych.backends.jax.linearity import check_linear
from diptych.call import Call, Layout
from diptych.captures import Captures, immutable
from diptych.checks import as_plain, is_plain
from diptych.errors import StaticArgumentError, kind_of, message

_JITTED = 256
_SIGHTED = 4096


class _Jitted(NamedTuple):
    """A compiled call, `None` where compiling failed, and what it must not outlive."""

    function: Callable[..., Any] | None
    captures: Captures


@dataclass
class _Sight:
    """A call that was seen.

    Args:
        what: weak references to what makes it up.
        calls: how often it was seen since, or since it was compiled.
        pays: how often it must be, for compiling to pay: more each time that it was forgotten.
    """

    what: list[weakref.ref[Any]]
    calls: int = 0
    pays: int = 1


class JaxBackend:
    """The protocol of `diptych.backends` for JAX arrays."""

    name = "jax"
    array_name = "jax.Array"

    def __init__(self) -> None:
        self._jitted: OrderedDict[Call, _Jitted] = OrderedDict()
        self._sighted: OrderedDict[int, _Sight] = OrderedDict()

    def is_array(self, x: Any) -> bool:
        return rules.is_array(x)

    def is_differentiable(self, x: Any) -> bool:
        return rules.is_differentiable(x)

    def moves(self, x: Any) -> bool:
        return (rules.is_array(x) or isinstance(x, (float, complex))) and self.is_differentiable(x)

    def meta(self, x: Any) -> Meta:
        return rules.meta(x)

    def spec(self, x: Any) -> Spec:
        aval = jax.typeof(x)
        return Spec(tuple(aval.shape), np.dtype(aval.dtype))

    def namespace(self) -> ModuleType:
        return jnp

    def zeros(self, meta: Meta) -> Any:
        return zeros_like_type(meta)

    def from_number(self, x: Any, meta: Meta) -> Any:
        return jnp.asarray(x, meta.dtype)

    def conj(self, x: Any) -> Any:
        return jnp.conj(x) if jnp.iscomplexobj(x) else x

    def as_dtype(self, x: Any, meta: Meta) -> Any:
        complex_out = jnp.issubdtype(meta.dtype, jnp.complexfloating)
        x = jnp.real(x) if jnp.iscomplexobj(x) and not complex_out else x
        return x.astype(meta.dtype)

    def recast(self, x: Any, meta: Meta) -> Any:
        return x

    def sum_to(self, x: Any, meta: Meta) -> Any:
        x = jnp.broadcast_to(x, jnp.broadcast_shapes(jnp.shape(x), meta.shape))
        extra = x.ndim - len(meta.shape)
        axes = [i + extra for i, n in enumerate(meta.shape) if n == 1 != x.shape[i + extra]]
        if extra or axes:
            x = jnp.sum(x, axis=(*range(extra), *axes)).reshape(meta.shape)
        return x

    def broadcast_to(self, x: Any, meta: Meta) -> Any:
        return x if jnp.shape(x) == meta.shape else jnp.broadcast_to(x, meta.shape)

    def basis(self, meta: Meta) -> Any:
        n = math.prod(meta.shape)
        return jnp.eye(n, dtype=meta.dtype).reshape(n, *meta.shape)

    def map_rows(self, f: Callable[..., tuple], rows: Any) -> tuple:
        return jax.vmap(f)(rows)

    def peek(self, truth: Any) -> Any:
        try:
            return np.asarray(bool(truth))
        except jax.errors.ConcretizationTypeError:
            return None

    def inverse(self, matrix: Any) -> Any:
        return jnp.linalg.inv(matrix)

    def krylov(
        self, method: str, apply: Callable, b: Any, aim: float, restart: int, limit: int
    ) -> Any:
        if self.peek(b[0] == b[0]) is not None:
            # JAX would compile its own anew for each solve, at ten times the cost of this one.
            return krylov.krylov(self, method, apply, b, aim, restart, limit)
        from jax.scipy.sparse import linalg

        if method == "cg":
            return linalg.cg(apply, b, tol=aim, maxiter=limit)[0]
        cycles = -(-limit // restart)
        return linalg.gmres(apply, b, tol=aim, restart=restart, maxiter=cycles)[0]

    def apply(self, call: Call, leaves: Sequence[Any]) -> Any:
        """Returns the rule's output; JAX's transforms see the rule's derivative and no other."""
        if call.fixed.values:
            _refuse_unfit(call)
        if not all([is_plain(x) for x in leaves if isinstance(x, np.ndarray)]):
            name = call.statement.name
            leaves = [
                as_plain(x, lambda i=i: f"{name}: argument '{call.leaf_names[i]}'")
                if isinstance(x, np.ndarray)
                else x
                for i, x in enumerate(leaves)
            ]
        if any([isinstance(x, jax.core.Tracer) for x in leaves]):
            leaves = vary_together(leaves)
        jitted = self._jit(call, leaves)
        if jitted is not None:
            try:
                return _unpack(jitted(*leaves))
            except Exception:
                # The body looks at values (a Python branch, a loop until converged, NumPy), or it
                # is wrong: where there are values it is run as it stands, to work or to raise its
                # own error.
                pass
        out = self._apply(call, leaves)
        if jitted is not None:
            self._jitted[call] = _Jitted(None, call.captures)
        return out

    def _apply(self, call: Call, leaves: Sequence[Any]) -> Any:
        if call.captures.open:
            for name, value in call.captures.values():
                if any(isinstance(x, jax.core.Tracer) for x in flatten(value)[0]):
                    raise rules.closed_over(call, name)
        arrays, layout = rules.apply(call, leaves)
        return layout.output(arrays)

    def _jit(self, call: Call, leaves: Sequence[Any]) -> Callable[..., Any] | None:
        """Returns the compiled rule, or `None` where compiling does not pay or is not sound.

        Called eagerly, op by op, a rule costs ten times what it costs compiled. It is compiled only
        when it is seen a second time: a loop over closures, new rules or values compiles nothing.
        """
        known = self._jitted.get(call)
        if known is not None:
            return known.function if known.captures.unchanged() else None
        if not call.fixed.hashable or call.statement.host or call.parameters.stateful:
            return None
        if not (call.captures.unchanged() and immutable(call.fixed.values)):
            return None
        key = hash(call)
        sight = self._sighted.get(key)
        if sight is None or any([known() is None for known in sight.what]):
            # By weak references: a new closure may have the address, hence the hash, of a dead one.
            what = [weakref.ref(x) for x in (call.statement, *call.fixed.values) if _weak(x)]
            self._sighted[key] = _Sight(what)
            if len(self._sighted) > _SIGHTED:
                self._sighted.popitem(last=False)
            return None
        sight.calls += 1
        if sight.calls < sight.pays:
            return None
        sight.calls, sight.pays = 0, sight.pays * 4
        jitted = jax.jit(_packed(call)) if _derivative_traces(call, leaves) else None
        self._jitted[call] = _Jitted(jitted, call.captures)
        if len(self._jitted) > _JITTED:
            self._jitted.popitem(last=False)
        return jitted

    def transpose(
        self,
        function: Callable,
        metas: Sequence[Meta],
        covectors: Sequence[Any],
        where: str,
        known: set[str],
    ) -> list[Any]:
        axes: frozenset[Any] = frozenset().union(*[varying(jax.typeof(x)) for x in covectors])
        # Constants the same on all devices would be cast inside, and the cast's transpose sums.
        zeros = [vary_over(self.zeros(m), axes) for m in metas]
        if where not in known:
            check_linear(lambda *xs: function(xs), zeros, where)
            known.add(where)
        # Not jax.linear_transpose: it would look through rules that the function calls.
        outs, pullback = jax.vjp(lambda *xs: function(xs), *zeros)
        vectors = [
            vary_like(self.conj(x), jax.typeof(o)) for x, o in zip(covectors, outs, strict=True)
        ]
        return [self.conj(x) for x in pullback(vectors)]

    def jvp(self, f: Callable, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
        return opened.jvp(self, _jvp, f, primals, tangents)

    def vjp(self, f: Callable, primals: Sequence[Any], has_aux: bool) -> tuple:
        return opened.vjp(self, self._vjp, f, primals, has_aux)

    def _vjp(self, f: Callable, primals: Sequence[Any]) -> tuple:
        outs, pullback, aux = jax.vjp(f, *primals, has_aux=True)

        def adjoint(bars: Sequence[Any]) -> list[Any]:
            conjugated = tuple([self.conj(bar) for bar in bars])
            return [self.conj(bar) for bar in pullback(_vary_as(conjugated, outs))]

        return outs, adjoint, aux

    def vmap(self, f: Callable, in_axes: Any, out_axes: Any) -> Callable:
        return jax.vmap(f, in_axes, out_axes)


def _jvp(f: Callable, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple:
    primals = tuple(primals)
    return jax.jvp(f, primals, _vary_as(tuple(tangents), primals), has_aux=True)


def _vary_as(vectors: Any, primals: Any) -> Any:
    """Returns (co)tangents that vary over a mesh as their primals do (shard_map's types)."""
    if not any(varying(jax.typeof(x)) for x in jax.tree.leaves(primals)):
        return vectors
    return jax.tree.map(lambda v, x: vary_like(v, jax.typeof(x)), vectors, primals)


def _weak(x: Any) -> bool:
    return type(x).__weakrefoffset__ != 0


@jax.tree_util.register_pytree_node_class
class _Packed:
    """Arrays that leave jit together with the layout that they belong to."""

    __slots__ = ("arrays", "layout")

    def __init__(self, arrays: Sequence[Any], layout: Layout):
        self.arrays = arrays
        self.layout = layout

    def tree_flatten(self) -> tuple[Sequence[Any], Layout]:
        return self.arrays, self.layout

    @classmethod
    def tree_unflatten(cls, layout: Layout, arrays: Sequence[Any]) -> _Packed:
        return cls(arrays, layout)


def _packed(call: Call) -> Callable[..., Any]:
    def run(*leaves: Any) -> Any:
        arrays, layout = rules.apply(call, leaves)
        return arrays[0] if layout.single else _Packed(arrays, layout)

    run.__name__ = run.__qualname__ = call.statement.name
    return run


def _derivative_traces(call: Call, leaves: Sequence[Any]) -> bool:
    """Returns whether the stated derivative can be traced: it may look at values, the body not.

    Run eagerly it then has them; inside of a compiled call it would have none.
    """
    moving = [i for i, x in enumerate(leaves) if rules.is_differentiable(x)]
    if not moving or not call.statement.differentiable:
        return True

    def both(*leaves: Any) -> Any:
        def run(*moved: Any) -> list[Any]:
            full = list(leaves)
            for i, x in zip(moving, moved, strict=True):
                full[i] = x
            arrays = rules.apply(call, full)[0]
            return [x for x in arrays if rules.is_differentiable(x)]

        moved = [leaves[i] for i in moving]
        outs, pullback = jax.vjp(run, *moved)
        return pullback(outs), jax.jvp(run, moved, moved)[1]

    try:
        jax.eval_shape(both, *[jax.typeof(x) for x in leaves])
    except jax.errors.JAXTypeError:  # what looks at a traced value raises
        return False
    except Exception:
        return True  # an error of the rule's: it is raised where the derivative is asked for
    return True


def _unpack(packed: Any) -> Any:
    return packed.layout.output(packed.arrays) if type(packed) is _Packed else packed


def _refuse_unfit(call: Call) -> None:
    """Raises for a static value that is traced, or under jit for one that cannot be hashed."""
    for name, value in call.named:
        if isinstance(value, jax.core.Tracer):
            raise StaticArgumentError(
                message(
                    f"{call.statement.name}: static argument '{name}' is a traced array",
                    expected="a value that is known before tracing",
                    got=f"{value.aval} under jit, vmap or a derivative",
                    mend=f"do not declare '{name}' static, or mark it static in jax.jit as well",
                )
            )
    if call.fixed.hashable or not jax.extend.core.unsafe_am_i_under_a_jit_DO_NOT_USE():
        return
    name, value = call.named[call.fixed.unhashable()[0]]
    raise StaticArgumentError(
        message(
            f"{call.statement.name}: static argument '{name}' under jit",
            expected="a hashable value",
            got=f"{kind_of(value)}, which cannot be hashed",
            mend="pass a tuple, a frozen dataclass or a string; it works unhashed outside of jit",
        )
    )


backend = JaxBackend()

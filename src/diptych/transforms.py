"""jvp, vjp, grad and their kin for arrays of either framework, the framework decided by the arrays.

Complex numbers follow the one convention of diptych in both: a VJP is the adjoint under
`Re(sum(conj(a) * b))`, and the gradient of a real function points in the direction of its steepest
ascent (PyTorch's convention; the conjugate of what `jax.grad` returns).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from diptych import backends, opened
from diptych.arguments import flatten, unflatten
from diptych.backends import Backend
from diptych.errors import KindError, StructureError, message
from diptych.jacobians import blocks
from diptych.opened import name_of
from diptych.rule import Rule

Argnums = int | Sequence[int]
Mode = Literal["auto", "forward", "reverse"]


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Returns `f(*primals)` and its Jacobian times the tangents.

    Args:
        f: a function of arrays or pytrees of arrays.
        primals: its arguments, a tuple or list.
        tangents: one for each primal, of the same structure, shapes and dtypes; `None` for zero
            (and for what has no derivative, such as integers).

    Returns:
        The output and its tangent, which is `None` for what has no derivative.

    Raises:
        KindError: if the primals or the tangents are no tuple or list.
        StructureError: if a tangent does not fit its primal.

    Examples:
        >>> import diptych, numpy as np
        >>> @diptych.rule
        ... def square(x):
        ...     return x * x
        >>> @square.jvp
        ... def square_jvp(res, x_dot):
        ...     return 2 * res.x * x_dot
        >>> out, out_dot = diptych.jvp(square, (np.array(3.0),), (np.array(1.0),))
        >>> float(out), float(out_dot)
        (9.0, 6.0)
    """
    _check_callable(f, "jvp")
    primals = _sequence(primals, "jvp", "primals")
    tangents = _sequence(tangents, "jvp", "tangents")
    return _backend_of(primals, f).jvp(f, primals, tangents)


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """Returns `f(*primals)` and the function that pulls a cotangent of it back.

    Args:
        f: a function of arrays or pytrees of arrays.
        primals: its arguments.
        has_aux: whether `f` returns `(output, auxiliary)`.

    Returns:
        `(out, pullback)` or `(out, pullback, aux)`; `pullback(out_bar)` is a tuple with one
        cotangent for each primal: `None` for what has no derivative, such as integers.

    Raises:
        StructureError: if a cotangent does not fit the output, when the pullback is called.
    """
    _check_callable(f, "vjp")
    return _backend_of(primals, f).vjp(f, primals, has_aux)


def grad(f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Returns the function that gives the gradient of a real scalar function.

    Args:
        f: a function with a real scalar as output.
        argnums: which argument, or which ones, it is differentiated with regard to.
        has_aux: whether `f` returns `(output, auxiliary)`.

    Returns:
        A function of the same arguments: the gradient, or `(gradient, aux)`.
    """
    _check_callable(f, "grad")
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f, updated=())
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, found = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def value_and_grad(
    f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """Returns the function that gives a real scalar function's value and gradient.

    Args:
        f: a function with a real scalar as output.
        argnums: which argument, or which ones, it is differentiated with regard to.
        has_aux: whether `f` returns `(output, auxiliary)`.

    Returns:
        A function of the same arguments: `(value, gradient)`, or `((value, aux), gradient)`.

    Raises:
        StructureError: if the output is no real scalar.
    """
    _check_callable(f, "value_and_grad")

    @functools.wraps(f, updated=())
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        of_chosen, chosen = _choose(f, argnums, args, kwargs)
        backend = _backend_of(chosen, f)
        out, pullback, *aux = backend.vjp(of_chosen, chosen, has_aux)
        one = _one_for(backend, out, f)
        bars = pullback(one)
        bars = bars[0] if _is_single(argnums) else tuple(bars)
        return ((out, aux[0]), bars) if has_aux else (out, bars)

    return value_and_gradient


def jacobian(
    f: Callable[..., Any], argnums: Argnums = 0, mode: Mode = "auto", has_aux: bool = False
) -> Callable[..., Any]:
    """Returns the function that gives the Jacobian matrix.

    Args:
        f: a function of arrays or pytrees of arrays.
        argnums: which argument, or which ones, it is differentiated with regard to.
        mode: "forward" pushes one tangent per input element, "reverse" pulls one cotangent per
            output element, "auto" takes the smaller number.
        has_aux: whether `f` returns `(output, auxiliary)`.

    Returns:
        A function of the same arguments: for each output array and each chosen input array an
        array of shape `(*out.shape, *x.shape)`, in the structure of the output, and in each of its
        leaves that of the argument; `None` for arguments that have no derivative.

    Raises:
        ValueError: for an unknown mode.
    """
    if mode not in ("auto", "forward", "reverse"):
        raise ValueError(f"mode must be 'auto', 'forward' or 'reverse', got {mode!r}")
    _check_callable(f, "jacobian")

    @functools.wraps(f, updated=())
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        of_chosen, chosen = _choose(f, argnums, args, kwargs)
        backend = _backend_of(chosen, f)
        single = _is_single(argnums)
        leaves, treedef = flatten(chosen[0] if single else chosen)
        moving = [i for i, x in enumerate(leaves) if backend.moves(x)]
        if backend.name == "numpy":  # whose linear maps know what has no derivative
            moving = list(range(len(leaves)))
        xs = [leaves[i] for i in moving]
        xs = [x if hasattr(x, "shape") else backend.from_number(x, backend.meta(x)) for x in xs]
        out_treedef: Any = None

        def flat(*moved: Any) -> Any:
            nonlocal out_treedef
            full = list(leaves)
            for i, value in zip(moving, moved, strict=True):
                full[i] = value
            arguments = unflatten(treedef, full)
            result = of_chosen(*((arguments,) if single else arguments))
            out, aux = result if has_aux else (result, None)
            found, out_treedef = flatten(out)
            return (tuple(found), aux) if has_aux else tuple(found)

        if backend.name == "numpy":  # which differentiates rules only, and must see this one
            flat.rule_call = getattr(of_chosen, "rule_call", (f, (*range(len(args)),), args, {}))  # type: ignore[attr-defined]
            flat.flat = True  # type: ignore[attr-defined]
        chosen_mode = _stated_mode(flat, mode)
        rows, aux = blocks(backend, flat, xs, chosen_mode, has_aux)

        def of_output(row: list[Any]) -> Any:
            found: list[Any] = [None] * len(leaves)
            for i, block in zip(moving, row, strict=True):
                found[i] = block
            return unflatten(treedef, found)

        matrix = unflatten(out_treedef or flatten(0)[1], [of_output(row) for row in rows])
        return (matrix, aux) if has_aux else matrix

    return jacobian_of


def hessian(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Returns the function that gives the Hessian of a real scalar function, forward over reverse.

    Args:
        f: a function with a real scalar as output.
        argnums: which argument, or which ones, it is differentiated with regard to.

    Returns:
        A function of the same arguments: the Jacobian of the gradient.
    """
    return jacobian(grad(f, argnums), argnums, mode="forward")


def hvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Returns the gradient of a real scalar function, and its Hessian times the tangents.

    Forward over reverse: the cost of about two gradients, and no matrix.

    Args:
        f: a function with a real scalar as output.
        primals: its arguments.
        tangents: one for each primal.

    Returns:
        `(gradient, Hessian-vector product)`; tuples with one entry per argument if there are
        several.
    """
    primals = _sequence(primals, "hvp", "primals")
    argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    return jvp(grad(f, argnums), primals, tangents)


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """Returns `f` mapped over an axis of its arguments.

    Args:
        f: a function of one example.
        in_axes: the axis to map over: one for all arguments, or a tuple with one for each, which
            may again be a pytree with one for each of its parts; `None`: not mapped.
        out_axes: where the axis goes in the outputs, likewise.

    Returns:
        A function of arrays with that axis; arguments by keyword are mapped over their first.

    Raises:
        StructureError: if `in_axes` or `out_axes` do not fit.
    """
    _check_callable(f, "vmap")

    @functools.wraps(f, updated=())
    def mapped(*args: Any, **kwargs: Any) -> Any:
        backend = _backend_of((*args, *kwargs.values()), f)
        return opened.vmap(backend, f, in_axes, out_axes, args, kwargs)

    return mapped


def _check_callable(f: Any, transform: str) -> None:
    if not callable(f):
        raise KindError(
            message(
                f"diptych.{transform}",
                expected="a function as its first argument",
                got=f"{type(f).__module__}.{type(f).__qualname__}",
                mend="pass the function itself, not what it returns for some arguments",
            )
        )


def _sequence(arguments: Any, transform: str, what: str) -> tuple[Any, ...]:
    """Returns a tuple or list as a tuple; an array's rows are not meant to be arguments."""
    if isinstance(arguments, (tuple, list)):
        return tuple(arguments)
    raise KindError(
        message(
            f"diptych.{transform}: {what}",
            expected="a tuple with one entry for each argument of the function",
            got=f"{type(arguments).__module__}.{type(arguments).__qualname__}",
            mend="write (x,) for the only argument x",
        )
    )


def _is_single(argnums: Argnums) -> bool:
    return not isinstance(argnums, Iterable) or isinstance(argnums, str)


def _backend_of(primals: Sequence[Any], f: Callable[..., Any]) -> Backend:
    return backends.backend_of(flatten(tuple(primals))[0], name_of(f))


def _choose(
    f: Callable[..., Any], argnums: Argnums, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Returns `f` as a function of the chosen arguments alone, and these."""
    numbers: tuple[Any, ...] = (argnums,)
    if isinstance(argnums, Iterable) and not isinstance(argnums, str):
        numbers = tuple(argnums)
    count = len(args)
    right = all(hasattr(n, "__index__") and -count <= n < count for n in numbers)
    chosen = [operator.index(n) % count for n in numbers] if right else []
    if not chosen or len(set(chosen)) != len(chosen):
        raise StructureError(
            message(
                f"argnums={argnums} of {name_of(f)}",
                expected=f"positions among its {count} positional arguments, each once",
                got=", ".join(map(repr, numbers)) or "none",
                mend="pass the argument by position, or correct argnums",
            )
        )
    numbers = tuple(chosen)
    if numbers == tuple(range(len(args))) and not kwargs:
        return f, args

    def of_chosen(*chosen: Any) -> Any:
        full = list(args)
        for n, value in zip(numbers, chosen, strict=True):
            full[n] = value
        return f(*full, **kwargs)

    if isinstance(f, Rule):
        of_chosen.rule_call = (f, numbers, args, kwargs)  # type: ignore[attr-defined]
    return of_chosen, tuple(args[n] for n in numbers)


def _stated_mode(f: Callable[..., Any], mode: Mode) -> Mode:
    """Returns "auto" as the direction that a rule on NumPy arrays states, if it states one."""
    rule_call = getattr(f, "rule_call", None)
    if mode != "auto" or rule_call is None or not isinstance(rule_call[0], Rule):
        return mode
    statement = rule_call[0]._statement
    if statement.partials is not None:
        return mode
    forward = statement.jvp is not None or statement.linear
    if forward == (statement.vjp is not None):
        return mode
    return "forward" if forward else "reverse"


def _one_for(backend: Backend, out: Any, f: Callable[..., Any]) -> Any:
    leaves, treedef = flatten(out)
    if len(leaves) == 1 and hasattr(leaves[0], "shape"):
        leaf = leaves[0]
        if tuple(leaf.shape) == () and backend.is_differentiable(leaf):
            meta = backend.meta(leaf)
            if "complex" not in str(meta.dtype):
                return unflatten(treedef, [backend.from_number(1.0, meta)])
    got = ", ".join(
        f"{getattr(x, 'dtype', type(x).__name__)}{tuple(getattr(x, 'shape', ()))}" for x in leaves
    )
    raise StructureError(
        message(
            f"grad of {name_of(f)}",
            expected="one real floating-point scalar as output",
            got=got or "no array",
            mend="sum the output, or use diptych.jacobian or diptych.vjp; has_aux=True if f "
            "returns (output, auxiliary)",
        )
    )

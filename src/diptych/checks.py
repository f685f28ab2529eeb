"""What a rule returned, compared with what the primal says, before a framework mends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.arguments import SCALARS
from diptych.errors import KindError, LinearityError, StructureError, kind_of, message

if TYPE_CHECKING:
    from diptych.backends import Backend, Meta


def is_plain(x: Any) -> bool:
    """Returns whether a NumPy array holds numbers in native order, as the frameworks want."""
    return x.dtype.kind in "biufcV" and x.dtype.isnative


def as_plain(x: np.ndarray | np.generic, where: Callable[[], str]) -> np.ndarray:
    """Returns a contiguous NumPy array of its own memory in native byte order.

    Args:
        x: the array.
        where: gives the rule and the argument, for the message.

    Raises:
        KindError: if it holds no numbers.
    """
    if x.dtype.kind in "biufcV":
        return np.array(x, x.dtype.newbyteorder("="), order="C")
    raise KindError(
        message(
            where(),
            expected="an array of numbers",
            got=f"a NumPy array of dtype {x.dtype}",
            mend="convert it to numbers, or declare the argument static",
        )
    )


def check_others(backend: Backend, name: str, others: Sequence[Any], count: int) -> None:
    """Raises if what is no array of this framework among a rule's outputs was meant to be one.

    Args:
        backend: the framework of the arguments.
        name: the rule's.
        others: the leaves of its output that are no arrays of this framework.
        count: how many are.

    Raises:
        KindError: for an array of another framework or, as the only output, a number: nothing is
            differentiated through it.
    """
    for value in others:
        inexact = any([word in str(getattr(value, "dtype", "")) for word in ("float", "complex")])
        # Of one array in NumPy numbers are made anyway.
        number = isinstance(value, (float, complex)) and backend.name != "numpy"
        alone = number and not count
        if alone or (inexact and hasattr(value, "shape")):
            raise KindError(
                message(
                    f"{name}: output of a wrong kind",
                    expected=f"a {backend.array_name}, as its arguments are",
                    got=_qualified(type(value)),
                    mend="compute it with `xp = diptych.namespace(...)` of the arguments; NumPy "
                    "code is a rule with host=True",
                )
            )


def _qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def check_leaf(
    backend: Backend, value: Any, meta: Meta, where: Callable[[], str], what: str
) -> Any:
    """Returns a tangent or cotangent that fits its primal.

    Args:
        backend: the framework whose array is expected.
        value: what the rule returned.
        meta: the shape and dtype of the primal.
        where: gives the rule and the argument, for the message.
        what: "tangent" or "cotangent".

    Raises:
        KindError: if it is no array of this framework.
        StructureError: if its shape or dtype is another.
    """
    if not backend.is_array(value):
        value = _as_array(backend, value, meta, where, what)
    found = backend.meta(value)
    if found.shape != meta.shape:
        raise StructureError(
            message(
                f"{where()}: {what} of a wrong shape",
                expected=f"shape {tuple(meta.shape)}, {meta.dtype}",
                got=f"shape {tuple(found.shape)}, {found.dtype}",
                mend=_shape_mend(tuple(found.shape), tuple(meta.shape), what),
            )
        )
    if found.dtype != meta.dtype:
        if meta.weak and _is_complex(found) == _is_complex(meta):
            return backend.as_dtype(value, meta)
        value = backend.recast(value, meta)
        found = backend.meta(value)
    if found.dtype != meta.dtype:
        raise StructureError(
            message(
                f"{where()}: {what} of a wrong dtype",
                expected=f"{meta.dtype}, shape {tuple(meta.shape)}",
                got=f"{found.dtype}",
                mend=_dtype_mend(str(found.dtype), str(meta.dtype), what),
            )
        )
    return value


def check_partial(backend: Backend, value: Any, out: Meta, where: Callable[[], str]) -> Any:
    """Returns a partial derivative that broadcasts to the output.

    Args:
        backend: the framework whose array is expected; a number is a constant partial.
        value: what the rule returned.
        out: the shape and dtype of the output.
        where: gives the rule and the argument, for the message.

    Raises:
        KindError: if it is neither an array of this framework nor a number.
        StructureError: if its shape does not broadcast to the output's.
    """
    if isinstance(value, SCALARS):
        return value
    expected = tuple(out.shape)
    if not backend.is_array(value):
        raise KindError(
            message(
                f"{where()}: partial of a wrong kind",
                expected=f"a {backend.array_name} of shape {expected}, or a number",
                got=_qualified(type(value)),
                mend="compute it with `xp = diptych.namespace(...)` of the arrays that came in, "
                "or return None for zero",
            )
        )
    found = tuple(value.shape)
    if broadcasts(found, expected):
        return value
    raise StructureError(
        message(
            f"{where()}: partial of a wrong shape",
            expected=f"the output's shape {expected}, or one that broadcasts to it",
            got=f"shape {found}",
            mend="return the elementwise derivative of the output, unsummed; a function that is "
            "not elementwise needs a vjp or jvp",
        )
    )


def broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    """Returns whether arrays of one shape broadcast to the other without making it larger."""
    if len(shape) > len(to):
        return False
    return all([n in (1, m) for n, m in zip(shape[::-1], to[::-1], strict=False)])


def _as_array(backend: Backend, value: Any, meta: Meta, where: Callable[[], str], what: str) -> Any:
    # A number is what a rule of 0-d arrays may well return; NumPy arrays only where they are at
    # home.
    if isinstance(value, SCALARS) and tuple(meta.shape) == ():
        return backend.from_number(value, meta)
    raise KindError(
        message(
            f"{where()}: {what} of a wrong kind",
            expected=f"a {backend.array_name} of shape {tuple(meta.shape)}",
            got=_qualified(type(value)),
            mend="compute it with `xp = diptych.namespace(...)` of the arrays that came in, "
            "or return None for zero",
        )
    )


def _is_complex(meta: Meta) -> bool:
    return "complex" in str(meta.dtype)


def _shape_mend(found: Sequence[int], expected: Sequence[int], what: str) -> str:
    extra = len(found) - len(expected)
    if extra >= 0:
        axes = [i for i in range(extra)]
        axes += [i + extra for i, n in enumerate(expected) if n == 1 and found[i + extra] != 1]
        kept = all(n in (1, found[i + extra]) for i, n in enumerate(expected))
        if kept and axes:
            listed = ", ".join(map(str, axes))
            return f"the argument was broadcast: sum over axis {listed}?" + (
                " (keepdims for the axes of length 1)" if len(axes) > extra else ""
            )
    if sorted(found) == sorted(expected):
        return "the axes are in another order: transpose it?"
    return f"return a {what} of the primal's shape {tuple(expected)}"


def _dtype_mend(found: str, expected: str, what: str) -> str:
    if "complex" in found and "complex" not in expected:
        return f"the argument is real: return the real part of the {what}"
    return f"compute the {what} in {expected.removeprefix('torch.')}, or cast it"


def not_linear(where: str, got: str) -> LinearityError:
    """Returns the error for a direction that is not linear.

    Args:
        where: "jvp of f" or "vjp of f".
        got: what came of the vectors instead.
    """
    vector = "tangents" if where.startswith("jvp") else "cotangent"
    return LinearityError(
        message(
            f"{where} is not linear in its {vector}",
            expected=f"linear operations on the {vector}: sums, and products with residuals",
            got=got,
            mend=f"compute with residuals whatever is not linear, then multiply the {vector}; "
            "add nothing else",
        )
    )


def wrong_count(where: str, names: Sequence[str], result: Any) -> StructureError:
    """Returns the error for a wrong number of cotangents, tangents or partials."""
    count = len(result) if isinstance(result, (tuple, list)) else 1
    word = "value" if len(names) == 1 else "values"
    return StructureError(
        message(
            f"{where}: wrong number of results",
            expected=f"{len(names)} {word}, one for each of ({', '.join(names)})",
            got=f"{count}" if isinstance(result, (tuple, list)) else kind_of(result),
            mend="return one for each argument that is not static, in order; None for zero",
        )
    )

"""Arguments from what is typed on a command line: `normal(3, 4)`, `[1.0, 2.0]`, `points.npy`."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import DiptychError, message


class InputError(DiptychError, ValueError):
    """An expression for an argument that cannot be read."""


_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.MatMult: operator.matmul,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_NAMES = {"inf": np.inf, "nan": np.nan, "pi": np.pi}


class _Makers:
    """The functions that an expression may call; all but `load` draw from one generator."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def normal(self, *shape: int) -> Any:
        return self.rng.normal(size=shape)

    def complex_normal(self, *shape: int) -> Any:
        return self.rng.normal(size=shape) + 1j * self.rng.normal(size=shape)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Any:
        return self.rng.uniform(low, high, size=shape)

    def integers(self, *shape: int, low: int = 0, high: int = 10) -> Any:
        return self.rng.integers(low, high, size=shape)

    def spd(self, *shape: int) -> Any:
        """Symmetric positive definite matrices, well conditioned."""
        root = self.rng.normal(size=(*shape, shape[-1]))
        return root @ np.swapaxes(root, -1, -2) / shape[-1] + np.eye(shape[-1])

    def zeros(self, *shape: int) -> Any:
        return np.zeros(shape)

    def ones(self, *shape: int) -> Any:
        return np.ones(shape)

    def eye(self, n: int) -> Any:
        return np.eye(n)

    def arange(self, *bounds: float) -> Any:
        return np.arange(*bounds)

    def linspace(self, start: float, stop: float, count: int) -> Any:
        return np.linspace(start, stop, count)

    def load(self, path: str) -> Any:
        return load(path)


FUNCTIONS = tuple(name for name in vars(_Makers) if not name.startswith("_"))


def load(path: str | Path) -> Any:
    """Returns the array in an `.npy` file, or those in an `.npz` file by their names.

    Raises:
        InputError: if there is no such file, or it is none of these.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(
            message(
                f"input {str(path)!r}",
                expected="a file of numbers as numpy.save or numpy.savez writes it",
                got=f"{error}",
                mend="give the path from the current directory; arrays of objects are not read",
            )
        ) from error
    return dict(found) if isinstance(found, np.lib.npyio.NpzFile) else found


def parse(text: str, rng: np.random.Generator) -> Any:
    """Returns the argument that an expression stands for; nothing in it is executed as Python.

    Args:
        text: the path of an `.npy` or `.npz` file; numbers, strings, `True`, `None`; lists of
            numbers (an array), tuples and dictionaries (a pytree); and one of the functions
            `normal`, `complex_normal`, `uniform`, `integers`, `spd`, `zeros`, `ones`, `eye`,
            `arange`, `linspace` and `load`, of a shape and perhaps `dtype=float32`; with
            arithmetic between them.
        rng: what random numbers are drawn from.

    Raises:
        InputError: if it is none of these.

    Examples:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> parse("2 * ones(2, dtype=float32)", rng)
        array([2., 2.], dtype=float32)
        >>> parse("{'w': [[1.0, 2.0]], 'steps': 3}", rng)["w"].shape
        (1, 2)
    """
    stripped = text.strip()
    if Path(stripped).suffix in (".npy", ".npz") and "(" not in stripped:
        return load(stripped.strip("'\""))
    try:
        node = ast.parse(stripped, mode="eval").body
    except SyntaxError as error:
        raise _unreadable(text, f"{error.msg}") from None
    try:
        return _value(node, _Makers(rng))
    except InputError:
        raise
    except _Unknown as error:
        raise _unreadable(text, str(error)) from None
    except Exception as error:
        raise _unreadable(text, f"{type(error).__name__}: {error}") from error


class _Unknown(Exception):  # noqa: N818 - turned into an InputError with the whole text
    """A part of an expression that stands for nothing."""


def _unreadable(text: str, got: str) -> InputError:
    return InputError(
        message(
            f"input {text!r}",
            expected=f"numbers, lists, a .npy file, or one of {', '.join(FUNCTIONS)}",
            got=got,
            mend="for example --input 'normal(3, 4)', --input '[1.0, 2.0]' or --input x.npy",
        )
    )


def _value(node: ast.expr, makers: _Makers) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name) if name in _NAMES:
            return _NAMES[name]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(operand, makers))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, makers), _value(right, makers))
        case ast.Tuple(elts=items):
            return tuple(_value(item, makers) for item in items)
        case ast.List(elts=items):
            values = [_value(item, makers) for item in items]
            return np.array(values) if _numbers(node) else values
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {
                _value(k, makers): _value(v, makers)
                for k, v in zip(keys, values, strict=True)
                if k is not None
            }
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            return _called(name, args, keywords, makers)
    raise _Unknown(ast.unparse(node))


def _called(name: str, args: list[ast.expr], keywords: list[ast.keyword], makers: _Makers) -> Any:
    if name not in FUNCTIONS:
        raise _Unknown(f"the function {name}")
    options: dict[str, Any] = {}
    dtype = None
    for keyword in keywords:
        if keyword.arg == "dtype":
            named = keyword.value
            dtype = named.id if isinstance(named, ast.Name) else _value(named, makers)
        elif keyword.arg is not None:
            options[keyword.arg] = _value(keyword.value, makers)
    made = getattr(makers, name)(*[_value(arg, makers) for arg in args], **options)
    return np.asarray(made, dtype) if not isinstance(made, dict) else made


def _numbers(node: ast.expr) -> bool:
    """Returns whether a list is of numbers, or of lists of numbers."""
    match node:
        case ast.List(elts=items):
            return all(_numbers(item) for item in items)
        case ast.UnaryOp(operand=operand):
            return _numbers(operand)
        case ast.BinOp(left=left, right=right):
            return _numbers(left) and _numbers(right)
        case ast.Name(id=name):
            return name in _NAMES
        case ast.Constant(value=value):
            return isinstance(value, (int, float, complex))
    return False

"""Jacobian matrices: all tangents pushed at once, or all cotangents pulled at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from diptych.backends import Backend


def blocks(
    backend: Backend, f: Callable[..., Any], xs: Sequence[Any], mode: str, has_aux: bool
) -> tuple[list[list[Any]], Any]:
    """Returns for each output array the blocks of its Jacobian, one per input array, and `aux`.

    Args:
        backend: the framework of the arrays.
        f: takes arrays and returns a tuple of arrays, or `(that, aux)`.
        xs: where the Jacobian is taken.
        mode: "forward", "reverse", or "auto" for the one with fewer columns or rows.
        has_aux: whether `f` returns `(outputs, aux)`.
    """
    aux: Any = None
    if mode == "forward":
        if has_aux:
            aux = f(*xs)[1]
    else:
        outs, pullback, *rest = backend.vjp(f, xs, has_aux)
        aux = rest[0] if has_aux else None
        if mode == "auto":
            mode = "forward" if _size(xs) <= _size(outs) else "reverse"
        if mode == "reverse":
            return _by_reverse(backend, outs, pullback, xs), aux
    first = (lambda *args: f(*args)[0]) if has_aux else f
    return _by_forward(backend, first, xs), aux


def _size(arrays: Sequence[Any]) -> int:
    return sum(math.prod(x.shape) for x in arrays)


def _complex(backend: Backend, x: Any) -> bool:
    return "complex" in str(backend.meta(x).dtype)


def _by_reverse(
    backend: Backend, outs: Sequence[Any], pullback: Callable[..., Any], xs: Sequence[Any]
) -> list[list[Any]]:
    rows = []
    for k, out in enumerate(outs):

        def pull(bar: Any, k: int = k) -> tuple[Any, ...]:
            bars = [backend.zeros(backend.meta(o)) for o in outs]
            bars[k] = bar
            return tuple(pullback(tuple(bars)))

        if not backend.is_differentiable(out):
            rows.append([_zeros(backend, (*out.shape, *x.shape), x) for x in xs])
            continue
        basis = backend.basis(backend.meta(out))
        found = [backend.conj(x) for x in backend.map_rows(pull, basis)]
        if _complex(backend, out) and not all(_complex(backend, x) for x in xs):
            # The cotangent of a real input is real: its pullback of i gives the imaginary part.
            imaginary = backend.map_rows(pull, 1j * basis)
            found = [
                re if _complex(backend, x) else re + 1j * im
                for re, im, x in zip(found, imaginary, xs, strict=True)
            ]
        rows.append([b.reshape((*out.shape, *x.shape)) for b, x in zip(found, xs, strict=True)])
    return rows


def _by_forward(
    backend: Backend, f: Callable[..., tuple[Any, ...]], xs: Sequence[Any]
) -> list[list[Any]]:
    columns = []
    shapes: list[tuple[int, ...]] = []
    fixed: list[bool] = []
    for k, x in enumerate(xs):

        def push(dot: Any, k: int = k) -> tuple[Any, ...]:
            dots = [backend.zeros(backend.meta(other)) for other in xs]
            dots[k] = dot
            outs, found = backend.jvp(f, xs, dots)
            shapes[:] = [tuple(getattr(o, "shape", ())) for o in outs]
            fixed[:] = [backend.is_array(o) and not backend.is_differentiable(o) for o in outs]
            moved = zip(found, fixed, strict=True)
            return tuple([dot for dot, without in moved if not without])

        basis = backend.basis(backend.meta(x))
        found = list(backend.map_rows(push, basis))
        if _complex(backend, x) and not all(_complex(backend, o) for o in found):
            imaginary = backend.map_rows(push, 1j * basis)
            found = [
                re if _complex(backend, re) else re - 1j * im
                for re, im in zip(found, imaginary, strict=True)
            ]
        blocks = iter([_to_last(backend, b, tuple(x.shape)) for b in found])
        columns.append(
            [
                _zeros(backend, (*shape, *x.shape), x) if without else next(blocks)
                for shape, without in zip(shapes, fixed, strict=True)
            ]
        )
    return [list(row) for row in zip(*columns, strict=True)]


def _to_last(backend: Backend, block: Any, shape: tuple[int, ...]) -> Any:
    xp = backend.namespace()
    moved = xp.permute_dims(block, (*range(1, block.ndim), 0))
    return moved.reshape((*moved.shape[:-1], *shape))


def _zeros(backend: Backend, shape: tuple[int, ...], like: Any) -> Any:
    return backend.zeros(backend.meta(like)._replace(shape=shape))

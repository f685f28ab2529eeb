"""Krylov methods in array-API code, for frameworks without their own and where these are slow.

They stop when every example of a batch has converged. Traced by torch.compile, which cannot loop
until something holds, they are unrolled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diptych.vectors import norm

if TYPE_CHECKING:
    from diptych.backends import Backend

# How many steps there are where it cannot be seen when to stop.
UNROLLED = 64


def krylov(
    backend: Backend,
    method: str,
    apply: Callable[[Any], Any],
    b: Any,
    aim: float,
    restart: int,
    limit: int,
) -> Any:
    """Returns an approximate solution of `apply(x) == b`, for frameworks without a Krylov method.

    Args:
        backend: the framework.
        method: "gmres" or "cg".
        apply: the matrix, as a function.
        b: array (n,), of about unit size.
        aim: the relative residual at which to stop.
        restart: after how many steps GMRES starts anew.
        limit: how many steps there are at most.
    """
    xp = backend.namespace()
    if backend.peek(norm(xp, b) >= 0) is None:
        limit = restart = min(limit, 2 * b.shape[0], UNROLLED)
    if method == "cg":
        return _cg(backend, apply, b, aim, limit)
    return _gmres(backend, apply, b, aim, restart, limit)


def _gmres(
    backend: Backend,
    apply: Callable[[Any], Any],
    b: Any,
    aim: float,
    restart: int,
    limit: int,
) -> Any:
    """Simpler GMRES, adaptive: directions `p` whose images `q = A p` are orthonormal.

    Jiranek, Rozloznik and Gutknecht 2008, "How to make Simpler GMRES and GCR more stable", SIAM J.
    Matrix Anal. Appl. 30(4). In place of Arnoldi's Hessenberg matrix and its rotations, every step
    updates solution and residual, so that one that has converged under `vmap` may go on.
    """
    xp = backend.namespace()
    x, r, steps = xp.zeros_like(b), b, 0
    target = aim * norm(xp, b)
    while steps < limit:
        before = length = norm(xp, r)
        p = _divided(xp, r, length)
        # The oldest directions, zero at first, make place for new ones: shapes never change.
        ps = qs = xp.concat([xp.zeros_like(b)[None, :]] * restart)
        for _ in range(min(restart, limit - steps)):
            q = apply(p)
            size = norm(xp, q)
            for _ in range(2):  # twice is enough
                parts = qs @ q
                q, p = q - parts @ qs, p - parts @ ps
            rest = norm(xp, q)
            rest = xp.where(rest > 10 * xp.finfo(b.dtype).eps * size, rest, xp.zeros_like(rest))
            p, q = _divided(xp, p, rest), _divided(xp, q, rest)
            part = xp.sum(q * r)
            x, r = x + part * p, r - part * q
            ps, qs = xp.concat([ps[1:], p[None, :]]), xp.concat([qs[1:], q[None, :]])
            steps += 1
            now = norm(xp, r)
            if _everywhere(backend, now <= target):
                break
            # After a step that got somewhere the residual is the better direction, else the image.
            p = xp.where(now < 0.9 * length, _divided(xp, r, now), q)
            length = now
        r = b - apply(x)
        now = norm(xp, r)
        if _everywhere(backend, (now <= target) | (now > 0.999 * before)):
            break
    return x


def _cg(backend: Backend, apply: Callable[[Any], Any], b: Any, aim: float, limit: int) -> Any:
    """Conjugate gradients (Hestenes and Stiefel 1952)."""
    xp = backend.namespace()
    x, r, p = xp.zeros_like(b), b, b
    square = xp.sum(r * r)
    target = aim**2 * square
    for _ in range(limit):
        q = apply(p)
        step = _divided(xp, square, xp.sum(p * q))
        x, r = x + step * p, r - step * q
        before, square = square, xp.sum(r * r)
        if _everywhere(backend, square <= target):
            break
        p = r + _divided(xp, square, before) * p
    return x


def _divided(xp: Any, v: Any, by: Any) -> Any:
    """Returns `v / by`, and zero where that divides by zero."""
    zero = by == 0
    return xp.where(zero, xp.zeros_like(v), v / xp.where(zero, xp.ones_like(by), by))


def _everywhere(backend: Backend, right: Any) -> bool:
    """Returns whether a condition is known to hold, for each example of a batch."""
    seen = backend.peek(right)
    return seen is not None and bool(seen.all())

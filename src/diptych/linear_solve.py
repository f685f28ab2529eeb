"""Linear solves that are differentiable to any order, for implicit rules.

`u = A(theta)^-1 b`. Differentiating `A(theta) u = b` once gives

    d_theta[A(theta) u] theta_dot + A u_dot = b_dot
    u_dot = A^-1 (b_dot - d_theta[A(theta) u] theta_dot)

and the adjoint of that map, with `w = A^-* u_bar`, is

    b_bar = w
    theta_bar = -(d_theta[A(theta) u])* w

Both are again one solve each, by this very rule, so that every order is differentiable, and every
solve of every order is scaled and checked. The derivation is that of lineax's `_linear_solve_jvp`
(Rader, Lyons and Kidger 2023, "Lineax: unified linear solves and linear least-squares in JAX and
Equinox", arXiv:2311.17283). Nothing here knows a framework; vectors are flat and real.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, Protocol

from diptych import backends
from diptych.arguments import Parameters, flatten, unflatten
from diptych.backends import Backend
from diptych.errors import ConvergenceError, DiptychError, SingularError, message
from diptych.rule import Rule, Statement
from diptych.vectors import differentiable, norm

Method = Literal["auto", "dense", "gmres", "cg"]
METHODS = ("auto", "dense", "gmres", "cg")

# Up to here a matrix is cheaper than an iteration: it takes 2 MB in float64, one batched pullback
# and an inverse of some ten milliseconds; beyond, memory grows by the square and time by the cube.
DENSE_UNKNOWNS = 512
# GMRES keeps two vectors for each step until it starts anew.
_RESTART = 50


class Operator(Protocol):
    """A square linear map `A(theta)` on flat real vectors. Hashable, and without arrays of its own.

    Args:
        name: the rule that it belongs to, for messages.
    """

    name: str

    def at(self, backend: Backend, theta: Any, adjoint: bool) -> Callable[[Any], Any]:
        """Returns `A(theta)`, or its adjoint, as a function of a vector."""
        ...


def opaque_rule(
    function: Callable[..., Any], body: Callable[..., Any], static: tuple[str, ...]
) -> Rule:
    """Returns a rule that no backend compiles behind the caller's back.

    Its body looks at values to raise errors; compiled, it could only answer with NaN. The rule has
    the signature of `function` and does what `body` does.
    """
    parameters = Parameters(function, static, stateful=True)
    statement = Statement(body, parameters, linear=False, host=False, out=None, vectorized=False)
    return Rule(function, parameters, statement)


def _solve(theta: Any, b: Any, operator: Operator, method: Method, adjoint: bool) -> Any:
    """Returns `A(theta)^-1 b`, or `A(theta)^-* b`; NaN where that fails and values are not there.

    Args:
        theta: pytree on which the operator depends, differentiable.
        b: array (n,), float32 or float64, differentiable.
        operator: gives the matrix, as a function.
        method: "dense" inverts the matrix, "gmres" and "cg" (symmetric positive definite only)
            multiply by it, "auto" is dense up to 512 unknowns and GMRES beyond.
        adjoint: whether the adjoint is inverted instead.

    Returns:
        Array (n,).

    Raises:
        SingularError: if the matrix is singular to working precision.
        ConvergenceError: if the iteration does not converge.
    """
    n = b.shape[0]
    if n == 0:
        return b
    backend = backends.backend_of([b, *flatten(theta)[0]], operator.name)
    xp = backend.namespace()
    # Of a b of 1e-30 an iteration sees only zero (jax-ml/jax#40254): solve for one of size 1.
    size = xp.max(xp.abs(b))
    size = xp.where(xp.isfinite(size) & (size > 0), size, xp.ones_like(size))
    if method == "dense" or (method == "auto" and n <= DENSE_UNKNOWNS):
        u = _dense(backend, operator, theta, b / size, adjoint)
    else:
        chosen = "cg" if method == "cg" else "gmres"
        u = _iterative(backend, operator, theta, b / size, adjoint, chosen)
    return u * size


solve_linear = opaque_rule(_solve, _solve, ("operator", "method", "adjoint"))


@solve_linear.jvp
def _solve_jvp(res: Any, theta_dot: Any, b_dot: Any) -> Any:
    backend, leaves, treedef, free = _split(res.theta, res.b)
    product = _product(backend, res, leaves, treedef, free)
    dots = [x for x in treedef.flatten_up_to(theta_dot)]
    if free:
        push = pushforward(backend, product, [leaves[i] for i in free])
        b_dot = b_dot - push(*[dots[i] for i in free])
    return solve_linear(res.theta, b_dot, res.operator, res.method, res.adjoint)


@solve_linear.vjp
def _solve_vjp(res: Any, u_bar: Any) -> Any:
    backend, leaves, treedef, free = _split(res.theta, res.b)
    w = solve_linear(res.theta, u_bar, res.operator, res.method, not res.adjoint)

    def theta_bar() -> Any:
        bars: list[Any] = [None] * len(leaves)
        if free:
            product = _product(backend, res, leaves, treedef, free)
            _, pullback = backend.vjp(product, [leaves[i] for i in free], False)
            for i, bar in zip(free, pullback(-w), strict=True):
                bars[i] = bar
        return unflatten(treedef, bars)

    return theta_bar, w


def _split(theta: Any, b: Any) -> tuple[Backend, list[Any], Any, list[int]]:
    leaves, treedef = flatten(theta)
    backend = backends.backend_of([b, *leaves])
    free = [i for i, x in enumerate(leaves) if differentiable(backend, x)]
    return backend, leaves, treedef, free


def _product(
    backend: Backend, res: Any, leaves: list[Any], treedef: Any, free: list[int]
) -> Callable[..., Any]:
    """Returns `A(theta) u` as a function of those leaves of theta that have a derivative."""

    def product(*moved: Any) -> Any:
        full = list(leaves)
        for i, value in zip(free, moved, strict=True):
            full[i] = value
        return res.operator.at(backend, unflatten(treedef, full), res.adjoint)(res.out)

    return product


def pushforward(backend: Backend, f: Callable[..., Any], primals: list[Any]) -> Callable[..., Any]:
    """Returns the JVP of `f`, a function with one array as output, by two VJPs.

    The pullback is linear in its cotangent, so that its own pullback, anywhere, is the
    pushforward. A `torch.func.jvp` within a rule would be nested forward mode, which PyTorch
    refuses.
    """
    out, pullback = backend.vjp(f, primals, False)
    zero = backend.zeros(backend.meta(out))
    _, push = backend.vjp(lambda bar: tuple(pullback(bar)), (zero,), False)
    return lambda *tangents: push(tuple(tangents))[0]


def refuse(backend: Backend, right: Any, error: Callable[[], DiptychError]) -> Any:
    """Raises where a 0-d truth value can be read and is false.

    Returns:
        1.0, or NaN where it is false and could not be read: a factor, since unlike a choice it
        makes NaN of all derivatives too.
    """
    seen = backend.peek(right)
    if seen is not None and seen.ndim == 0 and not seen:
        raise error()
    xp = backend.namespace()
    one = xp.astype(right, xp.float32)
    return xp.where(right, xp.ones_like(one), xp.nan * xp.ones_like(one))


# Small systems: the matrix.


def _dense(backend: Backend, operator: Operator, theta: Any, b: Any, adjoint: bool) -> Any:
    """Returns the solution by the inverse of the matrix.

    An inverse and not a factorisation, since under `vmap` over right-hand sides (a Jacobian)
    PyTorch factorises the matrix for each of them anew; one step of iterative refinement makes it
    as accurate. Rows and columns are scaled to size 1 first, so that the condition number tells
    singular from badly scaled.
    """
    xp = backend.namespace()
    pull = operator.at(backend, theta, True)
    basis = backend.basis(backend.meta(b))
    (matrix,) = backend.map_rows(lambda row: (pull(row),), basis)
    if adjoint:
        matrix = xp.matrix_transpose(matrix)
    rows = _inverse_size(xp, matrix, 1)
    columns = _inverse_size(xp, rows[:, None] * matrix, 0)
    scaled = rows[:, None] * matrix * columns[None, :]
    inverse = backend.inverse(scaled)
    condition = _norm_1(xp, scaled) * _norm_1(xp, inverse)
    epsilon = float(xp.finfo(b.dtype).eps)

    def error() -> SingularError:
        n, size = b.shape[0], float(condition)
        return SingularError(
            message(
                f"derivative of {operator.name}: the linearised system is singular",
                expected=f"an invertible d residual / dy, {n} x {n}, at the solution",
                got=f"a condition number of {size:.1e}"
                if math.isfinite(size)
                else "one that has no inverse at all",
                mend="the residual must determine y there: look for a double root, or for a "
                "redundant or missing equation",
            )
        )

    # A matrix that is not finite is no singular one: what is NaN stays NaN.
    fit = xp.isfinite(condition) & (condition * epsilon < 0.1)
    broken = ~xp.isfinite(xp.sum(matrix))
    refuse(backend, fit | broken, error)

    def apply_inverse(v: Any) -> Any:
        return columns * (inverse @ (rows * v))

    u = apply_inverse(b)
    u = u + apply_inverse(b - matrix @ u)
    return xp.where(fit, u, xp.nan * u)


def _inverse_size(xp: Any, matrix: Any, axis: int) -> Any:
    size = xp.max(xp.abs(matrix), axis=axis)
    return 1 / xp.where(size > 0, size, xp.ones_like(size))


def _norm_1(xp: Any, matrix: Any) -> Any:
    return xp.max(xp.sum(xp.abs(matrix), axis=0))


# Large systems: the matrix times vectors.


def _iterative(
    backend: Backend, operator: Operator, theta: Any, b: Any, adjoint: bool, method: str
) -> Any:
    """Returns the solution by a Krylov method of the framework's own, or the one below."""
    xp = backend.namespace()
    n = b.shape[0]
    apply = operator.at(backend, theta, adjoint)
    epsilon = float(xp.finfo(b.dtype).eps)
    # Aim near rounding, be content with half the digits: what a matrix of bad condition allows.
    aim, content = epsilon**0.75, epsilon**0.5
    u = backend.krylov(method, apply, b, aim, min(n, _RESTART), max(4 * n, 20 * _RESTART))
    left = b - apply(u)
    length, size = norm(xp, left), norm(xp, b)
    right = length <= content * size
    broken = ~xp.isfinite(xp.sum(apply(b)))

    def error() -> DiptychError:
        # What is left of b and cannot be reached is the null vector of a singular matrix' adjoint.
        other = operator.at(backend, theta, not adjoint)(left)
        growth = norm(xp, apply(b)) / size
        if bool(norm(xp, other) <= epsilon**0.25 * growth * length):
            return SingularError(
                message(
                    f"derivative of {operator.name}: the linearised system is singular",
                    expected=f"an invertible d residual / dy, {n} x {n}, at the solution",
                    got=f"one whose {method} solve leaves {float(length / size):.1e} of the "
                    "right-hand side out of reach",
                    mend="the residual must determine y there: look for a redundant or a missing "
                    "equation",
                )
            )
        mend = 'method="gmres"' if method == "cg" else "scale or precondition the residual"
        return ConvergenceError(
            message(
                f"derivative of {operator.name}: the linear solve by {method} did not converge",
                expected=f"a relative residual of at most {content:.1e}",
                got=f"{float(length / size):.1e}, for {n} unknowns",
                mend=f'{mend}, or method="dense" if a matrix of {n} x {n} fits into memory',
            )
        )

    refuse(backend, right | broken, error)
    return xp.where(right, u, xp.nan * u)

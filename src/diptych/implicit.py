"""Solvers differentiated by the implicit function theorem.

Where `residual(y, x) == 0` along `y = solve(x)`, differentiating gives `A y_dot + B x_dot = 0` with
`A = d residual / dy` and `B = d residual / dx` at the solution, so that

    y_dot = -A^-1 B x_dot        and its adjoint        x_bar = -B* A^-* y_bar

whatever the solver did to get there: it is not differentiated, and may be anyone's. See Blondel et
al. 2022, "Efficient and modular implicit differentiation", arXiv:2105.15183.

Complex numbers count as pairs of real ones: `A` is then right also where the residual is not
holomorphic, and its adjoint under `Re(sum(conj(a) * b))` is its transpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from diptych import backends
from diptych.arguments import Parameters, align, flatten, is_node, unflatten
from diptych.backends import Backend
from diptych.errors import ConvergenceError, KindError, StructureError, message
from diptych.linear_solve import (
    METHODS,
    Method,
    opaque_rule,
    pushforward,
    refuse,
    solve_linear,
)
from diptych.rule import Rule, rule
from diptych.static import Static
from diptych.vectors import Space, count, differentiable, norm, real_part

Solver = Callable[..., Any]


def implicit(
    residual: Callable[..., Any],
    *,
    static: str | Iterable[str] = (),
    host: bool = False,
    out: Callable[..., Any] | None = None,
    vectorized: bool = False,
    method: Method = "auto",
    tolerance: float | str | None = "auto",
) -> Callable[[Solver], Rule]:
    """Returns the decorator that makes a rule of a solver, with both directions of its derivative.

    `y_dot = -A^-1 B x_dot` and `x_bar = -B* A^-* y_bar`, where `A` and `B` are the derivatives of
    the residual in `y` and in the arguments: the solver itself is never differentiated.

    Args:
        residual: `residual(y, *args)`, zero at the solution; takes the solver's arguments, static
            ones too, after `y`. Written with `diptych.namespace`, it may call rules, and returns
            as many numbers as `y` has. Leaves of `y` that are integers (a count of steps) do not
            count.
        static: the names of the solver's arguments that are no arrays.
        host: the solver gets and returns NumPy arrays (SciPy, C); the residual does not.
        out: for host solvers, maps the arguments' specs to the output's, as for `diptych.rule`.
        vectorized: for host solvers, one call does a whole batch under `vmap`.
        method: how the linear systems are solved: "dense" by the matrix, "gmres" or "cg"
            (symmetric positive definite only) without it, "auto" by the matrix up to 512 unknowns
            and by GMRES beyond.
        tolerance: how far from zero the residual may be, relative to the size of its terms, before
            the solver counts as not converged. "auto" is the fourth root of the precision of `y`
            (1e-4 in float64, 2e-2 in float32): it finds failure, not inaccuracy. `None` accepts
            everything.

    Returns:
        A decorator: solver to rule.

    Raises:
        KindError: if `residual` is no function.
        ValueError: for an unknown method or tolerance.

    The rule raises `ConvergenceError` where the solver, or an iteration of a linear solve, did
    not converge, and its derivative `SingularError` where `A` is singular (an iteration sees
    that only where the right-hand side is out of its reach). Under jit, vmap and compile,
    which hide values, value and derivative are NaN instead.

    Examples:
        >>> import diptych
        >>> @diptych.implicit(lambda y, x: y * y - x)
        ... def root(x):
        ...     return x**0.5
        >>> root
        <diptych.rule root>

    References:
        Blondel, M. et al. (2022). Efficient and modular implicit differentiation. NeurIPS.
        arXiv:2105.15183.
    """
    if not callable(residual):
        raise _no_function(residual, "a function: residual(y, *args), zero at the solution")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if tolerance not in ("auto", None) and not isinstance(tolerance, (int, float)):
        raise ValueError(f"tolerance must be 'auto', None or a number, got {tolerance!r}")
    names = (static,) if isinstance(static, str) else tuple(static)

    def decorate(solve: Solver) -> Rule:
        if not callable(solve):
            raise _no_function(solve, "a solver to decorate")
        inner = solve
        if host:
            inner = rule(static=names, host=True, out=out, vectorized=vectorized)(solve)
            inner._statement.decorator = "diptych.implicit(residual, "
        return _implicit_rule(residual, solve, inner, names, method, tolerance)

    return decorate


def _no_function(given: Any, expected: str) -> KindError:
    mend = "write @diptych.implicit(residual) above the solver"
    got = f"{type(given).__module__}.{type(given).__qualname__}"
    return KindError(message("diptych.implicit", expected=expected, got=got, mend=mend))


def _implicit_rule(
    residual: Callable[..., Any],
    solve: Solver,
    inner: Solver,
    static: tuple[str, ...],
    method: Method,
    tolerance: Any,
) -> Rule:
    # The rule is no host rule even if its solver is one: check and derivative are the framework's.
    parameters = Parameters(solve, static)

    def at(residual: Any, values: Sequence[Any], y: Any) -> Point:
        return Point.of(residual, parameters, values, y)

    # `residual` is read here by name, so that what it reads in turn is seen as the rule's own.
    def value(*args: Any, **kwargs: Any) -> Any:
        y = inner(*args, **kwargs)
        if isinstance(y, (int, float, complex)):
            y = np.asarray(y)  # as a solver on NumPy arrays may well return
        if tolerance is None:
            return y
        return _checked(at(residual, _in_order(parameters, args, kwargs), y), tolerance)

    found = opaque_rule(solve, value, static)

    @found.jvp
    def implicit_jvp(res: Any, *tangents: Any) -> Any:
        *values, y = res
        return _push(at(residual, values, y), method, tangents)

    @found.vjp
    def implicit_vjp(res: Any, y_bar: Any) -> Any:
        *values, y = res
        return _pull(at(residual, values, y), method, y_bar)

    return found


def _in_order(parameters: Parameters, args: Any, kwargs: Any) -> list[Any]:
    dynamic, static = parameters.bind(args, kwargs)
    found = dict(zip(parameters.dynamic_names, dynamic, strict=True))
    found.update(zip(parameters.static_names, static, strict=True))
    return [found[name] for name in parameters.names]


@dataclass(frozen=True)
class Equation:
    """`residual(y, *args) == 0` without its arrays; as an operator, `A` at `theta = (y, args)`.

    Args:
        name: the solver's name.
        residual: the user's function.
        parameters: those of the solver.
        names: the parameters whose values are in `args`.
        fixed: the values of all other parameters.
    """

    name: str
    residual: Callable[..., Any]
    parameters: Parameters
    names: tuple[str, ...]
    fixed: Static

    def __call__(self, y: Any, args: Sequence[Any]) -> Any:
        """Returns the residual, as the user's function gives it."""
        rest = iter(self.fixed.values)
        values = dict(zip(self.names, args, strict=True))
        parameters = self.parameters
        for name in parameters.names:
            if name not in values:
                values[name] = next(rest)
        dynamic = [values[name] for name in parameters.dynamic_names]
        static = [values[name] for name in parameters.static_names]
        positional, keywords = parameters.merge(dynamic, static)
        return self.residual(y, *positional, **keywords)

    def vector(self, space: Space, y: Any, args: Sequence[Any]) -> Any:
        """Returns the residual as a vector in the space of `y`.

        Raises:
            StructureError: if it has not as many numbers as `y`.
        """
        backend = space.backend
        leaves = flatten(self(y, args))[0]
        usable = [x for x in leaves if differentiable(backend, x)]
        if len(usable) != len(leaves) or count(usable) != space.size:
            got = ", ".join(
                f"{getattr(x, 'dtype', type(x).__name__)}{tuple(getattr(x, 'shape', ()))}"
                for x in leaves
            )
            raise StructureError(
                message(
                    f"residual of {self.name}",
                    expected=f"one floating-point equation for each of the {space.size} real "
                    "unknowns of y",
                    got=f"{count(usable)} in {got or 'no array'}",
                    mend="return arrays with as many elements as y, a complex one counting twice; "
                    "for an optimum that is the gradient",
                )
            )
        return space.concatenated(usable)

    def at(self, backend: Backend, theta: Any, adjoint: bool) -> Callable[[Any], Any]:
        """Returns `A` at `(y, args)`, or its adjoint, as a function of a flat real vector."""
        y, args = theta
        space = Space.of(backend, y)

        def of_vector(v: Any) -> Any:
            return self.vector(space, space.tree(v), args)

        if not adjoint:
            return pushforward(backend, of_vector, [space.vector(y)])
        _, pullback = backend.vjp(of_vector, (space.vector(y),), False)
        return lambda w: pullback(w)[0]


class Point(NamedTuple):
    """An equation at one solution.

    Args:
        equation: the equation.
        space: that of `y`.
        y: the solution.
        args: the values of the arguments that are not static, one for each name.
        arguments: for each argument that has a tangent the positions of its leaves among those of
            `args`, as a pytree.
    """

    equation: Equation
    space: Space
    y: Any
    args: tuple[Any, ...]
    arguments: list[Any]

    @classmethod
    def of(
        cls, residual: Callable[..., Any], parameters: Parameters, values: Sequence[Any], y: Any
    ) -> Point:
        """Returns the point at these values of all parameters."""
        pairs = list(zip(parameters.names, values, strict=True))
        moving = [(n, v) for n, v in pairs if n not in parameters.static and not _is_object(v)]
        names = tuple(n for n, _ in moving)
        fixed = Static(tuple(v for n, v in pairs if n not in names))
        args = tuple(v for _, v in moving)
        equation = Equation(parameters.name, residual, parameters, names, fixed)
        leaves, treedef = flatten(args)
        backend = backends.backend_of([*leaves, *flatten(y)[0]], parameters.name)
        spread: list[Any] = []
        for name, positions in zip(names, unflatten(treedef, range(len(leaves))), strict=True):
            several = parameters.kinds[name].name == "VAR_POSITIONAL"
            spread.extend(positions if several else [positions])
        return cls(equation, Space.of(backend, y), y, args, spread)

    def residual_in(self, free: Sequence[int]) -> Callable[..., Any]:
        """Returns the residual, a vector, as a function of these leaves of the arguments."""
        leaves, treedef = flatten(self.args)

        def of_leaves(*moved: Any) -> Any:
            full = list(leaves)
            for i, value in zip(free, moved, strict=True):
                full[i] = value
            return self.equation.vector(self.space, self.y, unflatten(treedef, full))

        return of_leaves

    def poison(self) -> Any:
        """Returns 1.0, or NaN if the solver said that it failed: `A` need not depend on `y`."""
        xp = self.space.backend.namespace()
        v = self.space.vector(self.y)
        return xp.where(xp.isfinite(xp.sum(v * 0)), xp.ones_like(v), xp.nan * xp.ones_like(v))


def _is_object(value: Any) -> bool:
    """Returns whether a value is no data: the `self` of a rule that is a method."""
    known = backends.owner(type(value)) or isinstance(value, (bool, int, float, complex))
    return not known and not is_node(value)


def _push(point: Point, method: Method, tangents: Sequence[Any]) -> Any:
    """Returns `-A^-1 B args_dot`."""
    space = point.space
    leaves = flatten(point.args)[0]
    dots: dict[int, Any] = {}
    for positions, tangent in zip(point.arguments, tangents, strict=True):
        where, treedef = flatten(positions)
        parts = align(treedef, tangent, "tangent", "the argument", "pass one of its structure")
        dots.update(zip(where, parts, strict=True))
    free = [i for i, x in enumerate(leaves) if differentiable(space.backend, x)]
    primals = [leaves[i] for i in free]
    push = pushforward(space.backend, point.residual_in(free), primals)
    right = -push(*[dots[i] for i in free]) * point.poison()
    y_dot = solve_linear((point.y, point.args), right, point.equation, method, False)
    return space.tree(y_dot, [None] * len(space.leaves))


def _pull(point: Point, method: Method, y_bar: Any) -> Any:
    """Returns `-B* A^-* y_bar`, one cotangent for each argument, computed only if wanted."""
    space, backend = point.space, point.space.backend
    leaves = flatten(point.args)[0]
    solved: list[Any] = []

    def of_argument(positions: Any) -> Any:
        where, treedef = flatten(positions)
        free = [i for i in where if differentiable(backend, leaves[i])]
        if not free:
            return None
        if not solved:
            right = -space.vector(y_bar) * point.poison()
            theta = (point.y, point.args)
            solved.append(solve_linear(theta, right, point.equation, method, True))
        _, pullback = backend.vjp(point.residual_in(free), [leaves[i] for i in free], False)
        bars = dict(zip(free, pullback(solved[0]), strict=True))
        return unflatten(treedef, [bars.get(i) for i in where])

    if len(point.arguments) == 1:
        return of_argument(point.arguments[0])
    return tuple([lambda p=positions: of_argument(p) for positions in point.arguments])


def _checked(point: Point, tolerance: float | str) -> Any:
    """Returns `y` where the solver has converged; else raises, or makes NaN of it if traced.

    The size of the residual's terms is how much it changes when `y`, and then the arguments, are
    perturbed by half the digits, each element by another share of itself: what cancels in the
    residual does not cancel there. Elements near zero move by half the
    digits of the largest, or of 1: zero is what a solver finds only up to some absolute error.
    """
    space, backend = point.space, point.space.backend
    if not space.free:
        return point.y
    xp = backend.namespace()
    precision = max(float(xp.finfo(space.leaves[i].dtype).eps) for i in space.free)
    step = precision**0.5
    limit = precision**0.25 if isinstance(tolerance, str) else float(tolerance)

    def moved(of: Space, tree: Any) -> Any:
        v = of.vector(tree)
        if not v.shape[0]:
            return tree
        pattern = xp.cos(xp.cumulative_sum(xp.ones_like(v), axis=0) ** 2)
        floor = step * (xp.max(xp.abs(v)) + 1)
        return of.tree(v + step * pattern * (xp.abs(v) + floor))

    left = point.equation.vector(space, point.y, point.args)
    if left.shape[0] == 0:
        return point.y
    of_y = point.equation.vector(space, moved(space, point.y), point.args)
    terms = norm(xp, of_y - left) / step
    args_space = Space.of(backend, point.args)
    if args_space.free:
        args = moved(args_space, point.args)
        terms = terms + norm(xp, point.equation.vector(space, point.y, args) - left) / step
    # Where a perturbed residual is not finite, nothing can be said of its size.
    length = norm(xp, left)
    fine = xp.isfinite(length) & ((length <= limit * terms) | ~xp.isfinite(terms))

    def error() -> ConvergenceError:
        return ConvergenceError(
            message(
                f"{point.equation.name}: the solver did not converge",
                expected=f"a residual of at most {limit:.1e} of the size of its terms",
                got=f"{float(length / terms):.1e} of it, a norm of {float(length):.1e}",
                mend="let the solver run longer, start it closer, or correct the residual; "
                "tolerance=None accepts what it returns",
            )
        )

    # A tensor that only the residual reads from outside, and that requires grad, is thereby seen
    # in y: its gradient would be lost in silence.
    factor = refuse(backend, fine, error) + 0 * xp.sum(left)
    leaves = list(space.leaves)
    for i in space.free:
        leaves[i] = leaves[i] * xp.astype(factor, real_part(backend, leaves[i]).dtype)
    return unflatten(space.treedef, leaves)

"""Mutants of a rule: its stated derivative with one small mistake in it, made from the source.

A mutant is judged without the checker: its cotangents and tangents at the example, taken with the
framework's own autograd, are compared with those of the rule it was made from.
"""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mistakes import mistakes

import diptych

PARTS = ("fwd", "jvp", "vjp", "partials")
# A mutant changes the derivative where an entry moves by more than this share of the largest one.
CHANGED = 1e-6


@dataclass(frozen=True)
class Case:
    """A rule with an example, to be mutated.

    Args:
        name: how tables call it.
        rule: the rule.
        args: makes the example, NumPy arrays and static arguments.
        frameworks: those in which the rule can run.
        reference: the function whose derivative the rule is meant to have; its own body's if
            `None`.
    """

    name: str
    rule: diptych.Rule
    args: Callable[[], tuple[Any, ...]]
    frameworks: tuple[str, ...] = ("torch", "jax")
    reference: Callable[..., Any] | None = None


@dataclass
class Mutant:
    """A rule with one mistake.

    Args:
        rule: the rule.
        kind: of the mistake.
        what: the part, line and code before and after.
    """

    rule: diptych.Rule
    kind: str
    what: str


# Making them.


def mutants(rule: diptych.Rule) -> Iterator[Mutant]:
    """Yields the rule with each mistake in turn."""
    for part in PARTS:
        stated = getattr(rule._statement, part)
        if stated is None:
            continue
        function = stated._statement.body if isinstance(stated, diptych.Rule) else stated
        if not inspect.isfunction(function) or function.__closure__:
            continue
        tree = _tree(function)
        fields = _fields(rule, function)
        for i, node in enumerate(ast.walk(tree)):
            for kind, new in mistakes(node, fields, part):
                mutated = _replaced(tree, i, new)
                before, after = ast.unparse(node), ast.unparse(new)
                what = f"{part}, line {node.lineno}: {before} -> {after}"
                yield Mutant(_with(rule, part, _compiled(mutated, function)), kind, what)


def rebuilt(rule: diptych.Rule) -> diptych.Rule:
    """Returns the same rule, made again as a mutant is."""
    return _with(rule, "", None)


def _tree(function: Any) -> ast.Module:
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    tree.body[0].decorator_list = []
    return tree


def _compiled(tree: ast.Module, function: Any) -> Any:
    scope: dict[str, Any] = {}
    name = f"<mutant of {function.__name__}>"
    exec(compile(ast.fix_missing_locations(tree), name, "exec"), function.__globals__, scope)
    made = scope[function.__name__]
    made.__module__ = function.__module__
    return made


def _with(rule: diptych.Rule, part: str, function: Any) -> diptych.Rule:
    """Returns a rule as this one, with another function for one part."""
    old = rule._statement
    body = function if part == "body" else old.body
    options: dict[str, Any] = dict(linear=old.linear, host=old.host)
    if old.host:
        options |= dict(out=old.out, vectorized=old.vectorized)
    made = diptych.rule(static=tuple(rule._parameters.static), **options)(body)
    for name in PARTS:
        stated = getattr(old, name)
        if stated is None:
            continue
        if name == part:
            inner = isinstance(stated, diptych.Rule)
            stated = _with(stated, "body", function) if inner else function
        if name == "fwd" and old.fwd_out is not None:
            made.fwd(out=old.fwd_out)(stated)
        else:
            getattr(made, name)(stated)
    return made


def _replaced(tree: ast.Module, index: int, new: ast.AST) -> ast.Module:
    made = copy.deepcopy(tree)
    old = next(itertools.islice(ast.walk(made), index, None))

    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            return copy.deepcopy(new) if node is old else self.generic_visit(node)

    return Replace().visit(made)


def _fields(rule: diptych.Rule, function: Any) -> tuple[str, ...]:
    """Returns the residuals that may be mistaken for each other, where they are the arguments."""
    if rule._statement.fwd is not None:
        return ()
    return (*(n for n in rule._parameters.names if n not in rule._parameters.static), "out")


# Judging them.


@dataclass
class Measured:
    """The derivative of a rule at the example, as the framework's own autograd gives it.

    Args:
        leaves: cotangents for two random cotangents, then tangents for two random tangents.
        raised: what was raised instead.
    """

    leaves: list[np.ndarray] = field(default_factory=list)
    raised: str = ""

    def differs(self, other: Measured) -> bool:
        """Returns whether the two are different derivatives."""
        if self.raised or other.raised:
            return bool(self.raised) != bool(other.raised)
        return any(map(_apart, self.leaves, other.leaves)) or len(self.leaves) != len(other.leaves)


def _apart(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape:
        return True
    scale = max(float(np.max(np.abs(b), initial=0.0)), 1e-30)
    return bool(np.any(~(np.abs(a - b) <= CHANGED * scale) & ~(np.isnan(a) & np.isnan(b))))


def has_value(framework: str, rule: diptych.Rule, args: tuple[Any, ...]) -> bool:
    """Returns whether the rule can be called."""
    try:
        rule(*_arrays(framework, args))
    except Exception:
        return False
    return True


def _arrays(framework: str, args: tuple[Any, ...]) -> list[Any]:
    module = importlib.import_module({"torch": "torch", "jax": "jax.numpy"}[framework])
    make = module.from_numpy if framework == "torch" else module.asarray
    return [make(np.array(x)) if isinstance(x, np.ndarray) else x for x in args]


def measured(framework: str, rule: diptych.Rule, args: tuple[Any, ...]) -> Measured:
    """Returns the rule's derivative at the example."""
    try:
        return Measured((_by_torch if framework == "torch" else _by_jax)(rule, args))
    except Exception as error:
        return Measured(raised=f"{type(error).__name__}: {error}")


def _is_free(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind in "fc"


def _random(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    found = rng.normal(size=x.shape)
    return found + 1j * rng.normal(size=x.shape) if x.dtype.kind == "c" else found


def _by_torch(rule: diptych.Rule, args: tuple[Any, ...]) -> list[np.ndarray]:
    import torch

    rng = np.random.default_rng(99)
    full = _arrays("torch", args)
    free = [i for i, x in enumerate(args) if _is_free(x)]

    def call(*xs: Any) -> tuple[Any, ...]:
        here = list(full)
        for i, x in zip(free, xs, strict=True):
            here[i] = x
        out = rule(*here)
        outs = out if isinstance(out, tuple) else (out,)
        return tuple(o for o in outs if o.is_floating_point() or o.is_complex())

    xs = [full[i].clone().requires_grad_() for i in free]
    outs, found = call(*xs), []
    for _ in range(2):
        bars = [torch.from_numpy(np.array(_random(o.detach().numpy(), rng))) for o in outs]
        live = [(o, b) for o, b in zip(outs, bars, strict=True) if o.requires_grad]
        got = torch.autograd.grad(
            [o for o, _ in live], xs, [b for _, b in live], retain_graph=True, allow_unused=True
        )
        found += [torch.zeros_like(x) if g is None else g for g, x in zip(got, xs, strict=True)]
    for _ in range(2):
        dots = tuple(torch.from_numpy(np.array(_random(args[i], rng))) for i in free)
        found += torch.func.jvp(call, tuple(full[i] for i in free), dots)[1]
    return [x.detach().resolve_conj().numpy() for x in found]


def _by_jax(rule: diptych.Rule, args: tuple[Any, ...]) -> list[np.ndarray]:
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(99)
    full = _arrays("jax", args)
    free = [i for i, x in enumerate(args) if _is_free(x)]

    def call(*xs: Any) -> tuple[Any, ...]:
        here = list(full)
        for i, x in zip(free, xs, strict=True):
            here[i] = x
        out = rule(*here)
        outs = out if isinstance(out, tuple) else (out,)
        return tuple(o for o in outs if jnp.issubdtype(o.dtype, jnp.inexact))

    xs, found = tuple(full[i] for i in free), []
    outs, pull = jax.vjp(call, *xs)
    for _ in range(2):
        found += pull(tuple(jnp.asarray(_random(np.asarray(o), rng), o.dtype) for o in outs))
    for _ in range(2):
        dots = tuple(jnp.asarray(_random(args[i], rng)) for i in free)
        found += jax.jvp(call, xs, dots)[1]
    return [np.asarray(x) for x in found]


# Looking for them.


@dataclass
class Tried:
    """What became of one mutant.

    Args:
        case: the rule it was made from.
        framework: in which it ran.
        kind: of the mistake.
        what: the mistake.
        changes: whether it changes the derivative.
        raises: whether it has none any more: frameworks or diptych refuse it.
        found: whether the checker has a finding.
    """

    case: str
    framework: str
    kind: str
    what: str
    changes: bool
    raises: bool
    found: bool


def findings(case: Case, rule: diptych.Rule, framework: str) -> list[str]:
    """Returns what the checker finds at the example itself."""
    report = diptych.check(
        rule,
        *case.args(),
        frameworks=framework,
        claims=["primal", "vjp", "jvp", "adjoint", "linear"],  # primal: a `fwd` that is another
        reference=case.reference or "auto",
        neighbours=False,
    )
    return [f"{f.claim}: {f.cause}: {f.message}" for f in report.findings]


def tried(case: Case, framework: str, every: int = 1) -> list[Tried]:
    """Returns what becomes of each mutant of a rule; those without effect are not looked for.

    Args:
        case: the rule.
        framework: in which it runs.
        every: 2 takes every second mutant, and so on.
    """
    args = case.args()
    here = measured(framework, rebuilt(case.rule), args)
    assert not here.raised, (case.name, here.raised)
    made = []
    for mutant in itertools.islice(mutants(case.rule), 0, None, every):
        if not has_value(framework, mutant.rule, args):
            continue  # nobody needs a checker for a function that cannot be called
        there = measured(framework, mutant.rule, args)
        changes = there.differs(here)
        found = changes and bool(findings(case, mutant.rule, framework))
        made.append(
            Tried(
                case.name, framework, mutant.kind, mutant.what, changes, bool(there.raised), found
            )
        )
    return made

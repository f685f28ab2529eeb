"""The small mistakes that mutants are made with, as changes of a function's syntax tree."""

from __future__ import annotations

import ast
import copy
import itertools
from collections.abc import Iterator
from typing import Any

_EXCHANGED = {
    "sin": "cos", "cos": "sin", "sinh": "cosh", "cosh": "sinh", "triu": "tril", "tril": "triu",
    "max": "min", "min": "max", "argmax": "argmin", "maximum": "minimum", "minimum": "maximum",
    "log1p": "log", "expm1": "exp", "real": "imag",
}  # fmt: skip
_COMPARED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq}


def mistakes(node: Any, fields: tuple[str, ...], part: str) -> Iterator[tuple[str, Any]]:
    """Yields the kind of each mistake at this place, and what stands there with it."""
    if isinstance(node, ast.Return) and node.value is not None and part != "fwd":
        yield from _returned(node)
    if isinstance(node, ast.BinOp):
        yield from _terms(node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        if not isinstance(node.operand, ast.Constant):
            yield "sign", node.operand
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.value.id == "res" and node.attr in fields and isinstance(node.ctx, ast.Load):
            for other in fields:
                if other != node.attr:
                    yield "residual", ast.copy_location(_attribute(node, other), node)
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
        if isinstance(node.value, ast.Name) and node.value.id == "res":
            yield from _unpacked(node)
    if isinstance(node, ast.Call):
        yield from _calls(node)
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        yield from _subscripts(node)
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARED:
        made = copy.deepcopy(node)
        made.ops = [_COMPARED[type(node.ops[0])]()]
        yield "comparison", made
        made = copy.deepcopy(node)
        made.left, made.comparators = made.comparators[0], [made.left]
        yield "comparison", made
    if isinstance(node, ast.Attribute) and node.attr in ("mT", "T"):
        yield "transpose", node.value


def _returned(node: ast.Return) -> Iterator[tuple[str, ast.Return]]:
    many = isinstance(node.value, ast.Tuple)
    elements = node.value.elts if many else [node.value]
    for i, element in enumerate(elements):
        if isinstance(element, (ast.Lambda, ast.Constant)):
            continue

        def made(new: ast.expr, i: int = i) -> ast.Return:
            if not many:
                return ast.copy_location(ast.Return(new), node)
            elts = [new if k == i else e for k, e in enumerate(elements)]
            return ast.copy_location(ast.Return(ast.Tuple(elts, ast.Load())), node)

        yield "sign", made(ast.UnaryOp(ast.USub(), element))
        for factor in (1.001, 2.0, 0.5):
            yield "factor", made(ast.BinOp(ast.Constant(factor), ast.Mult(), element))
        yield "zero", made(ast.Constant(None) if many else _times(0.0, element))


def _times(factor: float, x: ast.expr) -> ast.BinOp:
    return ast.BinOp(ast.Constant(factor), ast.Mult(), x)


def _terms(node: ast.BinOp) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node.op, (ast.Add, ast.Sub)):
        other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        yield "sign", ast.copy_location(ast.BinOp(node.left, other, node.right), node)
        right = node.right
        if isinstance(node.op, ast.Sub):
            right = ast.UnaryOp(ast.USub(), right)
        yield "term", node.left
        yield "term", right
    if isinstance(node.op, ast.Mult):
        yield "product", node.left
        yield "product", node.right
    if isinstance(node.op, ast.Div):
        yield "product", node.left
    if isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant):
        yield "power", node.left
        more = ast.Constant(node.right.value + 1)
        yield "power", ast.copy_location(ast.BinOp(node.left, ast.Pow(), more), node)


def _attribute(node: ast.Attribute, name: str) -> ast.Attribute:
    return ast.Attribute(node.value, name, ast.Load())


def _unpacked(node: ast.Assign) -> Iterator[tuple[str, ast.Assign]]:
    names = node.targets[0].elts
    for i, j in itertools.combinations(range(len(names)), 2):
        made = copy.deepcopy(node)
        elts = made.targets[0].elts
        elts[i], elts[j] = elts[j], elts[i]
        yield "residual", made


def _calls(node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    module = isinstance(node.func, ast.Name) or (
        isinstance(node.func.value, ast.Name) and node.func.value.id in ("xp", "np", "torch", "jnp")
    )
    if not module and not isinstance(node.func, ast.Attribute):
        return
    args = node.args if module else [node.func.value, *node.args]
    kinds = {"conj": "conj", "sum": "sum", "_sum_to": "sum", "flip": "flip"}
    kinds |= {"matrix_transpose": "transpose", "permute_dims": "transpose"}
    if name in kinds and args:
        yield kinds[name], args[0]
    if name == "real" and args:
        yield "conj", args[0]  # the part that a real argument cannot take
    if name in _EXCHANGED and isinstance(node.func, ast.Attribute):
        made = copy.deepcopy(node)
        made.func.attr = _EXCHANGED[name]
        yield "function", made
    if name == "where" and len(args) == 3:
        made = copy.deepcopy(node)
        made.args[-2], made.args[-1] = made.args[-1], made.args[-2]
        yield "branches", made
    if name in ("matmul", "outer") and len(args) == 2:
        made = copy.deepcopy(node)
        made.args[-2:] = reversed(made.args[-2:])
        yield "order", made


def _subscripts(node: ast.Subscript) -> Iterator[tuple[str, ast.Subscript]]:
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    for i, part in enumerate(parts):
        for new in _shifted(part):
            made = copy.deepcopy(node)
            if isinstance(node.slice, ast.Tuple):
                made.slice.elts[i] = new
            else:
                made.slice = new
            yield "slice", made


def _shifted(part: ast.expr) -> Iterator[ast.expr]:
    if isinstance(part, ast.Constant) and type(part.value) is int:
        yield ast.Constant(part.value + 1)
    if isinstance(part, ast.Slice):
        for name in ("lower", "upper"):
            bound = getattr(part, name)
            if bound is not None:
                for step in (1, -1):
                    made = copy.deepcopy(part)
                    setattr(made, name, ast.BinOp(bound, ast.Add(), ast.Constant(step)))
                    yield made

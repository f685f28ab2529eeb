"""A rule's body that reads a tensor requiring grad from outside its arguments.

Inside an autograd.Function PyTorch loses the gradient of such a tensor without a word. The body is
therefore run with gradients on and its arguments detached: what then requires grad was outside.

A Function's forward runs below all torch.func transforms, where their tensors look like constants.
Whether one of those is read is therefore found out before, and apart.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import torch

from diptych.arguments import flatten
from diptych.backends.torch import state
from diptych.call import Call
from diptych.errors import ClosureError, message
from diptych.outside import from_library, values_read

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype)


def may_lose(call: Call) -> bool:
    """Returns whether the body may read tensors from outside: whether it is worth a look."""
    values = call.fixed.values
    if values and not all(isinstance(v, _PLAIN) for v in values):
        return True
    return not call.statement.captures.unchanged()


def refuse_transformed(call: Call, leaves: Sequence[Any]) -> None:
    """Raises if the body reads a tensor that a transform around it differentiates.

    Raises:
        ClosureError: naming the tensor that was read.
    """
    if call.statement.host or not may_lose(call):
        return
    candidates = list(_candidates(call))
    batched = [name for name, tensor in candidates if state.batched(tensor)]
    if batched:
        raise _error(call, _listed(batched), "torch.vmap could not batch it", "torch.vmap batches")
    if any(state.differentiated(tensor) for _, tensor in candidates):
        function = call.statement.fwd or call.statement.body
        with torch.enable_grad():
            refuse(call, call.invoke(function, [state.constant(x) for x in leaves]))


def refuse(call: Call, values: Any) -> None:
    """Raises if one of the values is differentiated although no argument is.

    Raises:
        ClosureError: naming the tensor that was read, where it is found.
    """
    leaves = (values,) if isinstance(values, torch.Tensor) else flatten(values)[0]
    guilty = [x for x in leaves if isinstance(x, torch.Tensor) and state.differentiated(x)]
    if not guilty:
        return
    lost = "its gradient would be lost"
    raise _error(call, _name_of(call, guilty), lost, "requires grad")


def _error(call: Call, names: str, lost: str, which: str) -> ClosureError:
    return ClosureError(
        message(
            f"{call.statement.name} reads {names} from outside its arguments, and {lost}",
            expected=f"every tensor that {which} as an argument of the rule",
            got="one that is read from a closure, a global or an attribute",
            mend="pass it as an argument (or detach it, if it is a constant)",
        )
    )


def _name_of(call: Call, guilty: list[torch.Tensor]) -> str:
    found = [(name, x) for name, x in _candidates(call) if state.differentiated(x)]
    roots = {id(node) for x in guilty for node in _graph(x)}
    exact = [(name, x) for name, x in found if id(x.grad_fn or x) in roots]
    return _listed([name for name, _ in exact or found]) or "a tensor that requires grad"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(dict.fromkeys(f"'{name}'" for name in names))


def _graph(x: torch.Tensor) -> Iterator[Any]:
    """Yields the nodes of a tensor's graph, and the leaf tensors at its end."""
    stack, seen = [x.grad_fn], set()
    if x.grad_fn is None:
        yield x
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if hasattr(node, "variable"):
            yield node.variable  # type: ignore[attr-defined]  # an AccumulateGrad
        stack.extend(next_node for next_node, _ in node.next_functions)


def _candidates(call: Call) -> Iterator[tuple[str, torch.Tensor]]:
    given = [value for value in call.fixed.values if isinstance(value, FunctionType)]
    for name, value in [*call.named, *values_read([*call.statement.functions, *given])]:
        yield from _tensors_in(name, value, 2)


def _tensors_in(name: str, value: Any, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, ModuleType) and from_library(value):
        return
    elif isinstance(value, torch.nn.Module):
        for key, tensor in [*value.named_parameters(), *value.named_buffers()]:
            yield f"{name}.{key}", tensor
        plain = {key: x for key, x in vars(value).items() if not key.startswith("_")}
        yield from _tensors_in(name, SimpleNamespace(**plain), depth)
    elif depth and isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors_in(f"{name}[{key!r}]", item, depth - 1)
    elif depth and isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _tensors_in(f"{name}[{i}]", item, depth - 1)
    elif depth and isinstance(value, functools.partial):
        yield from _tensors_in(name, [*value.args, *value.keywords.values()], depth)
    elif depth and isinstance(value, (MethodType, BuiltinFunctionType)):
        yield from _tensors_in(name, value.__self__, depth)
    elif depth and hasattr(value, "__dict__"):
        for key, item in vars(value).items():
            yield from _tensors_in(f"{name}.{key}", item, depth - 1)

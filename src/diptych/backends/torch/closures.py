"""A rule's body that reads a tensor requiring grad from outside its arguments.

Inside an autograd.Function PyTorch loses the gradient of such a tensor without a word. The body is
therefore run with gradients on and its arguments detached: what then requires grad was outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from diptych.arguments import flatten
from diptych.call import Call
from diptych.errors import ClosureError, message

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype)


def may_lose(call: Call) -> bool:
    """Returns whether the body may read tensors from outside: whether it is worth a look."""
    if call.static.values and not all(isinstance(v, _PLAIN) for v in call.static.values):
        return True
    return not call.statement.captures.unchanged()


def refuse(call: Call, values: Any) -> None:
    """Raises if one of the values requires grad although no argument does.

    Raises:
        ClosureError: naming the tensor that was read, where it is found.
    """
    leaves = (values,) if isinstance(values, torch.Tensor) else flatten(values)[0]
    guilty = [x for x in leaves if isinstance(x, torch.Tensor) and x.requires_grad]
    if not guilty:
        return
    raise ClosureError(
        message(
            f"{call.statement.name} reads {_name_of(call, guilty)} from outside its arguments, "
            "and its gradient would be lost",
            expected="every tensor that requires grad as an argument of the rule",
            got="one that is read from a closure, a global or an attribute",
            mend="pass it as an argument (or detach it, if it is a constant)",
        )
    )


def _name_of(call: Call, guilty: list[torch.Tensor]) -> str:
    roots = {id(node) for x in guilty for node in _graph(x)}
    names = []
    for name, tensor in _candidates(call):
        node = tensor.grad_fn or tensor
        if tensor.requires_grad and (id(node) in roots or any(tensor is x for x in guilty)):
            names.append(f"'{name}'")
    return " and ".join(dict.fromkeys(names)) or "a tensor that requires grad"


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
    named = list(zip(call.parameters.static_names, call.static.values, strict=True))
    for name, value in [*named, *call.statement.captures.values()]:
        yield from _tensors_in(name, value, 2)


def _tensors_in(name: str, value: Any, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, torch.nn.Module):
        for key, tensor in value.named_parameters():
            yield f"{name}.{key}", tensor
    elif depth and isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors_in(f"{name}[{key!r}]", item, depth - 1)
    elif depth and isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _tensors_in(f"{name}[{i}]", item, depth - 1)
    elif depth and hasattr(value, "__dict__"):
        for key, item in vars(value).items():
            yield from _tensors_in(f"{name}.{key}", item, depth - 1)

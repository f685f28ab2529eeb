"""Which of PyTorch's transforms are active: the few questions that have no public answer.

Tried on torch 2.13.0.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch._C import _autograd
from torch._functorch.pyfunctorch import (
    temporarily_clear_interpreter_stack,
    temporarily_pop_interpreter_stack,
)
from torch._subclasses.fake_tensor import fake_tensor_tls
from torch.autograd import forward_ad

_functorch: Any = torch._C._functorch  # type: ignore[attr-defined]  # its stub is not found
_AUTOGRAD = torch._C.DispatchKey.AutogradFunctionality
unwrap_if_dead = _functorch.unwrap_if_dead

# Whether AOTAutograd is tracing what Dynamo captured. Dual levels are then entered behind Python's
# back: the level that forward_ad knows stays at -1.
compiling = False

# Whether a torch.func transform (grad, jvp, vmap, ...) is running.
functorch_active = torch._C._are_functorch_transforms_active


def transforms_active() -> bool:
    """Returns whether a torch.func transform or a dual level is running."""
    return functorch_active() or forward_ad._current_level >= 0


def derivative_active() -> bool:
    """Returns whether a transform other than vmap is running."""
    if forward_ad._current_level >= 0:
        return True
    stack = _functorch.get_interpreter_stack() or ()
    return any(level.key() != _functorch.TransformType.Vmap for level in stack)


def dual(leaves: Sequence[Any]) -> bool:
    """Returns whether one of the leaves carries a tangent."""
    if torch._C._dispatch_tls_is_dispatch_key_excluded(_AUTOGRAD):
        return False  # below autograd, as the branches of torch.cond are: tangents are no more
    return any(
        isinstance(x, torch.Tensor) and torch._VF._unpack_dual(x, level=0)[1] is not None
        for x in leaves
    )


def differentiated(x: torch.Tensor) -> bool:
    """Returns whether a transform, autograd or a dual level differentiates with regard to `x`."""
    x = unwrap_if_dead(x)
    with contextlib.ExitStack() as popped:  # a tangent is seen from its own level only
        while not x.requires_grad:
            wrapped = _functorch.is_functorch_wrapped_tensor(x)
            level = _functorch.maybe_get_level(x) if wrapped else 0
            while (_functorch.maybe_current_level() or 0) > level:
                popped.enter_context(temporarily_pop_interpreter_stack())
            if not _functorch.is_batchedtensor(x) and dual([x]):
                return True
            if not wrapped:
                return False
            x = _functorch.get_unwrapped(x)
        return True


def batched(x: torch.Tensor) -> bool:
    """Returns whether torch.vmap batches `x`."""
    x = unwrap_if_dead(x)
    while _functorch.is_functorch_wrapped_tensor(x):
        if _functorch.is_batchedtensor(x):
            return True
        x = _functorch.get_unwrapped(x)
    return False


def versions(leaves: Sequence[Any]) -> list[int]:
    """Returns how often each tensor was changed in place; 0 for what keeps no count of it."""
    return [_version(x) if isinstance(x, torch.Tensor) else 0 for x in leaves]


def _version(x: torch.Tensor) -> int:
    while _functorch.is_functorch_wrapped_tensor(x):  # a batched tensor's own count stands still
        x = _functorch.get_unwrapped(x)
    return 0 if x.is_inference() else x._version


def constant(x: Any) -> Any:
    """Returns a tensor that no transform differentiates, with the values of `x`."""
    return x.detach() if isinstance(x, torch.Tensor) else x


def forward_mode_inside() -> Any:
    """Returns a context in which forward-mode AD works inside a Function's jvp.

    PyTorch runs a Function's jvp with forward gradients switched off, whereby forward over forward
    returns exactly zero (pytorch/pytorch#197867).
    """
    return forward_ad._set_fwd_grad_enabled(True)


def own_primal(x: torch.Tensor) -> torch.Tensor:
    """Returns a saved tensor without its own level's tangent; those of outer levels stay."""
    if _functorch.is_batchedtensor(x):
        inner = own_primal(_functorch.get_unwrapped(x))
        return _functorch._add_batch_dim(
            inner, _functorch.maybe_get_bdim(x), _functorch.maybe_get_level(x)
        )
    return forward_ad.unpack_dual(x, level=0).primal


def alive(saved: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """Returns saved tensors without the wrappers of transforms that have ended.

    PyTorch's own operators do so by themselves; see NOTE [functorch vjp and autograd interaction]
    in torch/_functorch/autograd_function.py.
    """
    return [unwrap_if_dead(x) for x in saved]


def own_storage(x: torch.Tensor) -> torch.Tensor:
    """Returns an output that is no view, as forward mode demands.

    There PyTorch wants the tangent of a view to have the very layout of the primal; a batched
    tensor does not even say that it is a view.
    """
    forward_mode = forward_ad._current_level >= 0 or compiling
    if forward_mode and (x._is_view() or _functorch.is_functorch_wrapped_tensor(x)):
        return x.clone()
    return x


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """Returns `torch.func.vjp`, also where saved-tensor hooks are set, which it refuses."""
    if torch.compiler.is_dynamo_compiling():  # which traces through here and knows no hooks
        return torch.func.vjp(f, *primals, has_aux=has_aux)
    hooks = []
    while (top := _autograd._top_saved_tensors_default_hooks(True)) is not None:
        hooks.append(top)
        _autograd._pop_saved_tensors_default_hooks()
    try:
        return torch.func.vjp(f, *primals, has_aux=has_aux)
    finally:
        for pack, unpack in reversed(hooks):
            _autograd._push_saved_tensors_default_hooks(pack, unpack)


@contextlib.contextmanager
def _constants() -> Iterator[None]:
    before = fake_tensor_tls.allow_non_fake_inputs_override
    fake_tensor_tls.allow_non_fake_inputs_override = True
    try:
        yield
    finally:
        fake_tensor_tls.allow_non_fake_inputs_override = before


_nothing = contextlib.nullcontext()


def constants_allowed(arrays: Any) -> Any:
    """Returns a context in which tensors from outside become constants of what is traced.

    Args:
        arrays: what is computed with; where they are real, nothing is traced.
    """
    return _constants() if traced(arrays) else _nothing


def traced(leaves: Any) -> bool:
    """Returns whether values are not there to be read: fake, functional or proxied tensors."""
    if torch._C._len_torch_dispatch_stack() > 0:
        return True
    plain = (torch.Tensor, torch.nn.Parameter)
    return any(isinstance(x, torch.Tensor) and type(x) not in plain for x in leaves)


# PyTorch's old vmap, which autograd.grad(is_grads_batched=True), gradcheck's batched checks and
# autograd.functional with vectorize=True still use.


def _old_vmap_level() -> int:
    level = torch._C._vmapmode_increment_nesting() - 1
    torch._C._vmapmode_decrement_nesting()
    return level


def old_vmap_active() -> bool:
    """Returns whether PyTorch's old vmap is running."""
    return _old_vmap_level() > 0


def take_batch_off(
    leaves: Sequence[Any],
) -> tuple[int, tuple[bool, ...], list[Any]] | None:
    """Returns the batch size, which leaves are batched, and these with the batch axis in front.

    `None` if none of them is batched at the innermost level.
    """
    level = _old_vmap_level()
    moved, flags, size = [], [], 0
    for leaf in leaves:
        batched = isinstance(leaf, torch.Tensor) and _functorch.is_legacy_batchedtensor(leaf)
        # Not batched at this level it would be expanded, to a size that no batch has.
        front = torch._remove_batch_dim(leaf, level, 0, 0) if batched else None
        flags.append(front is not None and front.shape[0] > 0)
        moved.append(front if flags[-1] else leaf)
        size = front.shape[0] if front is not None and flags[-1] else size
    return (size, tuple(flags), moved) if any(flags) else None


def put_batch_on(x: torch.Tensor) -> torch.Tensor:
    """Returns a tensor whose first axis is the batch axis of the innermost level."""
    return torch._add_batch_dim(x, 0, _old_vmap_level())


@contextlib.contextmanager
def random_numbers_kept() -> Iterator[Callable[[], None]]:
    """Gives random numbers back as they were, at the end and whenever what it yields is called."""
    with temporarily_clear_interpreter_stack():  # whose transforms would wrap the state
        before = torch.get_rng_state()

    def again() -> None:
        with temporarily_clear_interpreter_stack():
            torch.set_rng_state(before)

    try:
        yield again
    finally:
        again()


def peek(truth: torch.Tensor) -> Any:
    """Returns a tensor of truth values as NumPy's, batch axes in front; `None` where traced."""
    if torch.compiler.is_dynamo_compiling():
        return None
    while _functorch.is_functorch_wrapped_tensor(truth):
        truth = _functorch.get_unwrapped(truth)
    if traced([truth]):
        return None
    with temporarily_clear_interpreter_stack():  # whose transforms would wrap it again
        return truth.numpy(force=True)

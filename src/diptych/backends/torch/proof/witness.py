"""PyTorch's transforms, and witnesses that show which of them honour a custom derivative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import CellType, FunctionType
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from diptych.backends.torch.proof.calling import own_code
from diptych.proof.probes import Pack, Transform, of_moving

_ENTRIES = 64  # up to so many inputs whole Jacobians and Hessians are computed


def witness(thing: Any) -> tuple[Callable[..., Any], int | None, int | None] | None:
    """Returns a subclass of a Function whose backward gives twice, and whose jvp three times."""
    owner = getattr(thing, "__self__", None)
    function = owner if isinstance(owner, type) else thing
    base = torch.autograd.Function
    if not (isinstance(function, type) and issubclass(function, base)):
        return None
    stated = "backward" if function.backward is not base.backward else "vjp"
    pulls, pushes = getattr(function, stated), function.jvp
    members: dict[str, Any] = {
        stated: staticmethod(lambda ctx, *bars: _times(2, pulls(ctx, *bars)))
    }
    has_jvp = pushes is not base.jvp
    if has_jvp:
        members["jvp"] = staticmethod(lambda ctx, *dots: _times(3, pushes(ctx, *dots)))
    made: Any = type(f"{function.__name__}Witness", (function,), members)
    if function.vmap is not base.vmap:  # it mostly calls its own class, by name
        made.vmap = staticmethod(_renamed(function.vmap, function, made))
    return made.apply, 2, 3 if has_jvp else None


def _renamed(f: Callable[..., Any], old: Any, new: Any) -> Callable[..., Any]:
    """Returns a function in which each name of one object stands for another one."""
    if not isinstance(f, FunctionType):
        return f
    names = {name: new if value is old else value for name, value in f.__globals__.items()}
    cells = [CellType(new) if _content(cell) is old else cell for cell in f.__closure__ or ()]
    made = FunctionType(f.__code__, names, f.__name__, f.__defaults__, tuple(cells))
    made.__kwdefaults__ = f.__kwdefaults__
    return made


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing is bound yet
        return None


def _times(factor: int, found: Any) -> Any:
    if isinstance(found, (tuple, list)):
        return tuple([_times(factor, x) for x in found])
    return factor * found if isinstance(found, torch.Tensor) else found


def transforms() -> Sequence[Transform]:
    """Returns the transforms of one function that PyTorch has."""
    return [
        Transform("autograd.grad", "reverse", _autograd),
        Transform(".backward()", "reverse", _backward),
        Transform("autograd.grad(is_grads_batched=True)", "reverse", _batched),
        Transform("torch.func.grad", "reverse", _func(torch.func.grad)),
        Transform("torch.func.vjp", "reverse", _func_vjp),
        Transform("torch.func.jacrev", "reverse", _func(torch.func.jacrev)),
        Transform("vmap(grad)", "reverse", _mapped_grad),
        Transform("grad(vmap)", "reverse", _grad_mapped),
        Transform("checkpoint", "reverse", _checkpoint(False)),
        Transform("checkpoint(use_reentrant=True)", "reverse", _checkpoint(True)),
        Transform("saved_tensors_hooks", "reverse", _hooks),
        Transform("autograd.functional.vjp", "reverse", _functional_vjp),
        Transform("autograd.functional.jacobian", "reverse", _jacobian()),
        Transform("autograd.functional.jacobian(vectorize=True)", "reverse", _jacobian(True)),
        Transform("dual numbers", "forward", _dual),
        Transform("torch.func.jvp", "forward", _func_jvp),
        Transform("torch.func.jacfwd", "forward", _func(torch.func.jacfwd)),
        Transform("torch.func.linearize", "forward", _linearize),
        Transform("vmap(jvp)", "forward", _mapped_jvp),
        Transform("jvp(vmap)", "forward", _jvp_mapped),
        Transform("grad(grad)", "second", _second("reverse", "reverse")),
        Transform("jvp(grad)", "second", _second("reverse", "forward")),
        Transform("grad(jvp)", "second", _second("forward", "reverse")),
        Transform("jvp(jvp)", "second", _second("forward", "forward")),
        Transform("torch.func.hessian", "second", _hessian(torch.func.hessian)),
        Transform("jacfwd(jacfwd)", "second",
                  _hessian(lambda f, argnums: torch.func.jacfwd(
                      torch.func.jacfwd(f, argnums), argnums))),
        Transform("torch.compile", "reverse", _compiled(_autograd_of), True),
        Transform("torch.compile of torch.func.grad", "reverse",
                  _inside(_func(torch.func.grad)), True),
        Transform("torch.compile of torch.func.vjp", "reverse", _inside(_func_vjp), True),
        Transform("torch.compile of vmap(grad)", "reverse", _inside(_mapped_grad), True),
        Transform("torch.compile of torch.func.jvp", "forward", _inside(_func_jvp), True),
    ]  # fmt: skip


def loss_of(p: Pack) -> Callable[..., torch.Tensor]:
    """Returns the real number `<bars, f>` as a function of the moving inputs."""
    function, bars = of_moving(p.f, p.xs, p.moving, p.free), list(p.bars)

    def loss(*moved: Any) -> torch.Tensor:
        return _inner(bars, function(*moved))

    return loss


def _inner(a: Sequence[Any], b: Sequence[Any]) -> torch.Tensor:
    total: Any = 0.0
    for x, y in zip(a, b, strict=True):
        product = x.conj() * y
        total = total + (product.real if product.is_complex() else product).sum()
    return total


def _moved(p: Pack) -> tuple[Any, ...]:
    return tuple([p.xs[i] for i in p.moving])


def _leaves(p: Pack) -> list[torch.Tensor]:
    return [x.detach().requires_grad_() for x in _moved(p)]


def _argnums(p: Pack) -> tuple[int, ...]:
    return tuple(range(len(p.moving)))


def _given(found: Sequence[Any], like: Sequence[Any]) -> list[Any]:
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, like, strict=True)]


def _autograd_of(p: Pack, loss: Callable[..., Any]) -> torch.Tensor:
    leaves = _leaves(p)
    found = torch.autograd.grad(loss(*leaves), leaves, allow_unused=True)
    return _inner(_given(found, leaves), p.dots)


def _autograd(p: Pack) -> torch.Tensor:
    return _autograd_of(p, loss_of(p))


def _backward(p: Pack) -> torch.Tensor:
    leaves = _leaves(p)
    loss_of(p)(*leaves).backward()
    return _inner(_given([x.grad for x in leaves], leaves), p.dots)


def _batched(p: Pack) -> torch.Tensor:
    leaves = _leaves(p)
    outs = [o for o in of_moving(p.f, p.xs, p.moving, p.free)(*leaves)]
    live = [(o, torch.stack([b, b])) for o, b in zip(outs, p.bars, strict=True) if o.requires_grad]
    found = torch.autograd.grad(
        [o for o, _ in live], leaves, [b for _, b in live], allow_unused=True, is_grads_batched=True
    )
    each = [None if g is None else g[1] for g in found]
    return _inner(_given(each, leaves), p.dots)


def _func(transform: Callable[..., Any]) -> Callable[[Pack], Any]:
    def run(p: Pack) -> torch.Tensor:
        return _inner(transform(loss_of(p), argnums=_argnums(p))(*_moved(p)), p.dots)

    return run


def _func_vjp(p: Pack) -> torch.Tensor:
    pull = torch.func.vjp(of_moving(p.f, p.xs, p.moving, p.free), *_moved(p))[1]
    return _inner(pull(tuple(p.bars)), p.dots)


def _func_jvp(p: Pack) -> torch.Tensor:
    function = of_moving(p.f, p.xs, p.moving, p.free)
    return _inner(p.bars, torch.func.jvp(function, _moved(p), tuple(p.dots))[1])


def _linearize(p: Pack) -> torch.Tensor:
    push = torch.func.linearize(of_moving(p.f, p.xs, p.moving, p.free), *_moved(p))[1]
    return _inner(p.bars, push(*p.dots))


def _pairs(xs: Sequence[Any]) -> tuple[Any, ...]:
    return tuple([torch.stack([x, x]) for x in xs])


def _mapped_grad(p: Pack) -> torch.Tensor:
    mapped = torch.func.vmap(torch.func.grad(loss_of(p), argnums=_argnums(p)), randomness="same")
    return _inner([g[1] for g in mapped(*_pairs(_moved(p)))], p.dots)


def _grad_mapped(p: Pack) -> torch.Tensor:
    mapped = torch.func.vmap(loss_of(p), randomness="same")
    found = torch.func.grad(lambda *xs: mapped(*xs).sum(), argnums=_argnums(p))(*_pairs(_moved(p)))
    return _inner([g[1] for g in found], p.dots)


def _mapped_jvp(p: Pack) -> torch.Tensor:
    loss, n = loss_of(p), len(p.moving)

    def push(*both: Any) -> Any:
        return torch.func.jvp(loss, both[:n], both[n:])[1]

    pairs = _pairs([*_moved(p), *p.dots])
    return torch.func.vmap(push, randomness="same")(*pairs)[1]


def _jvp_mapped(p: Pack) -> torch.Tensor:
    mapped = torch.func.vmap(loss_of(p), randomness="same")
    return torch.func.jvp(mapped, _pairs(_moved(p)), _pairs(p.dots))[1][1]


def _dual(p: Pack) -> torch.Tensor:
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, d) for x, d in zip(_moved(p), p.dots, strict=True)]
        tangent = forward_ad.unpack_dual(loss_of(p)(*duals)).tangent
    return torch.zeros(()) if tangent is None else tangent


def _checkpoint(reentrant: bool) -> Callable[[Pack], Any]:
    def run(p: Pack) -> torch.Tensor:
        leaves = _leaves(p)
        # The re-entrant form works with .backward alone.
        checkpoint(loss_of(p), *leaves, use_reentrant=reentrant).backward()
        return _inner(_given([x.grad for x in leaves], leaves), p.dots)

    return run


def _hooks(p: Pack) -> torch.Tensor:
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x.clone(), lambda x: x):
        return _autograd(p)


def _functional_vjp(p: Pack) -> torch.Tensor:
    found = torch.autograd.functional.vjp(loss_of(p), _moved(p))[1]
    return _inner(found, p.dots)


def _jacobian(vectorize: bool = False) -> Callable[[Pack], Any]:
    def run(p: Pack) -> torch.Tensor:
        found = torch.autograd.functional.jacobian(loss_of(p), _moved(p), vectorize=vectorize)
        return _inner(found, p.dots)

    return run


def _second(first: str, second: str) -> Callable[[Pack], Any]:
    def run(p: Pack) -> torch.Tensor:
        loss, argnums = loss_of(p), _argnums(p)

        def slope(*xs: Any) -> torch.Tensor:
            if first == "reverse":
                return _inner(torch.func.grad(loss, argnums=argnums)(*xs), p.dots)
            return torch.func.jvp(loss, xs, tuple(p.dots))[1]

        if second == "reverse":
            return _inner(torch.func.grad(slope, argnums=argnums)(*_moved(p)), p.dots)
        return torch.func.jvp(slope, _moved(p), tuple(p.dots))[1]

    return run


def _hessian(transform: Callable[..., Any]) -> Callable[[Pack], Any]:
    def run(p: Pack) -> torch.Tensor:
        if sum(x.numel() for x in _moved(p)) > _ENTRIES or any(x.is_complex() for x in _moved(p)):
            raise NotImplementedError
        blocks = transform(loss_of(p), argnums=_argnums(p))(*_moved(p))
        total: Any = 0.0
        for row, left in zip(blocks, p.dots, strict=True):
            for block, right in zip(row, p.dots, strict=True):
                flat = block.reshape(left.numel(), right.numel())
                total = total + left.reshape(-1) @ flat @ right.reshape(-1)
        return total

    return run


def _compiled(of: Callable[..., Any]) -> Callable[[Pack], Any]:
    """The function is compiled, and its gradient taken outside."""

    def run(p: Pack) -> torch.Tensor:
        loss = torch.compile(own_code(loss_of(p)), backend="aot_eager", dynamic=False)
        return of(p, loss)

    return run


def _inside(of: Callable[[Pack], Any]) -> Callable[[Pack], Any]:
    """The transform is compiled together with the function."""

    def run(p: Pack) -> torch.Tensor:
        f, moving, free = p.f, list(p.moving), list(p.free)

        def whole(xs: Any, dots: Any, bars: Any) -> torch.Tensor:
            return of(Pack(f, xs, moving, dots, free, bars))

        compiled = torch.compile(own_code(whole), backend="aot_eager", dynamic=False)
        return compiled(list(p.xs), list(p.dots), list(p.bars))

    return run

"""How the proof looks at transforms of PyTorch functions: torch.func, batches, compiled code."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from diptych.backends.torch.proof import cost, outside, witness
from diptych.backends.torch.proof.calling import called, own_code
from diptych.proof.probes import Arrays, Function, of_moving

# What AOTAutograd says of code that looks at values or leaves PyTorch.
_UNTRACEABLE = (
    "DataDependent",
    "UnsupportedFakeTensor",
    "DynamicOutputShape",
    "numpy",
    "fake impl",
    "FakeTensor",
    "FunctionalTensor",
    "data_ptr",
    "Cannot access",
)


class TorchProbes:
    """The protocol of `diptych.proof.probes` for PyTorch."""

    growth = (8,) * 6
    integer_cotangents = False
    transforms = staticmethod(witness.transforms)
    witness = staticmethod(witness.witness)
    kept = staticmethod(cost.kept)
    timed = staticmethod(cost.timed)
    flops = staticmethod(cost.flops)
    lost = staticmethod(outside.lost)

    def pulled(self, f: Function, wanted: Sequence[bool], free: Sequence[bool]) -> Function:
        """By `torch.func.vjp`."""
        moving = [i for i, w in enumerate(wanted) if w]

        def of(*arrays: Any) -> Arrays:
            xs, bars = arrays[: len(wanted)], arrays[len(wanted) :]
            pull = torch.func.vjp(of_moving(f, xs, moving, free), *[xs[i] for i in moving])[1]
            return list(pull(tuple(bars)))

        return of

    def pushed(self, f: Function, moving: Sequence[bool], free: Sequence[bool]) -> Function:
        """By `torch.func.jvp`."""
        chosen = [i for i, m in enumerate(moving) if m]

        def of(*arrays: Any) -> Arrays:
            xs, dots = arrays[: len(moving)], arrays[len(moving) :]
            primals = tuple(xs[i] for i in chosen)
            return list(torch.func.jvp(of_moving(f, xs, chosen, free), primals, tuple(dots))[1])

        return of

    def pull_batched(
        self, f: Function, xs: Sequence[Any], wanted: Sequence[bool], bars: Sequence[Any]
    ) -> Arrays:
        """By `torch.autograd.grad(is_grads_batched=True)`, which vmaps over the backward."""
        leaves = [x.detach().requires_grad_(w) for x, w in zip(xs, wanted, strict=True)]
        with torch.enable_grad():
            outs = called(f, leaves)
        live = [
            (o, b) for o, b in zip(outs, bars, strict=True) if b is not None and o.requires_grad
        ]
        moving = [x for x, w in zip(leaves, wanted, strict=True) if w]
        if not live or not moving:
            return [None] * len(leaves)
        found = iter(
            torch.autograd.grad(
                [o for o, _ in live],
                moving,
                [b for _, b in live],
                allow_unused=True,
                is_grads_batched=True,
            )
        )
        return [next(found) if w else None for w in wanted]

    def compile(self, f: Function) -> Function:
        """By `torch.compile` with AOTAutograd, which is where derivatives are traced."""
        return torch.compile(own_code(f), backend="aot_eager", dynamic=False)

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Silences Dynamo, and lets it compile more often than its limit; no state is reset."""
        loggers = [
            logging.getLogger(name) for name in ("torch._dynamo", "torch._functorch", "torch.fx")
        ]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            with (
                warnings.catch_warnings(),
                torch._dynamo.config.patch(recompile_limit=256, accumulated_recompile_limit=4096),
            ):
                warnings.simplefilter("ignore")
                yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)

    def declared(self, target: Any, f: Function, xs: Sequence[Any]) -> set[int]:
        """An input that is returned itself was marked dirty: one that is not is returned anew."""
        args = [x.detach() for x in xs]
        with torch.no_grad():
            outs = f(*args)
        if _schema_mutates(target.thing):
            return set(range(len(args)))
        return {i for i, arg in enumerate(args) if any(out is arg for out in outs)}

    def aliases(self, target: Any, f: Function, xs: Sequence[Any]) -> list[tuple[int, int]]:
        """A view that autograd knows as one is guarded: changing it in place raises or is right."""
        floats = [x.is_floating_point() or x.is_complex() for x in xs]
        args = [x.detach().requires_grad_(m) for x, m in zip(xs, floats, strict=True)]
        with torch.enable_grad():
            args = [x.clone() for x in args]
            outs = f(*args)
        operator = _schema(target.thing) is not None and not _schema_mutates(target.thing)
        return [
            (k, i)
            for k, out in enumerate(outs)
            for i, arg in enumerate(args)
            if out is not arg and _overlap(out, arg) and (operator or not out._is_view())
        ]

    def untraceable(self, error: BaseException) -> str | None:
        """Returns what Dynamo or AOTAutograd says."""
        from torch._dynamo import exc  # slow to import, and needed after compiling alone

        if isinstance(error, exc.BackendCompilerFailed):
            inner = error.inner_exception
            text = f"{type(inner).__name__}: {inner}"
            if not any(word in text for word in _UNTRACEABLE):
                return None
            return f"not traceable ({text.splitlines()[0][:80]})"
        if isinstance(error, exc.TorchDynamoException):
            lines = [line for line in str(error).splitlines() if line.strip()]
            return f"not traceable ({(lines or [type(error).__name__])[0].strip()[:80]})"
        return None


def _schema(thing: Any) -> Any:
    operator = getattr(thing, "_opoverload", thing)
    return getattr(operator, "_schema", None) if not isinstance(thing, type) else None


def _schema_mutates(thing: Any) -> bool:
    return bool(getattr(_schema(thing), "is_mutable", False))


def _overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    if not a.numel() or not b.numel() or a.layout != torch.strided or b.layout != torch.strided:
        return False
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()

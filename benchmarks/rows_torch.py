"""The PyTorch rows: eager calls, compiled graphs, compile time, bytes saved."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch._functorch.partitioners import default_partition, min_cut_rematerialization_partition

import diptych
from cases import CASES, sin_vjp
from hand_torch import HAND, plain_sin
from measure import Row, block, counted_row, guarded, interleaved, quiet_collector, timed_row

Contenders = dict[str, Callable[[], Any]]


def _arguments(count: int, size: int = 16, requires_grad: bool = True) -> list[torch.Tensor]:
    return [torch.linspace(0.1, 1.0, size).requires_grad_(requires_grad) for _ in range(count)]


def eager_gradient(rounds: int) -> list[Row]:
    """Forward and backward of a small elementwise rule, against both hand-written forms."""
    what, rows = "torch eager forward+backward", []

    def forward_backward(f: Callable[..., Any], count: int, static: tuple[Any, ...]) -> Any:
        xs, bar = _arguments(count), torch.ones(16)
        return lambda: torch.autograd.grad(f(*xs, *static), xs, bar)

    for variant, (maker, count, static) in CASES.items():
        plain, composable = HAND[variant]

        def measure(
            variant: str = variant,
            makers: tuple[Any, ...] = (maker, plain, composable),
            count: int = count,
            static: tuple[Any, ...] = static,
        ) -> list[Row]:
            names = ("diptych", "plain", "composable")
            contenders = {
                name: forward_backward(make(), count, static)
                for name, make in zip(names, makers, strict=True)
            }
            for ours, theirs in zip(
                contenders["diptych"](), contenders["plain"](), strict=True
            ):  # a fast wrong answer is no result
                torch.testing.assert_close(ours, theirs)
            samples = interleaved(contenders, rounds)
            return [
                timed_row(what, variant, "composable", samples, theirs="composable", bound=0.8),
                timed_row(what, variant, "plain", samples, theirs="plain", bound=1.2),
            ]

        rows += guarded(what, variant, "plain", 1.2, measure)
    return rows


def _body_of(microseconds: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """A body of about that many microseconds: as many sines as it takes here and now."""
    x = torch.linspace(0.1, 1.0, 64)
    torch.sin(x)
    one = min(block(lambda: torch.sin(x), 50) for _ in range(300)) * 1e6
    times = range(max(1, round(microseconds / one)))

    def body(x: torch.Tensor) -> torch.Tensor:
        for _ in times:
            x = torch.sin(x)
        return x

    return body


def eager_no_grad(rounds: int) -> list[Row]:
    """A call that nothing differentiates, against the plain body of about 10 us."""
    what = "torch eager call, no grad"

    def measure() -> list[Row]:
        body = _body_of(10.0)
        rule = diptych.rule(body)

        @rule.vjp
        def rule_vjp(res, out_bar):
            return out_bar

        x, wanted = torch.linspace(0.1, 1.0, 64), torch.linspace(0.1, 1.0, 64, requires_grad=True)
        plain = interleaved({"diptych": lambda: rule(x), "body": lambda: body(x)}, rounds)
        with torch.no_grad():
            under = interleaved(
                {"diptych": lambda: rule(wanted), "body": lambda: body(wanted)}, rounds
            )
        against = "plain body, 10 us"
        return [
            timed_row(what, "no input requires grad", against, plain, theirs="body", bound=1.5),
            timed_row(what, "under no_grad", against, under, theirs="body", bound=1.5),
        ]

    return guarded(what, "no input requires grad", "plain body", 1.5, measure)


def _graph_nodes(
    f: Callable[..., Any], xs: list[torch.Tensor], static: tuple[Any, ...], partition: Any
) -> dict[str, list[str]]:
    """The node names of the forward and the backward graph that AOTAutograd makes of `f`."""
    graphs: dict[str, list[str]] = {"forward": [], "backward": []}

    def keeping(which: str) -> Callable[..., Any]:
        def compiler(module: Any, inputs: Any) -> Any:
            graphs[which] += [f"{node.op}:{node.target}" for node in module.graph.nodes]
            return make_boxed_func(module.forward)

        return compiler

    torch._dynamo.reset()
    backend = aot_autograd(
        fw_compiler=keeping("forward"), bw_compiler=keeping("backward"), partition_fn=partition
    )
    compiled = torch.compile(lambda *xs: f(*xs, *static), fullgraph=True, backend=backend)
    out = compiled(*xs)
    torch.autograd.grad(out, xs, torch.ones_like(out))
    torch._dynamo.reset()
    return graphs


def graph_nodes() -> list[Row]:
    """Nodes of the AOT graphs under torch.compile, against the hand-written plain Function."""
    what, rows = "torch.compile graph nodes", []
    partitions = {"default": default_partition, "min-cut": min_cut_rematerialization_partition}
    for variant, (maker, count, static) in CASES.items():
        for label, partition in partitions.items():

            def measure(
                variant: str = variant,
                maker: Any = maker,
                count: int = count,
                static: tuple[Any, ...] = static,
                label: str = label,
                partition: Any = partition,
            ) -> list[Row]:
                xs = _arguments(count)
                ours = _graph_nodes(maker(), xs, static, partition)
                theirs = _graph_nodes(HAND[variant][0](), xs, static, partition)
                return [
                    counted_row(
                        what,
                        f"{variant}, {which}, {label}",
                        "plain",
                        len(ours[which]),
                        len(theirs[which]),
                        unit="nodes",
                        extra={"ours": ours[which], "theirs": theirs[which]},
                    )
                    for which in ours
                ]

            rows += guarded(what, f"{variant}, {label}", "plain", 1.0, measure)
    return rows


def _chain(functions: list[Callable[..., Any]]) -> Callable[[Any], Any]:
    def chain(x: Any) -> Any:
        for f in functions:
            x = f(x)
        return x

    return chain


def _compile_seconds(functions: list[Callable[..., Any]], backend: str) -> float:
    """Seconds from a fresh chain to the first gradient through its compiled form."""
    torch._dynamo.reset()
    x = torch.linspace(0.1, 1.0, 16, requires_grad=True)
    chain, bar = _chain(functions), torch.ones(16)
    with quiet_collector():
        start = time.perf_counter()
        compiled = torch.compile(chain, fullgraph=True, backend=backend)
        torch.autograd.grad(compiled(x), x, bar)
        return time.perf_counter() - start


def compile_time(rounds: int, inductor_rounds: int, length: int = 50) -> list[Row]:
    """Trace and compile time of a chain of rules, fresh in each round."""
    from torch._inductor.utils import fresh_cache

    what, rows = f"torch.compile time, {length} rules", []
    fresh = {
        "one rule": lambda make: [make()] * length,
        "distinct rules": lambda make: [make() for _ in range(length)],
    }
    plans = [("aot_eager", kind, rounds) for kind in fresh]
    plans += [("inductor", "one rule", inductor_rounds)] if inductor_rounds else []
    for backend, kind, times in plans:

        def measure(backend: str = backend, kind: str = kind, times: int = times) -> list[Row]:
            samples: dict[str, list[float]] = {"diptych": [], "plain": []}
            for turn in range(times + 1):
                for name, make in (("diptych", sin_vjp), ("plain", plain_sin)):
                    with fresh_cache():
                        seconds = _compile_seconds(fresh[kind](make), backend)
                    if turn:  # the first of each warms the compiler itself
                        samples[name].append(seconds)
            row = timed_row(
                what, f"{kind}, {backend}", "plain", samples, theirs="plain", bound=1.3, unit="ms"
            )
            return [row]

        rows += guarded(what, f"{kind}, {backend}", "plain", 1.3, measure)
    return rows


def _saved(f: Callable[..., Any], xs: list[torch.Tensor], static: tuple[Any, ...]) -> list[int]:
    """Bytes packed between forward and backward: of distinct storages, and of all tensors."""
    storages: dict[int, int] = {}
    packed = 0

    def pack(x: torch.Tensor) -> torch.Tensor:
        nonlocal packed
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        packed += x.nbytes
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = f(*xs, *static)
    del out
    return [sum(storages.values()), packed]


def _give_freed_memory_back() -> None:
    """Make glibc map large blocks one by one, so that freeing one shows in the resident size."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 1 << 17)  # M_MMAP_THRESHOLD; setting it also stops glibc from raising it


def _resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _held(f: Callable[..., Any], xs: list[torch.Tensor], static: tuple[Any, ...]) -> int:
    """Resident bytes that a graph of 8 calls holds, however it holds them."""
    before = _resident()
    outs = xs
    for _ in range(8):
        outs = [f(*outs, *static), *xs[1:]]
    return _resident() - before


def bytes_saved() -> list[Row]:
    """Bytes kept between forward and backward, against the plain Function."""
    _give_freed_memory_back()
    what, rows = "torch bytes saved", []
    for variant, (maker, count, static) in CASES.items():

        def measure(
            variant: str = variant,
            maker: Any = maker,
            count: int = count,
            static: tuple[Any, ...] = static,
        ) -> list[Row]:
            makers = {"ours": maker, "theirs": HAND[variant][0]}
            small, large = _arguments(count, 1024), _arguments(count, 2**21)
            saved = {name: _saved(make(), small, static) for name, make in makers.items()}
            held = {name: _held(make(), large, static) / 2**20 for name, make in makers.items()}
            return [
                counted_row(
                    what,
                    variant,
                    "plain",
                    saved["ours"][0],
                    saved["theirs"][0],
                    unit="B",
                    extra={name: {"all tensors": both[1]} for name, both in saved.items()},
                ),
                counted_row(
                    "torch memory of 8 calls", variant, "plain", **held, bound=1.02, unit="MiB"
                ),
            ]

        rows += guarded(what, variant, "plain", 1.0, measure)
    return sorted(rows, key=lambda row: row.what)

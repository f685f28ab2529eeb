"""What a check costs beside the checkers there are: seconds and memory, in one run.

    python benchmarks/check.py [--json PATH] [--quick] [--framework torch|jax]

A full check at order 2 (every claim, neighbours and compilation apart) against
`gradcheck` + `gradgradcheck` with their forward and batched checks on, and against
`check_grads(order=2, modes=("fwd", "rev"))`. Those of PyTorch build Jacobians column by column:
beyond a few thousand inputs they are not measured. Both are measured in turn, in a process of
their own, and of a few rounds the fastest counts: `cpu` is what the processor worked, which a busy
machine changes least. `first` is the first check of a fresh process, in which JAX compiles what it
evaluates; theirs is taken in a process of its own as well. `calls` is how often the function is
called in one check. `memory` is what the process grew by at most while checking.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_ENABLE_X64", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

import diptych

SIZES = (10, 1_000, 100_000)
LIMIT = 60.0  # seconds that one of the other checkers may take

Case = tuple[Callable[..., Any], tuple[Any, ...]]


def cases(framework: str, size: int) -> dict[str, Case]:
    """Returns functions with about `size` inputs, and their arguments in float64."""
    rng = np.random.default_rng(0)
    side = max(2, round((size / 2) ** 0.5))  # of two square matrices
    whole = max(2, round(size**0.5))  # of one
    root = max(2, round((size / 3) ** 0.5))  # of three
    length = max(4, size)

    if framework == "torch":
        import torch

        def array(*shape: int) -> Any:
            return torch.from_numpy(rng.normal(size=shape)).requires_grad_()

        def attention(q: Any, k: Any, v: Any) -> Any:
            return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v

        return {
            "elementwise": (lambda x: torch.sin(x) * torch.exp(-x * x), (array(length),)),
            "matmul": (torch.matmul, (array(side, side), array(side, side))),
            "solve": (
                lambda a, b: torch.linalg.solve(a + 3 * whole * torch.eye(len(a)).double(), b),
                (array(whole, whole), array(whole)),
            ),
            "conv": (
                lambda x, w: torch.nn.functional.conv1d(x, w, padding=1),
                (array(1, 2, length // 2), array(2, 2, 3)),
            ),
            "attention": (attention, (array(root, root), array(root, root), array(root, root))),
        }
    import jax
    import jax.numpy as jnp

    def array(*shape: int) -> Any:
        return jnp.asarray(rng.normal(size=shape))

    def attention(q: Any, k: Any, v: Any) -> Any:
        return jax.nn.softmax(q @ k.T / q.shape[-1] ** 0.5, -1) @ v

    return {
        "elementwise": (lambda x: jnp.sin(x) * jnp.exp(-x * x), (array(length),)),
        "matmul": (jnp.matmul, (array(side, side), array(side, side))),
        "solve": (
            lambda a, b: jnp.linalg.solve(a + 3 * whole * jnp.eye(len(a)), b),
            (array(whole, whole), array(whole)),
        ),
        "conv": (
            lambda x, w: jax.lax.conv(x, w, (1,), "SAME"),
            (array(1, 2, length // 2), array(2, 2, 3)),
        ),
        "attention": (attention, (array(root, root), array(root, root), array(root, root))),
    }


def ours(f: Callable[..., Any], args: tuple[Any, ...], **options: Any) -> Any:
    """Checks everything but neighbours and compilation."""
    report = diptych.check(f, *args, order=2, neighbours=False, compile=False, **options)
    return report


def theirs(framework: str, f: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Runs the framework's own checkers with all that they check."""
    if framework == "torch":
        from torch.autograd import gradcheck, gradgradcheck

        options = {"check_batched_grad": True, "raise_exception": False}
        gradcheck(f, args, check_forward_ad=True, check_batched_forward_grad=True, **options)
        gradgradcheck(f, args, check_fwd_over_rev=True, check_rev_over_rev=True, **options)
        return
    from jax.test_util import check_grads

    try:
        check_grads(f, args, order=2, modes=("fwd", "rev"))
    except AssertionError:
        pass  # its verdict is not what is measured here


class Clock(NamedTuple):
    """What one run took: seconds by the wall, and of the processor."""

    wall: float
    cpu: float


def timed(run: Callable[[], Any]) -> Clock:
    """Returns what one run takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Clock(time.perf_counter() - wall, time.process_time() - cpu)


def fastest(found: list[Clock]) -> Clock:
    """Returns the least by each clock."""
    return Clock(*map(min, zip(*found, strict=True)))


def first_of_theirs(framework: str, name: str, size: int) -> dict[str, float]:
    """Returns what the framework's own checkers take in a fresh process."""
    f, args = cases(framework, size)[name]
    return timed(lambda: theirs(framework, f, args))._asdict()


def measure(framework: str, name: str, size: int, rounds: int) -> dict[str, Any]:
    """Returns one row: this case at this size, both checkers in turn."""
    f, args = cases(framework, size)[name]
    inputs = sum(int(np.prod(x.shape)) for x in args)
    row: dict[str, Any] = {"framework": framework, "case": name, "inputs": inputs}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = None

    def check() -> None:
        nonlocal report
        report = ours(f, args)

    row["first"] = timed(check)._asdict()
    row["findings"] = [f"{x.claim}: {x.cause}" for x in report.findings]  # type: ignore[union-attr]
    row["memory"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    calls = 0

    def counted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        return f(*args)

    ours(counted, args)
    row["calls"] = calls
    # Their cost grows by the square of the inputs: 1,000 entries take seconds, 100,000 a day.
    possible = framework == "jax" or inputs <= 3_000
    mine: list[Clock] = []
    others: list[Clock] = []
    for _ in range(rounds):
        mine += [timed(check) for _ in range(3)]
        if possible and sum(clock.wall for clock in others) < LIMIT:
            others.append(timed(lambda: theirs(framework, f, args)))
    row["diptych"] = fastest(mine)._asdict()
    row["theirs"] = fastest(others)._asdict() if others else None
    return row


def in_own_process(framework: str, name: str, size: int, rounds: int) -> dict[str, Any]:
    """Returns the row as fresh processes measure it."""
    row = _own("--one", framework, name, str(size), str(rounds))
    row["theirs_first"] = None
    if framework == "jax":  # which compiles in the first run
        row["theirs_first"] = _own("--theirs", framework, name, str(size))
    return row


def _own(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *arguments]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=900)
    return json.loads(run.stdout.splitlines()[-1])


def show(rows: list[dict[str, Any]]) -> None:
    """Prints the rows as a table."""
    table = Table(title="a full check at order 2, beside the framework's own checkers")
    for column in ("framework", "case"):
        table.add_column(column)
    columns = ("inputs", "calls", "first, s", "theirs, s", "again, s", "theirs, s")
    for column in (*columns, "times faster", "by cpu", "memory, MB"):
        table.add_column(column, justify="right")
    table.add_column("findings")
    for row in rows:
        mine, theirs, first = row["diptych"], row["theirs"], row["theirs_first"]
        ratios = [f"{theirs[k] / mine[k]:.2g}" if theirs else "-" for k in ("wall", "cpu")]
        table.add_row(
            row["framework"],
            row["case"],
            f"{row['inputs']:,}",
            str(row["calls"]),
            f"{row['first']['wall']:.2f}",
            f"{first['wall']:.2f}" if first else "-",
            f"{mine['wall']:.3f}",
            f"{theirs['wall']:.2f}" if theirs else "-",
            *ratios,
            f"{row['memory']:.0f}",
            ", ".join(dict.fromkeys(row["findings"])) or "none",
        )
    Console(width=160).print(table)


def main() -> int:
    """Measures, prints, and keeps the rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="keep the rows here")
    parser.add_argument("--quick", action="store_true", help="10 and 1,000 inputs, one round")
    parser.add_argument("--framework", choices=("torch", "jax"), help="only this one")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--theirs", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.one:
        framework, name, size, rounds = options.one
        print(json.dumps(measure(framework, name, int(size), int(rounds))))
        return 0
    if options.theirs:
        framework, name, size = options.theirs
        print(json.dumps(first_of_theirs(framework, name, int(size))))
        return 0
    rows = []
    for framework in [options.framework] if options.framework else ["torch", "jax"]:
        for name in cases(framework, 10):
            for size in SIZES[:2] if options.quick else SIZES:
                rows.append(in_own_process(framework, name, size, 1 if options.quick else 3))
                print(f"{framework} {name} {rows[-1]['inputs']}", file=sys.stderr, flush=True)
    show(rows)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

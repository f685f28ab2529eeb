"""What a rule costs beside hand-written code: every row a ratio measured in this run.

    python benchmarks/overhead.py [--json PATH] [--quick | --full] [--only TEXT] [--framework NAME]

Rounds are interleaved (ours, theirs, ours, ...), the garbage collector is off while the clock
runs, one thread computes. `ratio` is of medians, `of min` of the fastest rounds; a verdict is
`pass` or `over` against the bound in `at most`, `info` where there is none.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Read when the frameworks are imported: one thread, no pool that wakes up in the middle.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from rich.console import Console

from measure import Row, print_rows, print_worst, worst

Section = Callable[[], list[Row]]


def torch_sections(quick: bool) -> dict[str, Section]:
    """The PyTorch measurements by name."""
    import torch

    import rows_torch

    torch.set_num_threads(1)
    rounds = 100 if quick else 600
    return {
        "torch eager gradient": lambda: rows_torch.eager_gradient(rounds),
        "torch eager call": lambda: rows_torch.eager_no_grad(rounds),
        "torch graph nodes": rows_torch.graph_nodes,
        "torch compile time": lambda: rows_torch.compile_time(3 if quick else 7, 0 if quick else 3),
        "torch bytes": rows_torch.bytes_saved,
    }


def jax_sections(quick: bool) -> dict[str, Section]:
    """The JAX measurements by name."""
    import rows_jax

    rounds = 100 if quick else 600
    return {
        "jax eager call": lambda: rows_jax.eager_call(rounds),
        "jax eager derivatives": lambda: rows_jax.eager_derivatives(rounds),
        "jax hlo": rows_jax.hlo_instructions,
        "jax compile time": lambda: rows_jax.compile_time(3 if quick else 9),
        "jax bytes": rows_jax.residual_bytes,
        "jax new keys": lambda: rows_jax.eager_new_keys(10 if quick else 40),
    }


def growth_sections(quick: bool, full: bool, frameworks: list[str]) -> dict[str, Section]:
    """Import time and growth of cost by name."""
    import rows_growth

    rounds = 10 if quick else 30
    # JAX compiles for each new shape and static argument, hand-written or not: fewer of them.
    many = {
        "torch": 1_000 if quick else 10_000,
        "jax": 10_000 if full else 1_400,
    }
    sections: dict[str, Section] = {
        "import": lambda: rows_growth.import_time(5 if quick else 11),
    }
    for framework in frameworks:
        sections[f"{framework} leaves"] = lambda name=framework: rows_growth.leaves(name, rounds)
        sections[f"{framework} calls before"] = lambda name=framework: rows_growth.calls_before(
            name, many[name], rounds
        )
    return sections


def environment() -> dict[str, Any]:
    """Where and with what this run was made."""
    versions = {
        name: module.__version__
        for name in ("torch", "jax", "numpy")
        if (module := sys.modules.get(name))
    }
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **versions,
    }


def keep(rows: list[Row], path: Path) -> None:
    """Write the rows as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "environment": environment(),
        "worst": [f"{row.what} / {row.against}: {row.verdict}" for row in worst(rows)],
        "rows": [row.as_record() for row in rows],
    }
    path.write_text(json.dumps(record, indent=1) + "\n")


def main() -> int:
    """Run the sections asked for, print the table, keep it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="keep the rows here")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no inductor")
    parser.add_argument("--full", action="store_true", help="10,000 calls before on JAX too")
    parser.add_argument("--only", default="", help="only sections whose name contains this")
    parser.add_argument("--framework", choices=("torch", "jax"), help="only this framework's rows")
    parser.add_argument("--list", action="store_true", help="print the sections and stop")
    parser.add_argument("--strict", action="store_true", help="exit 1 unless every bound is met")
    options = parser.parse_args()

    frameworks = [options.framework] if options.framework else ["torch", "jax"]
    sections: dict[str, Section] = {}
    if "torch" in frameworks:
        sections |= torch_sections(options.quick)
    if "jax" in frameworks:
        sections |= jax_sections(options.quick)
    sections |= growth_sections(options.quick, options.full, frameworks)
    chosen = {name: run for name, run in sections.items() if options.only in name}
    if options.list:
        print("\n".join(chosen))
        return 0

    rows: list[Row] = []
    for name, run in chosen.items():
        start = time.perf_counter()
        rows += run()
        print(f"{name}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
        if options.json:  # after each section: a run that is stopped keeps what it measured
            keep(rows, options.json)
    console = Console(width=150)
    print_rows(rows, "diptych beside hand-written code", console)
    print_worst(rows, console)
    broken = [row for row in rows if row.verdict in ("over", "error")]
    return 1 if options.strict and (broken or not rows) else 0


if __name__ == "__main__":
    sys.exit(main())

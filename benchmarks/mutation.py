"""How many mutants of rules diptych.check finds: rules by kinds of mistake.

    python benchmarks/mutation.py [--framework torch|jax] [--only TEXT] [--every N] [--json PATH]

The rules are `tests/check/mutated_rules.py` and, in PyTorch, those of the demo and of the tests. A
cell is found/changing: of the mutants that change the derivative at the example, judged by the
framework's own autograd and not by the checker, those with a finding. Each rule without a mistake
must have none. `made` counts harmless mutants too, `refused` those that have no derivative at all.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_ENABLE_X64", "1")

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "check"))
mutants = importlib.import_module("mutants")  # which the tests own
elsewhere = importlib.import_module("mutated_elsewhere")
mutated_rules = importlib.import_module("mutated_rules")


def cases(framework: str) -> list[Any]:
    """Returns the rules that run in a framework."""
    found = [*mutated_rules.CASES, *elsewhere.demo_cases()]
    if framework == "torch":
        found += elsewhere.function_db_cases()
    witnesses, module = elsewhere.witness_cases(framework)
    module.VJP_SCALE = module.JVP_SCALE = 1.0  # then they are rules like others
    return [*found, *witnesses]


def table(results: list[Any]) -> Table:
    """Returns rules by kinds of mistake."""
    kinds = sorted({r.kind for r in results})
    made = Table(title="found/changing")
    made.add_column("rule", no_wrap=True)
    for name in (*kinds, "made", "refused", "all"):
        made.add_column(name, justify="right")
    names = list(dict.fromkeys((r.case, r.framework) for r in results))
    for name in (*names, None):
        row = [r for r in results if name in (None, (r.case, r.framework))]
        cells = [_share([r for r in row if r.kind == kind]) for kind in kinds]
        refused = sum(r.raises for r in row)
        label = " ".join(name) if name else "all"
        made.add_row(label, *cells, str(len(row)), str(refused), _share(row), end_section=not name)
    return made


def _share(results: list[Any]) -> str:
    changing = [r for r in results if r.changes]
    return f"{sum(r.found for r in changing)}/{len(changing)}" if changing else ""


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--framework", choices=["torch", "jax"], action="append")
    parser.add_argument("--only", default="", help="rules whose name contains this")
    parser.add_argument("--every", type=int, default=1, help="2: every second mutant")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # mutants divide by zero
    results: list[Any] = []
    for framework in options.framework or ["torch", "jax"]:
        for case in cases(framework):
            if options.only not in case.name:
                continue
            print(f"{case.name} ({framework})", file=sys.stderr, flush=True)
            for text in mutants.findings(case, mutants.rebuilt(case.rule), framework):
                print(f"false finding: {case.name} ({framework}): {text}")
            results += mutants.tried(case, framework, options.every)
    Console(width=220).print(table(results))
    for r in results:
        if r.changes and not r.found:
            print(f"missed: {r.case} ({r.framework}), {r.kind}: {r.what}")
    changing = [r for r in results if r.changes]
    whole = [r for r in changing if not r.raises]
    for label, of in (("that change the derivative", changing), ("and are not refused", whole)):
        share = sum(r.found for r in of) / max(len(of), 1)
        print(f"{label}: {_share(of)} found ({share:.2%})")
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(r) for r in results], indent=1))


if __name__ == "__main__":
    main()

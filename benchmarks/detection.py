"""What finds which defect: diptych.check beside the frameworks' own checkers, on one corpus.

    python benchmarks/detection.py [--json PATH] [--only TEXT] [--budget SECONDS] [--no-compile]

The corpus is `tests/check/broken` and `tests/check/sound`. Each tool is given the same example:
`diptych.check` with its defaults, `torch.autograd.gradcheck` and `gradgradcheck` with theirs
(forward mode too where the Function has a `jvp`), `jax.test_util.check_grads(order=2)` in the modes
that the function has. A broken derivative counts as found if the tool raises or has a finding; for
diptych also whether a claim expected named the cause expected. A sound one must not be found.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_ENABLE_X64", "1")

import numpy as np
from rich.console import Console
from rich.table import Table

import diptych
from diptych.proof.prober import prober_of
from diptych.proof.subject import Subject, example_of
from diptych.proof.target import target_of

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "check"))
corpus = importlib.import_module("corpus")  # which the tests own

TOOLS = ("diptych", "gradcheck", "check_grads")


def flat(entry: Any, framework: str) -> tuple[Callable[..., Any], list[Any], list[bool]]:
    """Returns the entry as a function of arrays, its arrays, and which have a derivative.

    Without the session in which diptych fixes random numbers: as the framework's own users call it.
    """
    prober = prober_of(framework)
    target, args = target_of(entry.f, prober, entry.args())
    subject = Subject(target, prober, example_of(target, args, prober.numpy, prober.is_array))
    call = subject.function(getattr(target.thing, "apply", None))
    with prober.session(0):
        return lambda *xs: tuple(call(*xs)), subject.arrays(), subject.moving


def by_gradcheck(entry: Any) -> str | None:
    """Returns what gradcheck and gradgradcheck say; `None` where they find nothing."""
    import torch

    f, arrays, moving = flat(entry, "torch")
    xs = [
        (x.to(torch.complex128 if x.is_complex() else torch.float64)).requires_grad_() if m else x
        for x, m in zip(arrays, moving, strict=True)
    ]
    forward = getattr(entry.f, "jvp", None) is not torch.autograd.Function.jvp and isinstance(
        entry.f, type
    )
    for test, options in (
        (torch.autograd.gradcheck, {"check_forward_ad": forward}),
        (torch.autograd.gradgradcheck, {}),
    ):
        try:
            test(f, xs, **options)
        except Exception as error:
            return f"{test.__name__}: {type(error).__name__}"
    return None


def by_check_grads(entry: Any) -> str | None:
    """Returns what check_grads says at order 2; `None` where it finds nothing."""
    import jax
    from jax.test_util import check_grads

    f, arrays, moving = flat(entry, "jax")
    free = [
        x.astype(np.result_type(x.dtype, np.float64))
        for x, m in zip(arrays, moving, strict=True)
        if m
    ]

    def of_free(*values: Any) -> Any:
        given = iter(values)
        outs = f(*[next(given) if m else x for x, m in zip(arrays, moving, strict=True)])
        return [o for o in outs if np.dtype(o.dtype).kind in "fc"]

    modes = ["rev"] if isinstance(entry.f, jax.custom_vjp) else ["fwd", "rev"]
    try:
        check_grads(of_free, tuple(free), order=2, modes=modes)
    except Exception as error:
        return f"check_grads: {type(error).__name__}"
    return None


def by_diptych(entry: Any, options: dict[str, Any]) -> tuple[str | None, bool]:
    """Returns diptych's first finding that counts, and whether its cause is the right one."""
    report = diptych.check(entry.f, *entry.args(), **{**entry.options, **options})
    if not report.findings:
        return None, False
    right = [f for f in report.findings if entry.matches(f)]
    first = (right or report.findings)[0]
    return f"{first.claim}: {first.cause}", bool(right)


def measure(entry: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Returns one row: what each tool says, and how long it takes."""
    row: dict[str, Any] = {
        "name": entry.name, "framework": entry.framework, "sound": entry.sound,
        "seen": entry.seen, "claims": entry.claims, "causes": entry.causes, "seconds": {},
    }  # fmt: skip
    tools: dict[str, Callable[[], Any]] = {"diptych": lambda: by_diptych(entry, options)}
    if entry.framework in ("torch", "rules"):
        tools["gradcheck"] = lambda: by_gradcheck(entry)
    if entry.framework in ("jax", "rules"):
        tools["check_grads"] = lambda: by_check_grads(entry)
    for name, run in tools.items():
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                said = run()
            except Exception as error:  # the tool itself fails: neither found nor passed
                said = f"({type(error).__name__})"
                said = (said, False) if name == "diptych" else said
        row["seconds"][name] = round(time.perf_counter() - started, 3)
        if name == "diptych":
            row["diptych"], row["right cause"] = said
        else:
            row[name] = said
    return row


def cell(row: dict[str, Any], tool: str) -> str:
    """Returns what the table says of one tool."""
    if tool not in row:
        return "[dim]-"
    said = row[tool]
    good = (said is None) == row["sound"]
    if said is None:
        return "[green]no finding" if good else "[red]missed"
    if row["sound"]:
        return f"[red]{said}"
    if tool == "diptych" and not row["right cause"]:
        return f"[yellow]{said}"
    return f"[green]{said}"


def tables(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Prints the table of broken derivatives, that of sound ones, and the totals."""
    for sound, title in ((False, "Broken derivatives"), (True, "Sound derivatives")):
        chosen = [r for r in rows if r["sound"] is sound]
        if not chosen:
            continue
        table = Table(title=title, title_justify="left", title_style="bold")
        table.add_column("function", overflow="fold")
        table.add_column("what is wrong" if not sound else "what is tricky", overflow="fold")
        for tool in TOOLS:
            table.add_column(tool, overflow="fold")
        for row in chosen:
            table.add_row(row["name"], row["seen"], *[cell(row, tool) for tool in TOOLS])
        console.print(table)
    totals = Table(title="Totals", title_justify="left", title_style="bold")
    for column in ("", *TOOLS):
        totals.add_column(column, justify="left" if not column else "right")
    for said, of in summary(rows).items():
        totals.add_row(said, *[of[tool] for tool in TOOLS])
    console.print(totals)


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Returns the totals for each tool, over the functions that it was given."""
    found: dict[str, dict[str, str]] = {"broken, found": {}, "broken, right cause": {},
                                        "sound, alarmed": {}, "seconds": {}}  # fmt: skip
    for tool in TOOLS:
        mine = [r for r in rows if tool in r]
        bad = [r for r in mine if not r["sound"]]
        good = [r for r in mine if r["sound"]]
        found["broken, found"][tool] = f"{sum(r[tool] is not None for r in bad)} of {len(bad)}"
        found["broken, right cause"][tool] = (
            f"{sum(bool(r['right cause']) for r in bad)} of {len(bad)}"
            if tool == "diptych"
            else "-"
        )
        found["sound, alarmed"][tool] = f"{sum(r[tool] is not None for r in good)} of {len(good)}"
        found["seconds"][tool] = f"{sum(r['seconds'][tool] for r in mine):.0f}"
    return found


def main() -> int:
    """Measures the corpus and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="keep the rows and totals here")
    parser.add_argument("--only", default="", help="only functions whose name contains this")
    parser.add_argument("--budget", type=float, default=5.0, help="seconds for the neighbours")
    parser.add_argument("--no-compile", action="store_true", help="leave compilation out")
    parser.add_argument("--width", type=int, default=130)
    options = parser.parse_args()
    given = {"budget": options.budget, "compile": not options.no_compile, "neighbours": True}
    rows = []
    chosen = [e for e in corpus.entries() if options.only in e.name]
    for k, entry in enumerate(chosen, 1):
        rows.append(measure(entry, given))
        print(f"{k} of {len(chosen)}: {entry.name}", file=sys.stderr, flush=True)
        if options.json:  # after each: a run that is stopped keeps what it measured
            record = {"rows": rows, "totals": summary(rows), "options": given}
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(record, indent=1, default=str) + "\n")
    tables(rows, Console(width=options.width))
    missed = [r for r in rows if (r["diptych"] is None) != r["sound"]]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

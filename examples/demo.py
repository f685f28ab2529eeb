"""Measures one rule under every transform of PyTorch and JAX, and fits a model with it.

    python examples/demo.py               what `make demo` runs
    python examples/demo.py --why         also each call that was wrong or raised, and how
    python examples/demo.py --markdown    only the table, as README shows it

Each cell is the worst of several calls, each compared here and now with a closed form:

    right    all of them gave the closed form's numbers
    WRONG    one gave other numbers, and no error
    raises   one raised
    none     the framework has no such call for this function, rule or no rule
    -        not measured
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

from demo_table import CASES, Cell, measure

# Read when the frameworks are imported, in the processes started below: float64, devices to shard
# over, and quick compilation rather than quick code.
SETTINGS = {
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_X64": "1",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=4 "
    "--xla_cpu_parallel_codegen_split_count=1 --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true",
    "JAX_TRACEBACK_FILTERING": "off",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "OMP_NUM_THREADS": "1",
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
}

FORMS = {
    "PyTorch": {
        "diptych": "diptych",
        "plain": "a plain autograd.Function",
        "composable": "one with setup_context, jvp and vmap",
    },
    "JAX": {
        "diptych": "diptych",
        "custom_vjp": "jax.custom_vjp",
        "custom_jvp": "jax.custom_jvp",
    },
}

# Ways to write a rule of which most calls compile.
HOPEFUL = {"diptych", "custom_jvp"}

Table = dict[str, dict[str, Cell]]  # row -> case -> cell


def quiet() -> None:
    """Silences what the frameworks say about the calls that fail on purpose."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)


def measure_torch(form: str) -> Table:
    quiet()
    import torch

    import demo_hand_torch
    import demo_rules
    import demo_torch

    torch.set_num_threads(1)
    functions = {
        "diptych": demo_rules.RULES,
        "plain": demo_hand_torch.PLAIN,
        "composable": demo_hand_torch.COMPOSABLE,
    }[form]
    return _measure(form, demo_torch.rows(), functions, demo_hand_torch.BARE, torch.tensor)


def measure_jax(form: str) -> Table:
    quiet()
    import jax.numpy as jnp

    import demo_hand_jax
    import demo_jax
    import demo_rules

    functions = {
        "diptych": demo_rules.RULES,
        "custom_vjp": demo_hand_jax.CUSTOM_VJP,
        "custom_jvp": demo_hand_jax.CUSTOM_JVP,
    }[form]
    return _measure(form, demo_jax.rows(), functions, demo_hand_jax.BARE, jnp.asarray)


def _measure(
    form: str,
    rows: Iterable[Any],
    functions: dict[str, Any],
    bare: dict[str, Any],
    as_array: Callable,
) -> Table:
    def cell(row: Any, case: Any) -> Cell:
        function, body = functions[case.name], bare[case.name]
        return measure(row, case, function, body, as_array(case.x()), form in HOPEFUL)

    return {row.name: {case.name: cell(row, case) for case in CASES} for row in rows}


def fit(framework: str) -> Any:
    quiet()
    import demo_newton

    return getattr(demo_newton, f"fit_{framework}")()


def tables(submit: Callable[..., Future]) -> dict[str, dict[str, Future]]:
    """Starts every measurement, the long ones first."""
    jobs = {"PyTorch": measure_torch, "JAX": measure_jax}
    found: dict[str, dict[str, Future]] = {name: {} for name in jobs}
    for name, job in jobs.items():
        for form in FORMS[name]:
            found[name][form] = submit(job, form)
    return found


def main() -> int:
    """Prints the tables and the regression; fails if diptych is anywhere not right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--markdown", action="store_true", help="only the table, in Markdown")
    parser.add_argument("--why", action="store_true", help="say what each failing call gave")
    options = parser.parse_args()

    import demo_print

    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    # Two processes: none imports what it does not need, and two cores are what a demo may take.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool, demo_print.waiting() as progress:

        def submit(job: Callable, *args: Any) -> Future:
            return progress.follow(pool.submit(job, *args))

        started = tables(submit)
        names = () if options.markdown else ("torch", "jax", "sklearn")
        fits = [submit(fit, name) for name in names]
        measured = {
            framework: {form: future.result() for form, future in forms.items()}
            for framework, forms in started.items()
        }
        solutions = [future.result() for future in fits]

    if options.markdown:
        print(demo_print.markdown(measured))
        return 0
    demo_print.tables(measured)
    if options.why:
        demo_print.reasons(measured)
    agree = demo_print.regression(solutions)
    return 0 if demo_print.summary(measured) and agree else 1


if __name__ == "__main__":
    sys.exit(main())

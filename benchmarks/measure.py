"""What every benchmark shares: interleaved rounds, rows with a bound, the printed table."""

from __future__ import annotations

import gc
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass
class Row:
    """One measured ratio and the bound it is held to (no bound: for information)."""

    what: str
    variant: str
    against: str
    ratio: float | None = None
    bound: float | None = None
    ratio_min: float | None = None  # ratio of the fastest rounds: what is left without noise
    ours: float | None = None
    theirs: float | None = None
    unit: str = "us"
    rounds: int = 1
    note: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """`pass`, `over`, `error`, or `info` where there is no bound."""
        if self.ratio is None:
            return "error"
        if self.bound is None:
            return "info"
        # Two decimals are what the table shows and about what the timer can hold.
        return "pass" if round(self.ratio, 2) <= self.bound else "over"

    def as_record(self) -> dict[str, Any]:
        """The row as JSON keeps it."""
        return {**asdict(self), "verdict": self.verdict}


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Collect once, then keep the garbage collector out of what is timed."""
    gc.collect()
    gc.freeze()  # what is there already need not be looked through between rounds
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_on:
            gc.enable()


def block(call: Callable[[], Any], number: int) -> float:
    """Seconds per call over `number` calls."""
    loop = range(number)
    start = time.perf_counter()
    for _ in loop:
        call()
    return (time.perf_counter() - start) / number


def interleaved(
    contenders: dict[str, Callable[[], Any]], rounds: int = 200, block_seconds: float = 0.0005
) -> dict[str, list[float]]:
    """Seconds per call of each contender, one value per round; A, B, C, then again.

    The order turns by one place each round, so that none always runs in the wake of another.
    Blocks are shorter than a scheduler's slice and many: on a machine that others use, most
    blocks are then whole ones, and the median is of these.
    """
    number = {}
    for name, call in contenders.items():
        for _ in range(3):
            call()
        number[name] = max(1, int(block_seconds / max(block(call, 3), 1e-8)))
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    with quiet_collector():
        for turn in range(rounds):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                samples[name].append(block(contenders[name], number[name]))
            if turn % 50 == 49:
                gc.collect()
    return samples


def timed_row(
    what: str,
    variant: str,
    against: str,
    samples: dict[str, list[float]],
    *,
    theirs: str,
    ours: str = "diptych",
    bound: float | None = None,
    unit: str = "us",
) -> Row:
    """The row that compares two contenders of one interleaved run, median against median."""
    scale = {"us": 1e6, "ms": 1e3, "s": 1.0}[unit]
    mine, other = samples[ours], samples[theirs]
    return Row(
        what,
        variant,
        against,
        ratio=statistics.median(mine) / statistics.median(other),
        bound=bound,
        ratio_min=min(mine) / min(other),
        ours=statistics.median(mine) * scale,
        theirs=statistics.median(other) * scale,
        unit=unit,
        rounds=len(mine),
        extra={"ours_min": min(mine) * scale, "theirs_min": min(other) * scale},
    )


def counted_row(
    what: str,
    variant: str,
    against: str,
    ours: float,
    theirs: float,
    *,
    bound: float | None = 1.0,
    unit: str = "",
    extra: dict[str, Any] | None = None,
) -> Row:
    """The row that compares two counts (instructions, nodes, bytes); they have no noise."""
    ratio = ours / theirs if theirs else (1.0 if not ours else float("inf"))
    return Row(
        what, variant, against, ratio, bound, ratio, ours, theirs, unit, extra=dict(extra or {})
    )


def guarded(
    what: str, variant: str, against: str, bound: float | None, rows: Callable[[], list[Row]]
) -> list[Row]:
    """The rows of one measurement; one that raises becomes a row that says so."""
    try:
        return rows()
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return [
            Row(
                what,
                variant,
                against,
                bound=bound,
                note=reason[:300],
                extra={"traceback": traceback.format_exc()[-4000:]},
            )
        ]


def number(value: float | None) -> str:
    """A number in three or four figures."""
    if value is None:
        return "-"
    if value >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.1f}"


_COLOURS = {"pass": "green", "over": "red", "error": "magenta", "info": "dim"}
_WORST_FIRST = ("error", "over", "pass", "info")


def _cells(row: Row) -> list[str]:
    colour = _COLOURS[row.verdict]
    return [
        "-" if row.ratio is None else f"{row.ratio:.2f}",
        "-" if row.ratio_min is None else f"{row.ratio_min:.2f}",
        "-" if row.bound is None else f"{row.bound:g}",
        f"[{colour}]{row.verdict}[/]",
    ]


def print_rows(rows: list[Row], title: str, console: Console) -> None:
    """Print every row, and below the table why a row could not be measured."""
    table = Table(title=title)
    for name in ("what", "variant", "against"):
        table.add_column(name)
    for name in ("diptych", "other", "unit", "ratio", "of min", "at most", "verdict"):
        table.add_column(name, justify="right", no_wrap=True)
    last = None
    for row in rows:
        if last is not None and row.what != last:
            table.add_section()
        table.add_row(
            row.what if row.what != last else "",
            row.variant,
            row.against,
            number(row.ours),
            number(row.theirs),
            row.unit,
            *_cells(row),
        )
        last = row.what
    console.print(table)
    for row in rows:
        if row.note:
            console.print(f"{row.what}, {row.variant}: {row.note}", markup=False, soft_wrap=True)


def worst(rows: list[Row]) -> list[Row]:
    """The worst row of each measurement that has a bound: what a claim must rest on."""
    groups: dict[tuple[str, str, float], list[Row]] = {}
    for row in rows:
        if row.bound is not None:
            groups.setdefault((row.what, row.against, row.bound), []).append(row)
    return [
        min(group, key=lambda row: (_WORST_FIRST.index(row.verdict), -(row.ratio or 0.0)))
        for group in groups.values()
    ]


def print_worst(rows: list[Row], console: Console) -> None:
    """Print the worst row of each measurement beside the number of rows that passed."""
    table = Table(title="each bound, by its worst variant")
    for name in ("what", "against", "worst variant"):
        table.add_column(name)
    for name in ("passed", "ratio", "of min", "at most", "verdict"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in worst(rows):
        group = [
            one
            for one in rows
            if (one.what, one.against, one.bound) == (row.what, row.against, row.bound)
        ]
        passed = sum(one.verdict == "pass" for one in group)
        table.add_row(row.what, row.against, row.variant, f"{passed} of {len(group)}", *_cells(row))
    console.print(table)

"""What calls leave behind, looked for among new objects only, as a program holds a million old."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence


@contextlib.contextmanager
def new_objects_only() -> Iterator[None]:
    """Returns a context in which `gc.get_objects` and `gc.collect` pass by what is there already.

    A program that has frozen objects itself keeps them frozen, at the price of looking at all.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def left_behind(
    call: Callable[[], None], alive: Callable[[], Sequence[int]], calls: int, collect: bool
) -> list[int]:
    """Returns how much more `calls` calls leave alive than as many before them did.

    What is kept of the last few calls alone is as much after any number of them, so it does not
    count: neither a bounded cache nor a module's last weights are a leak.

    Args:
        call: calls the function and drops what it returns.
        alive: counts what is alive among new objects: how many, how many bytes.
        calls: how many.
        collect: whether what only the garbage collector frees counts as freed.
    """
    collects = gc.isenabled()
    gc.disable()  # so that a cycle is seen whenever the collector would have run
    try:
        with new_objects_only():
            counts = []
            for _ in range(2):
                for _ in range(calls):
                    call()
                if collect:
                    gc.collect()
                counts.append(alive())
    finally:
        if collects:
            gc.enable()
    return [after - before for before, after in zip(*counts, strict=True)]

"""`cost`: what the derivatives cost against the function, measured where that can be measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diptych.proof.claims.alike import plain
from diptych.proof.claims.trial import Skip, Trial
from diptych.proof.outcome import Outcome
from diptych.proof.subject import Subject

LIMIT = 10.0  # more than so many times the function is flagged
_MEASURABLE = 1e-4  # seconds: below this, calling costs more than computing
_ENTRIES = 1 << 19  # examples are made no larger
_SECONDS = 0.5  # for all measurements
_ROUNDS = 2  # where nothing is amiss; the first of them warms up
_MORE = 5  # where something may be
_NEAR = 64  # an example with axes so many times as long is still like the one given

_SIZING = ("primal", "vjp", "touch")
# Of one call: wall time, and what the processor worked, which a busy machine does not change.
Seconds = tuple[float, float]


def cost(trial: Trial) -> Outcome:
    """Times of VJP and JVP against the value, the fastest of a few calls; FLOPs in JAX."""
    if not plain(trial).reverse:
        raise Skip("no reverse mode")
    calling = _measured(trial, trial.subject, _SIZING)
    subject, scale, times = _grown(trial, calling)
    flops = _flops(trial)
    parts = []
    if times:
        middle = _fastest(times)
        said = [f"{name.upper()} {middle[name] / middle['primal']:.1f} times the value"
                for name in ("vjp", "jvp") if name in middle]  # fmt: skip
        where = f" at axes {scale} times as long" if scale > 1 else ""
        where += " (mostly calling)" if not _measurable(times) else ""
        value = f"which takes {1e3 * middle['primal']:.3g} ms{where}"
        parts.append(f"{', '.join(said)}, {value}")
    if flops.get("primal"):
        parts.append(f"FLOPs {flops['vjp'] / flops['primal']:.1f} times")
    findings = []
    small = calling if scale > 1 else None
    # What shows only at sizes that nobody asked for is reported alone; and a busy machine does not
    # stay so in every round.
    if (
        scale <= _NEAR
        and _excessive(times, small)
        and _excessive(_measured(trial, subject, rounds=_MORE), small)
    ):
        middle = _fastest(times)
        message = (
            f"The VJP of {trial.subject.target.name}, forward pass included, takes "
            f"{middle['vjp'] / middle['primal']:.0f} times as long as its value "
            f"({1e3 * middle['primal']:.3g} ms); 2 to 4 are usual. "
            "Look for a loop over entries, a full Jacobian, or the forward pass repeated."
        )
        findings.append(trial.finding("cost", "costly", message))
    touched = sum(x.size for x in (*trial.subject.values, *trial.subject.outputs))
    counted = flops.get("vjp", 0.0) > LIMIT * (flops.get("primal", 0.0) + touched)
    if counted and not flops.get("partial") and not findings:
        message = (
            f"The VJP of {trial.subject.target.name}, forward pass included, takes "
            f"{flops['vjp']:,.0f} floating-point operations and its value {flops['primal']:,.0f}; "
            "2 to 4 times are usual. Look for a full Jacobian, or the forward pass repeated."
        )
        findings.append(trial.finding("cost", "costly", message))
    if not parts:
        raise Skip("only measured if compiled")
    outcome = trial.outcome(
        "cost", (), findings, "; ".join(parts), None if findings else "reported"
    )
    outcome.data = {
        "seconds": {name: each for name, each in _fastest(times).items() if name != "touch"},
        "flops": flops,
        "scale": scale,
    }
    return outcome


def _fastest(times: dict[str, list[Seconds]]) -> dict[str, float]:
    return {name: min(wall for wall, _ in each) for name, each in times.items()}


def _measurable(times: dict[str, list[Seconds]]) -> bool:
    return bool(times) and min(wall for wall, _ in times["primal"]) >= _MEASURABLE


def _excessive(times: dict[str, list[Seconds]], small: dict[str, list[Seconds]] | None) -> bool:
    """Returns whether even the fastest VJP takes over the limit, by both clocks.

    What it takes at the small example is mostly the cost of calling, and does not count; that each
    input and output is touched once is always due.
    """
    if not times:
        return False
    for clock in (0, 1):
        vjp = min(each[clock] for each in times["vjp"])
        overhead = min(each[clock] for each in small["vjp"]) if small else 0.0
        # Few rounds only say what is worth measuring again.
        middle = np.median if len(times["primal"]) >= _MORE else np.min
        due = [float(middle([each[clock] for each in times[k]])) for k in ("primal", "touch")]
        if vjp - overhead <= LIMIT * max(*due, _MEASURABLE):
            return False
    return True


def _grown(
    trial: Trial, times: dict[str, list[Seconds]]
) -> tuple[Subject, int, dict[str, list[Seconds]]]:
    """Returns the function at an example so large that its value, or VJP, can be measured.

    Returns:
        The function there, how many times as long the axes are, and what was measured.
    """
    subject, scale = trial.subject, 1
    deadline = time.perf_counter() + _SECONDS
    for factor in subject.prober.growth:
        if not times or time.perf_counter() > deadline:
            break
        primal, vjp = (min(wall for wall, _ in times[name]) for name in ("primal", "vjp"))
        if primal > 1.2 * _MEASURABLE or vjp > 1.2 * LIMIT * _MEASURABLE:
            break
        while factor > 2 and primal * _work(subject, factor) > 5 * _MEASURABLE:
            factor //= 2  # no larger than it takes
        larger = _larger(subject, factor)
        if larger is None:
            break
        subject, scale = larger, scale * factor
        # A VJP that takes no longer is neither flagged nor ends the growth, so that once will do.
        times = _measured(trial, subject, _SIZING, enough=LIMIT * _MEASURABLE)
    if times:
        # It is reported alone; where the example was grown calls are warm already.
        times |= _measured(trial, subject, ("jvp",), rounds=_ROUNDS if scale == 1 else 1)
    return subject, scale, times


def _work(subject: Subject, factor: int) -> float:
    """Returns about how many times as long the function takes at axes so many times as long.

    As a product of matrices does, where it is not known: what is found too small is grown further.
    """
    lengths = _lengths(subject)[:1]
    before = sum(x.size for x in subject.values)
    grown = [x.size * factor ** sum(n in lengths for n in x.shape) for x in subject.values]
    return (sum(grown) / max(before, 1)) ** 1.5


def _measured(
    trial: Trial,
    subject: Subject,
    names: Sequence[str] = ("primal", "vjp", "jvp", "touch"),
    rounds: int = _ROUNDS,
    enough: float = 0.0,
) -> dict[str, list[Seconds]]:
    """Returns the seconds of each call, these taken in turn; empty: cannot be measured.

    Args:
        trial: the trial.
        subject: the function at the example.
        names: of the calls.
        rounds: how often each is made.
        enough: how many seconds a VJP may take to be called in the first round alone.
    """
    found: dict[str, list[Seconds]] = {}
    try:
        # What the numbers are is nothing to the time.
        bars = [
            np.ones_like(out) if free else None
            for out, free in zip(subject.outputs, subject.free, strict=True)
        ]
        dots = [
            x if moves else None for x, moves in zip(subject.values, subject.moving, strict=True)
        ]
        with subject.session():
            runs = subject.prober.timed(
                subject.function(), subject.arrays(), subject.moving, subject.arrays(bars),
                subject.arrays(dots), trial.compile,
            )  # fmt: skip
            if not plain(trial).forward:
                runs.pop("jvp", None)
            if runs:
                runs["touch"] = lambda: [x.copy() for x in (*subject.values, *subject.outputs)]
            runs = {name: run for name, run in runs.items() if name in names}
            for _ in range(rounds):
                for name, run in runs.items():
                    each = found.setdefault(name, [])
                    if not (name == "vjp" and each and each[0][0] <= enough):
                        each.append(_seconds(run))
    except Exception:
        return {}
    return found


def _seconds(run: Callable[[], Any]) -> Seconds:
    wall, worked = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - worked


def _larger(subject: Subject, factor: int) -> Subject | None:
    """Returns the function at arrays repeated along their longest axes, where it accepts these.

    Axes of one length grow together, as they mostly belong together.
    """
    for chosen in [[n] for n in _lengths(subject)]:
        values = [_repeated(x, chosen, factor) for x in subject.values]
        if sum(x.size for x in values) > _ENTRIES:
            continue
        point = subject.at(values)
        try:
            outs = point.outputs
        except Exception:
            continue
        finite = all(np.all(np.isfinite(o)) for o in outs if o.dtype.kind in "fc")
        if finite and sum(o.size for o in outs) <= _ENTRIES:
            return point
    return None


def _lengths(subject: Subject) -> list[int]:
    return sorted({n for x in subject.values for n in x.shape if n > 1}, reverse=True)


def _repeated(x: np.ndarray, lengths: Sequence[int], factor: int) -> np.ndarray:
    for axis, n in enumerate(x.shape):
        if n in lengths:
            x = np.concatenate([x] * factor, axis)
    return x


def _flops(trial: Trial) -> dict[str, float]:
    subject, here = trial.subject, plain(trial)
    try:
        with subject.session():
            return subject.prober.flops(
                subject.function(), subject.arrays(), subject.moving, subject.arrays(here.bars)
            )
    except Exception:  # not traceable: the claim `compile` says so
        return {}

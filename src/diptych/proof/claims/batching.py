"""`vmap`: a batch gives what a loop over its examples gives."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from diptych.proof.claims.alike import body_fails, differs, first_line, is_random, plain, raised
from diptych.proof.claims.trial import Skip, Trial
from diptych.proof.compare import Gap
from diptych.proof.outcome import Finding, Outcome
from diptych.proof.subject import Subject, zeros_for
from diptych.proof.vectors import random_like

BATCH = 3
_SECONDS = 10
_SINGLE = 3  # so many arguments are batched alone
_ALONE = ("value", "VJP", "VJP of the batch")
_UNSUPPORTED = ("generate_vmap_rule", "setup_context", "override vmap", "Batching rule")


class _Plan(NamedTuple):
    """One way to batch.

    Args:
        size: how many examples.
        axes: where each array has its batch axis; `None`: it is shared.
        stages: what is looked at.
    """

    size: int
    axes: list[int | None]
    stages: tuple[str, ...] = ("value", "VJP", "JVP", "VJP of the batch")

    def __str__(self) -> str:
        return f"in_axes={tuple(self.axes)}, batch of {self.size}"


def vmap(trial: Trial) -> Outcome:
    """Values, JVP and VJP of a batch equal those of a loop; batched cotangents too."""
    if is_random(trial):
        raise Skip("random: a loop draws other numbers than a batch")
    gaps: list[Gap] = []
    findings: list[Finding] = []
    notes: list[str] = []
    stages: dict[str, Callable[..., Any]] = {"value": _value, "VJP": _vjp, "JVP": _jvp}
    stages["VJP of the batch"] = _outer_vjp
    if not plain(trial).forward:
        del stages["JVP"]
    if not plain(trial).reverse:
        del stages["VJP"], stages["VJP of the batch"]
    started = time.perf_counter()
    for plan in _plans(trial.subject):
        if time.perf_counter() - started > _SECONDS:
            notes.append(f"stopped after {_SECONDS} s, before {plan}")
            break
        for said, stage in list(stages.items()):
            if said not in plan.stages:
                continue
            try:
                found, expected, rounding, names = stage(trial, trial.subject, plan)
            except Exception as error:
                why = _excuse(trial, error, lambda s, p=plan, g=stage: g(trial, s, p))
                if why is None and not plan.size and trial.subject.target.body is None:
                    why = f"no empty batch: {first_line(error)[:80]}"  # operators refuse it too
                if why is None and not trial.subject.target.custom:
                    # What is no custom derivative has no batching of its own that could be wrong.
                    why = f"not to be mapped: {first_line(error)[:80]}"
                if why is None:
                    where = f"Under vmap ({plan}) the {said} of"
                    findings.append(raised(trial, "vmap", where, error))
                else:
                    notes.append(why)
                stages.pop(said)
                if said == "value":
                    stages.clear()
                    break
                continue
            more, at, how = differs(trial, found, expected, rounding)
            gaps += more
            if at is not None:
                message = (
                    f"Under vmap ({plan}) the {said} of {trial.subject.target.name} {how} for "
                    f"'{names[at]}' if examples are taken one by one. Let it treat the batch "
                    "axis as it treats none: no fixed axes, sizes or sums over everything."
                )
                findings.append(
                    trial.finding("vmap", "not batched", message, names[at],
                                  more[-1] if more and not more[-1].ok else None)
                )  # fmt: skip
                stages.pop(said)
                if said == "value":
                    stages.clear()
                    break
    more, found = _batched_cotangents(trial, notes)
    gaps += more
    if not any(f.cause == "not batched" and "VJP" in f.message for f in findings):
        findings += found
    note = "; ".join(dict.fromkeys(notes))
    if not gaps and not findings:
        raise Skip(note or "nothing to batch")
    return trial.outcome("vmap", gaps, findings, note)


def _plans(subject: Subject) -> list[_Plan]:
    ndims = [x.ndim for x in subject.values]
    fixed = subject.example.fixed

    def axes(of: Callable[[int], int | None]) -> list[int | None]:
        return [None if fixed[i] else of(i) for i in range(len(ndims))]

    plans = [
        _Plan(BATCH, axes(lambda i: 0)),
        _Plan(BATCH, axes(lambda i: ndims[i]), ("value", "VJP", "JVP")),
        _Plan(1, axes(lambda i: 0), ("value", "VJP")),
        _Plan(0, axes(lambda i: 0), ("VJP of the batch",)),
    ]
    if len(ndims) > 1:
        alone = [i for i, f in enumerate(fixed) if not f][:_SINGLE]
        plans[2:2] = [
            _Plan(BATCH, axes(lambda i, j=j: 0 if i == j else None), _ALONE) for j in alone
        ]
    return [p for p in plans if any(axis is not None for axis in p.axes)]


class _One:
    """One example of a batch, with what the function gives for it alone.

    Args:
        trial: the trial.
        point: the example.
        salt: which of the batch it is.
    """

    def __init__(self, trial: Trial, point: Subject, salt: int):
        self.trial, self.point, self.salt = trial, point, salt

    @property
    def values(self) -> list[np.ndarray]:
        """The arrays."""
        return self.point.values

    @property
    def bars(self) -> list[Any]:
        """Its cotangents."""
        return self.trial.bars(220 + self.salt)

    @property
    def dots(self) -> list[Any]:
        """Its tangents."""
        return self.trial.dots(230 + self.salt)

    @cached_property
    def pulled(self) -> list[Any]:
        """The cotangents of its inputs."""
        return zeros_for(self.point.vjp().pull(self.bars), self.point)

    @cached_property
    def pushed(self) -> list[Any]:
        """The tangents of its outputs that have one."""
        found = self.point.jvp(self.dots)[1]
        free = [k for k, f in enumerate(self.point.free) if f]
        return [
            np.zeros_like(self.point.outputs[k]) if found[k] is None else found[k] for k in free
        ]


def _examples(trial: Trial, subject: Subject, plan: _Plan) -> list[_One]:
    """Returns the examples: the given one, then others a few per cent away."""
    examples = []
    for b in range(plan.size):
        shared = tuple([b == 0 or axis is None for axis in plan.axes])

        def one(b: int = b, shared: tuple[bool, ...] = shared) -> _One:
            values = [
                x if dot is None or same else (x + 0.03 * b * dot).astype(x.dtype)
                for x, dot, same in zip(subject.values, trial.dots(210 + b), shared, strict=True)
            ]
            return _One(trial, subject.at(values), b)

        # Many plans batch the same examples; the body, if it is tried, has results of its own.
        examples.append(trial.once("example", (id(subject), b, shared), one))
    return examples


def _stack(examples: Sequence[Sequence[Any]], plan: _Plan, subject: Subject) -> list[Any]:
    """Returns the arrays of a batch, each with its batch axis."""
    stacked = []
    for i, axis in enumerate(plan.axes):
        x = subject.values[i]
        if axis is None:
            stacked.append(x)
        elif examples:
            rows = np.array([example[i] for example in examples])
            stacked.append(rows if axis == 0 else np.moveaxis(rows, 0, axis).copy())
        else:
            stacked.append(np.zeros((*x.shape[:axis], 0, *x.shape[axis:]), x.dtype))
    return stacked


def _batch(trial: Trial, examples: Sequence[_One], plan: _Plan, subject: Subject) -> list[Any]:
    stack = lambda: _stack([one.values for one in examples], plan, subject)  # noqa: E731
    return trial.once("batch", (plan.size, tuple(plan.axes)), stack)


def _value(trial: Trial, subject: Subject, plan: _Plan) -> tuple[Any, ...]:
    examples = _examples(trial, subject, plan)
    with subject.session():
        mapped = subject.prober.at_once(subject.prober.vmap(subject.function(), plan.axes))
        arrays = subject.arrays(_batch(trial, examples, plan, subject))
        found = subject.numpy(subject.prober.value(mapped, arrays))
    each = [one.point.outputs for one in examples]
    names = [f"output {k}" for k in range(len(subject.outputs))]
    return found, _joined(each, subject.outputs), plain(trial).value_noise, names


def _vjp(trial: Trial, subject: Subject, plan: _Plan) -> tuple[Any, ...]:
    """The VJP is taken in each example, and that is mapped."""
    examples = _examples(trial, subject, plan)
    like = _some(trial.bars(220))
    bars = _joined([_some(one.bars) for one in examples], like)
    with subject.session():
        pulled = subject.prober.pulled(subject.function(), subject.moving, subject.free)
        mapped = subject.prober.vmap(pulled, [*plan.axes, *[0] * len(like)])
        arrays = subject.arrays([*_batch(trial, examples, plan, subject), *bars])
        found = subject.numpy(subject.prober.at_once(mapped)(*arrays))
    moving = [i for i, m in enumerate(subject.moving) if m]
    each = [[one.pulled[i] for i in moving] for one in examples]
    rounding = plain(trial).pull_noise
    return (
        found,
        _joined(each, [subject.values[i] for i in moving]),
        lambda: [rounding()[i] for i in moving],
        [subject.names[i] for i in moving],
    )


def _outer_vjp(trial: Trial, subject: Subject, plan: _Plan) -> tuple[Any, ...]:
    """The VJP is that of the mapped function: a shared argument's cotangents are summed."""
    examples = _examples(trial, subject, plan)
    bars = _joined([one.bars for one in examples], trial.bars(220))
    with subject.session():
        mapped = subject.prober.vmap(subject.function(), plan.axes)
        xs = subject.arrays(_batch(trial, examples, plan, subject))
        found = subject.numpy(subject.pulled_at_once(mapped, xs, subject.arrays(bars)))
    each = [one.pulled for one in examples]
    due = []
    for i, axis in enumerate(plan.axes):
        x = subject.values[i]
        if not subject.moving[i]:
            due.append(None)
        elif axis is None:
            due.append(np.sum([e[i] for e in each], axis=0) if each else np.zeros_like(x))
        else:
            due.append(
                _stack([[e[i]] for e in each], _Plan(plan.size, [axis]), _only(subject, i))[0]
            )
    rounding = plain(trial).pull_noise
    return found, due, lambda: [BATCH * each for each in rounding()], subject.names


def _only(subject: Subject, i: int) -> Any:
    return subject.at([subject.values[i]])


def _jvp(trial: Trial, subject: Subject, plan: _Plan) -> tuple[Any, ...]:
    """The JVP is taken in each example, and that is mapped."""
    examples = _examples(trial, subject, plan)
    like = _some(trial.dots(230))
    dots = _joined([_some(one.dots) for one in examples], like)
    with subject.session():
        pushed = subject.prober.pushed(subject.function(), subject.moving, subject.free)
        mapped = subject.prober.vmap(pushed, [*plan.axes, *[0] * len(like)])
        arrays = subject.arrays([*_batch(trial, examples, plan, subject), *dots])
        found = subject.numpy(subject.prober.at_once(mapped)(*arrays))
    free = [k for k, f in enumerate(subject.free) if f]
    due = _joined([one.pushed for one in examples], [subject.outputs[k] for k in free])
    rounding, names = plain(trial).push_noise, [f"output {k}" for k in free]
    return found, due, lambda: [rounding()[k] for k in free], names


def _some(vectors: Sequence[Any]) -> list[Any]:
    return [v for v in vectors if v is not None]


def _joined(each: Sequence[Sequence[Any]], like: Sequence[Any]) -> list[Any]:
    """Returns each array of the examples along a first axis, which may have no entries."""
    return [
        None
        if x is None
        else np.array([e[k] for e in each])
        if each
        else np.zeros((0, *x.shape), x.dtype)
        for k, x in enumerate(like)
    ]


def _batched_cotangents(trial: Trial, notes: list[str]) -> tuple[list[Gap], list[Finding]]:
    """A batch of cotangents at one point, as jacrev pulls it back, equals one after the other."""
    subject = trial.subject
    if not plain(trial).reverse:
        return [], []
    rng = trial.rng(240)
    bars = [
        random_like(rng, np.broadcast_to(out, (BATCH, *out.shape))) if free else None
        for out, free in zip(subject.outputs, subject.free, strict=True)
    ]

    def stage(of: Subject) -> list[Any]:
        with of.session():
            n = len(of.values)

            def pulled(*arrays: Any) -> list[Any]:
                xs, batch = arrays[:n], arrays[n:]
                return of.prober.pull_batched(of.function(), xs, of.moving, batch)

            return of.numpy(of.prober.at_once(pulled)(*of.arrays(), *of.arrays(bars)))

    try:
        found = stage(subject)
    except Exception as error:
        why = _excuse(trial, error, stage)
        if why is None:
            return [], [raised(trial, "vmap", "Given a batch of cotangents the VJP of", error)]
        notes.append(f"batches of cotangents refused: {first_line(error)[:80]}")
        return [], []
    pullback = subject.vjp()
    each = [
        zeros_for(pullback.pull([None if bar is None else bar[b] for bar in bars]), subject)
        for b in range(BATCH)
    ]
    due = [
        np.stack([e[i] for e in each]) if moves else None for i, moves in enumerate(subject.moving)
    ]
    gaps, at, how = differs(trial, found, due, plain(trial).pull_noise)
    if at is None:
        return gaps, []
    message = (
        f"Given a batch of cotangents, as jacrev uses them, the VJP of {subject.target.name} {how} "
        f"for '{subject.names[at]}'. Let it treat the batch axis as it treats none."
    )
    worst = gaps[-1] if gaps and not gaps[-1].ok else None
    return gaps, [trial.finding("vmap", "not batched", message, subject.names[at], worst)]


def _excuse(trial: Trial, error: Exception, stage: Callable[[Subject], Any]) -> str | None:
    """Returns why an error is none of the derivative's: no such support, or the body fails too."""
    refusal = trial.subject.prober.refusal(error)
    if any(word in str(error) for word in _UNSUPPORTED):
        return refusal or "no vmap rule"
    if body_fails(trial, stage):
        return refusal or f"not to be mapped: {first_line(error)}"
    if trial.subject.target.body is None:
        return refusal
    # The body can be mapped, so that a refusal is the derivative's: a forward mode that is not
    # there is no matter of batches.
    return refusal if refusal is not None and "vmap" not in refusal else None

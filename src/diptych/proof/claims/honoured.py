"""`honoured`: every transform takes the derivative that is stated, and not the body's."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from diptych.proof import witness
from diptych.proof.claims.alike import first_line, plain
from diptych.proof.claims.second import slopes
from diptych.proof.claims.trial import Skip, Trial
from diptych.proof.compare import gap
from diptych.proof.neighbours import special_points
from diptych.proof.outcome import Finding, Outcome
from diptych.proof.probes import Pack, Transform
from diptych.proof.richardson import slope
from diptych.proof.subject import Subject, zeros_for
from diptych.proof.vectors import inner, inner_size
from diptych.rule import Rule

_SECONDS = 20
_CLOSE = 1e-3  # factors of 1, 2 and 3 are told apart, not digits
_BUGS = {
    "jvp(jvp)": "PyTorch's own bug pytorch/pytorch#197867",
    "jacfwd(jacfwd)": "PyTorch's own bug pytorch/pytorch#197867",
    "torch.compile": "PyTorch's own bug pytorch/pytorch#192985",
}


def honoured(trial: Trial) -> Outcome:
    """A witness, of which the derivative is another one, keeps it under every transform."""
    subject = trial.subject
    if not subject.target.custom:
        raise Skip("no derivative is stated")
    here = plain(trial)
    if not here.reverse and not here.forward:
        raise Skip("no derivative")
    thing = subject.target.thing
    made = witness.of_rule(thing) if isinstance(thing, Rule) else subject.prober.witness(thing)
    if made is None:
        raise Skip(f"no witness can be made of a {subject.target.kind}")
    verdicts = _Verdicts(trial, *made)
    started = time.perf_counter()
    with subject.prober.compiling():
        for transform in subject.prober.transforms():
            if time.perf_counter() - started > _SECONDS:
                verdicts.refused[transform.name] = f"no time left after {_SECONDS} s"
                continue
            if transform.compiles and not trial.compile:
                continue
            verdicts.add(transform)
    findings = verdicts.findings()
    if not verdicts.right and not findings:
        raise Skip(verdicts.note())
    return trial.outcome("honoured", (), findings, verdicts.note())


class _Verdicts:
    """What each transform did with the witness.

    Args:
        trial: the trial.
        call: the witness.
        reverse, forward: the factors due.
    """

    def __init__(
        self, trial: Trial, call: Callable[..., Any], reverse: int | None, forward: int | None
    ):
        self.trial = trial
        here = plain(trial)
        subject = trial.subject
        self.factors = {"reverse": reverse, "forward": forward}
        self.witness = call
        pulled, pushed = inner(here.pulled, here.dots), inner(here.bars, here.pushed)
        self.stated = {
            "reverse": pulled if here.reverse else pushed,
            "forward": pushed if here.forward else pulled,
        }
        self.size = inner_size(here.pulled, here.dots) + inner_size(here.bars, here.pushed)
        self.body = _of_body(trial)
        self.bypassed: list[str] = []
        self.zero: list[str] = []
        self.right: list[str] = []
        self.other: list[str] = []
        self.refused: dict[str, str] = {}
        self.second: dict[str, float] = {}
        self.bend = _bend(trial)
        self.once = _is_once(trial)
        self.subject = subject
        self.another = _where_another(trial)
        with subject.session():
            self.in_place = subject.prober.declared(
                subject.target, subject.function(), subject.arrays()
            )

    def add(self, transform: Transform) -> None:
        """Runs one transform and sorts what it gives."""
        mode = transform.mode
        if mode != "second" and self.factors[mode] is None:
            return
        if mode == "second" and self.bend is None:
            return
        if self.once and transform.name.startswith("autograd.functional.jvp"):
            # It differentiates the VJP in its cotangent, which gives zero with no error here.
            self.refused[transform.name] = "once differentiable"
            return
        call = self.subject.target.call if mode == "second" else self.witness
        try:
            found = self._run(transform, call)
        except Exception as error:
            said = self.subject.prober.refusal(error) or self.subject.prober.untraceable(error)
            self.refused[transform.name] = said or first_line(error)[:80]
            return
        if mode == "second":
            self.second[transform.name] = found
            return
        stated, factor = self.stated[mode], self.factors[mode] or 1
        if abs(stated) <= 1e-6 * self.size:
            return
        tolerance = max(_CLOSE, self.subject.epsilon**0.3) * abs(stated)
        # Transposing twice may end in the other direction: that is honoured too.
        due = {factor, *[f for f in self.factors.values() if f is not None]}
        if any(abs(found - f * stated) <= tolerance for f in due):
            self.right.append(transform.name)
        elif abs(found - stated) <= tolerance or (
            self.body is not None and abs(found - self.body) <= tolerance
        ):
            self.bypassed.append(transform.name)
        elif abs(found) <= 1e-9 * abs(stated):
            self.zero.append(transform.name)
        else:
            self.other.append(f"{transform.name} gives {found / stated:.3g} for {factor}")

    def _run(self, transform: Transform, call: Callable[..., Any]) -> float:
        subject, here = self.subject, plain(self.trial)
        moving = [i for i, m in enumerate(subject.moving) if m]
        function = subject.function(call)
        if self.in_place:  # leaves must not be changed
            changing = function

            def function(*xs: Any) -> list[Any]:
                return changing(*[x * 1 if i in moving else x for i, x in enumerate(xs)])

        with subject.session(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pack = Pack(
                function,
                subject.arrays(),
                moving,
                subject.arrays([here.dots[i] for i in moving]),
                subject.free,
                subject.arrays([b for b in here.bars if b is not None]),
            )
            return float(np.real(subject.prober.numpy(transform.run(pack))))

    def _zero_seconds(self) -> list[str]:
        """Returns the nestings that give exactly zero where others do not."""
        if self.bend is None or not any(self.second.values()):
            return []
        return [name for name, found in self.second.items() if found == 0]

    def _zero_for_all(self) -> list[str]:
        """Returns the nestings that are zero for every Function of PyTorch, by a bug of its own."""
        if self.subject.target.kind != "torch.autograd.Function":
            return []
        return [name for name in self._zero_seconds() if name in ("jvp(jvp)", "jacfwd(jacfwd)")]

    def _unseen(self) -> list[str]:
        """Returns the compiled transforms that drop every Function, where no number shows it.

        What PyTorch does to every Function is a finding about this one only if its body, which is
        differentiated instead, has another derivative.
        """
        if self.subject.target.kind != "torch.autograd.Function" or self.another is not None:
            return []
        return [name for name in self.bypassed if name.startswith("torch.compile")]

    def findings(self) -> list[Finding]:
        """Returns one finding for those that ignore the rule, and one for those that give zero."""
        name = self.subject.target.name
        found = []
        unseen = self._unseen()
        if bypassed := [name for name in self.bypassed if name not in unseen]:
            message = (
                f"{_listed(bypassed)} {_verb(bypassed, 'ignore')} the derivative that "
                f"{name} states, and {_verb(bypassed, 'differentiate')} its body: a copy "
                f"with a larger derivative gives the same there.{self._harm()}"
                f"{self._way_out(bypassed)}"
            )
            found.append(self.trial.finding("honoured", "bypassed", message))
        known = self._zero_for_all()
        zero = [*self.zero, *[name for name in self._zero_seconds() if name not in known]]
        if zero:
            message = (
                f"{_listed(zero)} of {name} {_verb(zero, 'give')} zero, with no error, where "
                f"other transforms do not.{self._way_out(zero)}"
            )
            found.append(self.trial.finding("honoured", "zero", message))
        return found

    def _harm(self) -> str:
        """Returns at which point the body's own derivative is another one, if it is known to be."""
        if self.another is None:
            return " At this point the body's own derivative happens to be the same."
        return self.another and f" {self.another} the body's own derivative is another one."

    def _way_out(self, names: list[str]) -> str:
        if self.subject.target.kind != "torch.autograd.Function":
            return ""
        bugs = [bug for start, bug in _BUGS.items() if any(n.startswith(start) for n in names)]
        said = " and ".join(dict.fromkeys(bugs))
        # What our own suite shows of rules (tests/backends).
        return f" This is {said}; stated as a diptych.rule it is honoured." if said else ""

    def note(self) -> str:
        """Returns what was tried, and what was refused."""
        parts = [f"{len(self.right)} transforms honour it"]
        reasons: dict[str, list[str]] = {}
        for name, reason in self.refused.items():
            reasons.setdefault(reason, []).append(name)
        parts += [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]
        if unseen := self._unseen():
            parts.append(
                f"{_listed(unseen)} {_verb(unseen, 'drop')} it, as every Function, by "
                f"{_BUGS['torch.compile']}, and {_verb(unseen, 'give')} the body's derivative, "
                "which is the same at the points tried: stated as a diptych.rule it is honoured"
            )
        if known := self._zero_for_all():
            parts.append(
                f"{_listed(known)} {_verb(known, 'give')} zero, with no error, by "
                f"{_BUGS[known[0]]}: stated as a diptych.rule it does not"
            )
        return "; ".join([*parts, *self.other])


def _of_body(trial: Trial) -> float | None:
    """Returns `<bars, J dots>` of the plain body, where that can be differentiated."""
    subject, here = trial.subject, plain(trial)
    if subject.target.body is None:
        return None
    try:
        return inner(subject.vjp(subject.target.body).pull(here.bars), here.dots)
    except Exception:
        return None


def _where_another(trial: Trial) -> str | None:
    """Returns where the body has another derivative than the one stated; `None`: nowhere seen.

    At the given point, and at special ones, where a formula is often stated because the body's
    own derivative fails.
    """
    subject = trial.subject
    body = subject.target.body
    if body is None:
        return ""
    points = itertools.chain([("At this point", subject)], _special(subject))
    for said, point in points:
        try:
            bars = point.bars(trial.rng(92))
            with np.errstate(all="ignore"):
                stated = zeros_for(point.vjp().pull(bars), point)
        except Exception:
            continue  # no reverse mode here, or no value at all
        try:
            with np.errstate(all="ignore"):
                of_body = zeros_for(point.vjp(body).pull(bars), point)
        except Exception:
            return said
        for mine, its in zip(stated, of_body, strict=True):
            if not gap(its, mine, epsilon=subject.epsilon, relative=_CLOSE**2).ok:
                return said
    return None


def _special(subject: Subject) -> Iterator[tuple[str, Subject]]:
    for neighbour in special_points(subject):
        there = Subject(subject.target, subject.prober, neighbour.example, subject.seed)
        yield f"With the example varied ({neighbour.how})", there


def _is_once(trial: Trial) -> bool:
    """Returns whether the function says that it is differentiable once."""
    here = plain(trial)
    if not here.reverse:
        return False
    try:
        slopes(trial.subject, "reverse", "reverse", here.bars, here.dots, here.dots, [here.dots])
    except Exception as error:
        return trial.subject.prober.refusal(error) == "once differentiable"
    return False


def _bend(trial: Trial) -> float | None:
    """Returns the second derivative along the tangents, if differences say that there is one."""
    here = plain(trial)
    subject: Subject = trial.subject
    if trial.order < 2:
        return None

    def first(h: float) -> np.ndarray:
        moved = [
            x if d is None else x + h * d for x, d in zip(subject.values, here.dots, strict=True)
        ]
        point = subject.at(moved)
        if here.reverse:
            return np.array([inner(point.vjp().pull(here.bars), here.dots)])
        return np.array([inner(here.bars, point.jvp(here.dots)[1])])

    found = slope(first, subject.epsilon)
    value, error = float(found.value[0]), float(found.error[0])
    size = inner_size(here.pulled, here.dots) + inner_size(here.bars, here.pushed)
    return value if abs(value) > 1e3 * error + 1e-6 * size else None


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _verb(names: list[str], verb: str) -> str:
    return f"{verb}s" if len(names) == 1 else verb

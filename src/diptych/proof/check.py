"""`diptych.check`: every claim about a derivative, tested at an example and near it."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from diptych import backends
from diptych.arguments import flatten
from diptych.errors import (
    ClosureError,
    DiptychError,
    KindError,
    LinearityError,
    SingularError,
    StructureError,
    message,
)
from diptych.proof.chance import own_generators
from diptych.proof.claims import CLAIMS
from diptych.proof.claims.trial import Claim, Skip, Trial
from diptych.proof.outcome import Finding, Outcome
from diptych.proof.prober import Prober, Target, prober_of
from diptych.proof.references import choose
from diptych.proof.report import Report
from diptych.proof.subject import Subject, example_of
from diptych.proof.symmetry import symmetric_arguments
from diptych.proof.target import target_of

FRAMEWORKS = ("torch", "jax")
# What a rule's own errors already say.
_CAUSES_OF_ERRORS = {LinearityError: "not linear", ClosureError: "captured"}
_CAUSES_OF_WORDS = {"sum over axis": "missing sum", "wrong shape": "shape", "wrong dtype": "dtype"}


def check(
    f: Any,
    *args: Any,
    order: int | None = None,
    frameworks: Sequence[str] | str | None = None,
    reference: str | Callable[..., Any] = "auto",
    intentional: bool | str = False,
    seed: int = 0,
    budget: float = 5.0,
    neighbours: bool = True,
    claims: Iterable[str] | None = None,
    skip: Iterable[str] = (),
    compile: bool = True,
) -> Report:
    """Returns a report on the derivative of `f`: what was tested, and what is wrong with it.

    Args:
        f: a diptych rule, a torch.autograd.Function (or its `.apply`), a jax.custom_jvp or
            custom_vjp function, a torch.library custom op, an nn.Module (its parameters are then
            arguments too), or any differentiable function.
        args: one example of its arguments: arrays of one framework, or NumPy arrays, with which a
            rule is checked on every framework that is installed.
        order: up to which order derivatives are tested; 2 if it is not given, and then a function
            that says that it is differentiable once is not at fault.
        frameworks: on which to check, instead of all that the arguments allow.
        reference: what the derivative should be: "auto", "body" (the framework's AD of the plain
            body), "differences", "complex step", "mpmath" (scalar rules), or a function whose
            derivative is meant.
        intentional: the derivative is meant to differ from the true one; a string may say why.
        seed: of the random directions, and of the state from which each evaluation starts.
        budget: seconds for each framework that go into varying the example.
        neighbours: whether the example is varied at all.
        claims: the names of the claims to test; all if it is not given.
        skip: the names of claims to leave out.
        compile: whether to compile, which takes longest.

    Returns:
        The report. A broken derivative does not raise; `report.raise_if_broken()` does.

    Raises:
        KindError: if `f` cannot be called, or there is no array among `args`.
        ValueError: for a claim, framework or reference that does not exist.

    Examples:
        >>> import diptych, numpy as np
        >>> @diptych.rule
        ... def cube(x):
        ...     return x**3
        >>> @cube.vjp
        ... def cube_vjp(res, out_bar):
        ...     return 2 * res.x**2 * out_bar
        >>> report = diptych.check(cube, np.array([1.0, 2.0]), claims=["vjp"])
        >>> [finding.cause for finding in report.findings if finding.framework == "torch"]
        ['factor']
    """
    chosen = _chosen_claims(claims, skip)
    started = time.perf_counter()
    outcomes: list[Outcome] = []
    name = ""
    stated = getattr(getattr(f, "_statement", None), "intentional", False)
    with own_generators(f, args):
        for framework in _frameworks(f, args, frameworks):
            prober = prober_of(framework)
            target, full_args = target_of(f, prober, args)
            name = target.name
            outcomes += _on_framework(
                target,
                prober,
                full_args,
                chosen,
                dict(
                    order=2 if order is None else order,
                    explicit_order=order is not None,
                    intentional=bool(intentional or stated),
                    compile=compile,
                    seed=seed,
                ),
                reference,
                budget if neighbours else 0.0,
            )
        if "frameworks" in chosen:
            outcomes += _across(f, args, frameworks, seed)
    return Report(name, outcomes, time.perf_counter() - started, seed, intentional or stated)


def _chosen_claims(claims: Iterable[str] | None, skip: Iterable[str]) -> list[str]:
    known = [*CLAIMS, "frameworks"]
    skipped = {skip} if isinstance(skip, str) else set(skip)
    wanted = known if claims is None else [claims] if isinstance(claims, str) else list(claims)
    for name in (*wanted, *skipped):
        if name not in known:
            raise ValueError(f"there is no claim {name!r}; the claims are {', '.join(known)}")
    return [name for name in known if name in wanted and name not in skipped]


def _frameworks(f: Any, args: Sequence[Any], wanted: Sequence[str] | str | None) -> list[str]:
    """Returns the frameworks on which to check."""
    if wanted is not None:
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        for name in names:
            if name not in FRAMEWORKS:
                raise ValueError(f"there is no framework {name!r}; there are {FRAMEWORKS}")
        return names
    found = {backends.owner(type(x)) for x in flatten(tuple(args))[0]}
    for name in FRAMEWORKS:
        if name in found:
            return [name]
    installed = [n for n in FRAMEWORKS if importlib.util.find_spec(n) is not None]
    for name in installed:
        target = prober_of(name).target(f)
        if target is not None:
            return [name]
    return installed


def _on_framework(
    target: Target,
    prober: Prober,
    args: Sequence[Any],
    claims: Sequence[str],
    options: dict[str, Any],
    reference: str | Callable[..., Any],
    budget: float,
) -> list[Outcome]:
    example = example_of(target, args, prober.numpy, prober.is_array)
    if not example.positions:
        raise KindError(
            message(
                f"check of {target.name}",
                expected="an example: at least one array among the arguments",
                got=", ".join(type(x).__name__ for x in args) or "none",
                mend=f"call diptych.check({target.name}, x, ...) as the function is called",
            )
        )
    seed = options["seed"]
    with prober.session(seed):  # inside of which others only seed
        given = Subject(target, prober, example, seed)
        subject = Subject(target, prober, example.raised(), seed)
        try:
            subject.outputs  # noqa: B018 - whether it runs in float64
        except Exception as error:
            subject = given
            try:
                subject.outputs  # noqa: B018
            except Exception:
                if len(claims) and prober.refusal(error) is not None:
                    return [
                        Outcome(name, prober.name, "skipped", f"{prober.refusal(error)}")
                        for name in claims
                        if name != "frameworks"
                    ]
                raise error from None
        if symmetric := symmetric_arguments(subject):
            target = target._replace(symmetric=symmetric)
            subject, given = (Subject(target, prober, s.example, seed) for s in (subject, given))
        best, differences = choose(subject, reference)
        trial = Trial(
            subject, best, differences, **options, given=given, args=args, wanted=reference
        )
        known: set[tuple[str, str | None]] = set()
        trial.notes["known"] = known
        outcomes: list[Outcome] = []
        for name in claims:
            # The budget is for varying the example: no other claim eats it up.
            trial.deadline = time.perf_counter() + budget
            if name in CLAIMS:
                outcomes.append(run(name, trial, CLAIMS[name]))
                known |= {(f.claim, f.argument) for f in outcomes[-1].findings}
    return outcomes


def run(name: str, trial: Trial, claim: Claim) -> Outcome:
    """Returns what one claim gives; what it raises is a finding, a refusal, or a reason to skip."""
    started = time.perf_counter()
    try:
        outcome = claim(trial)
    except Skip as reason:
        outcome = trial.outcome(name, note=str(reason), status="skipped")
    except Exception as error:
        refusal = trial.subject.prober.refusal(error)
        if refusal is not None:
            outcome = trial.outcome(name, note=refusal, status="skipped")
        elif isinstance(error, SingularError) and trial.neighbour is not None:
            # A variation may well be a point at which there is no derivative, and the rule says so.
            outcome = trial.outcome(name, note="singular there", status="skipped")
        elif _is_ours(error):
            raise
        else:
            outcome = trial.outcome(name, findings=[_raised(name, trial, error)])
    outcome.seconds = time.perf_counter() - started
    return outcome


def _is_ours(error: Exception) -> bool:
    """Returns whether an error comes from the proof itself: a mistake of ours, not a finding."""
    if any("removed its internal frames" in note for note in getattr(error, "__notes__", ())):
        return False  # JAX took its own frames away: the last one left only called it
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and frame.tb_frame.f_globals.get("__name__", "").startswith(
        "diptych.proof"
    )


def _raised(name: str, trial: Trial, error: Exception) -> Finding:
    lines = [line.strip() for line in str(error).strip().splitlines()] or [""]
    # A rule's own errors say what mends them; of others the first line says most.
    said = "; ".join(lines) if isinstance(error, DiptychError) else lines[0]
    text = (
        f"While `{name}` was tested, {trial.subject.target.name} raised {type(error).__name__}: "
        f"{said[:300].rstrip(' .:')}. The value itself can be computed there."
    )
    causes = (c for kind, c in _CAUSES_OF_ERRORS.items() if isinstance(error, kind))
    words = (c for word, c in _CAUSES_OF_WORDS.items() if word in said)
    structure = isinstance(error, StructureError)
    return trial.finding(name, next(words if structure else causes, "raises"), text)


def _across(
    f: Any, args: Sequence[Any], frameworks: Sequence[str] | str | None, seed: int
) -> list[Outcome]:
    """Returns whether the frameworks agree: for rules given NumPy arrays."""
    names = _frameworks(f, args, frameworks)
    if len(names) < 2:
        return []
    from diptych.proof.claims.frameworks import agreement

    subjects = []
    for name in names:
        prober = prober_of(name)
        target, full_args = target_of(f, prober, args)
        example = example_of(target, full_args, prober.numpy, prober.is_array)
        subjects.append(Subject(target, prober, example.raised(), seed))
    return [agreement(subjects)]

"""`captures`: what is read from outside the arguments gets its gradient, or none is due."""

from __future__ import annotations

from diptych.errors import ClosureError
from diptych.proof.claims.trial import Trial
from diptych.proof.outcome import Outcome


def captures(trial: Trial) -> Outcome:
    """A tensor that requires grad is not read from outside where its gradient would be lost."""
    subject = trial.subject
    name = subject.target.name
    findings, notes = [], []
    try:
        with subject.session():
            found = subject.prober.lost(
                subject.target, subject.function(), subject.arrays(), subject.moving
            )
    except ClosureError as error:  # a rule says it itself, when it is called
        message = f"{str(error).splitlines()[0]}. Pass it as an argument of {name}."
        return trial.outcome("captures", (), [trial.finding("captures", "captured", message)])
    for outside in found:
        if outside.lost:
            message = (
                f"{name} reads '{outside.name}' from outside its arguments, which requires grad: "
                "its gradient is lost, with no error. Pass it as an argument and return its "
                "cotangent, or make it a constant."
            )
            findings.append(trial.finding("captures", "captured", message, outside.name))
        elif outside.refused:
            notes.append(
                f"closes over '{outside.name}': differentiated, it raises {outside.refused}"
            )
        else:
            notes.append(f"'{outside.name}' is read from outside and gets its gradient")
    return trial.outcome("captures", (), findings, "; ".join(notes))

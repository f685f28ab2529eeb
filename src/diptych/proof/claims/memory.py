"""`memory`: nothing stays alive after the graph is gone; what is kept meanwhile is reported."""

from __future__ import annotations

from diptych.proof.claims.alike import plain
from diptych.proof.claims.trial import Skip, Trial
from diptych.proof.outcome import Outcome

CALLS = 3


def memory(trial: Trial) -> Outcome:
    """Calls whose results are dropped leave nothing; residual bytes against inputs and outputs."""
    subject, here = trial.subject, plain(trial)
    if not here.reverse:
        raise Skip("no reverse mode")
    with subject.session():
        kept = subject.prober.kept(
            subject.function(), subject.arrays(), subject.moving, subject.arrays(here.bars), CALLS
        )
    own = sum(x.nbytes for x in (*subject.values, *subject.outputs))
    note = (
        f"keeps {kept.residuals:,} bytes beside inputs and outputs ({own:,}), "
        f"{kept.residuals / max(own, 1):.2g} times these"
    )
    findings = []
    if kept.alive >= CALLS:
        message = (
            f"After {2 * CALLS} calls of {subject.target.name}, whose results were all dropped, "
            f"{kept.alive} arrays ({kept.alive_bytes:,} bytes) more stay alive, and with each call "
            "more. Something keeps them: a global list or cache, or in PyTorch an input or output "
            "put on ctx instead of through save_for_backward."
        )
        findings.append(trial.finding("memory", "kept alive", message))
    elif kept.cycles >= CALLS:
        note += "; only the garbage collector frees it, as there is a reference cycle"
        if subject.target.kind == "torch.autograd.Function":
            message = (
                f"What a call of {subject.target.name} computes is not freed with the last "
                "reference to it, but whenever the garbage collector runs: there is a reference "
                "cycle. Keep inputs and outputs through save_for_backward, not on ctx."
            )
            findings.append(trial.finding("memory", "kept alive", message))
    outcome = trial.outcome("memory", (), findings, note)
    outcome.data = {"residual_bytes": kept.residuals, "input_output_bytes": own}
    return outcome

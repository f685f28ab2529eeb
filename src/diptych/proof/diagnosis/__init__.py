"""Why a JVP or VJP is wrong: which hypothesis turns what was found into what was expected.

Each hypothesis is a function of a `Case` that returns what would explain the difference, or `None`.
They are tried in order, the most specific first; the first that fits at every entry is the cause.
"""

from __future__ import annotations

from collections.abc import Callable

from diptych.proof.diagnosis import entries, maps, vectors
from diptych.proof.diagnosis.case import Answer, Case, close

__all__ = ["Case", "close", "diagnose"]

HYPOTHESES: tuple[Callable[[Case], Answer], ...] = (
    vectors.not_repeated,
    entries.not_finite,
    vectors.ignored,
    vectors.not_linear,
    entries.zero,
    entries.sign,
    vectors.swapped,
    vectors.conjugate,
    vectors.real_part,
    entries.transposed,
    vectors.ignored_output,
    vectors.missing_argument,
    entries.mean,
    entries.factor,
    vectors.broadcast,
    entries.in_a_few_places,
    entries.shifted,
    maps.other_axis,
    maps.transposed,
    maps.shifted,
    maps.uncoupled,
    maps.through_a_few,
    maps.missing_sum_term,
    entries.other_constants,
    entries.in_some_places,
)
# Of what is nearly right no other can be told: it fits whatever does not change much.
OF_DETAILS = (
    entries.not_finite,
    entries.in_a_few_places,
    entries.other_constants,
    entries.in_some_places,
)


def diagnose(case: Case) -> tuple[str, str]:
    """Returns the cause, and one sentence that says what would make it right."""
    for hypothesis in OF_DETAILS if close(case.found, case.expected) else HYPOTHESES:
        try:
            answer = hypothesis(case)
        except Exception:  # a hypothesis that does not apply is none
            continue
        if answer is not None:
            return answer
    return "wrong", "No simple slip explains it: derive this term again."

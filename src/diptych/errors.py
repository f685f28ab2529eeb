"""Every error that diptych raises: what was expected, what arrived, and how to mend it.

Each class also derives from the built-in error that its kind suggests, so that code which knows
nothing of diptych catches it too.
"""

from __future__ import annotations


class DiptychError(Exception):
    """The base of all errors that diptych raises on purpose."""


class KindError(DiptychError, TypeError):
    """Something of the wrong kind: arrays of two frameworks, an object that is no array."""


class StaticArgumentError(KindError):
    """An argument that must be declared static, or a static one that cannot be hashed."""


class StructureError(DiptychError, ValueError):
    """A wrong number, structure, shape or dtype of what a rule was given or returned."""


class LinearityError(DiptychError, ValueError):
    """A JVP that is not linear in its tangents, or a VJP that is not linear in its cotangent."""


class MissingDirectionError(DiptychError, NotImplementedError):
    """A derivative that the rule does not state and that cannot be derived from what it states."""


class MissingFrameworkError(DiptychError, ImportError):
    """A framework that is needed and not installed."""


class ClosureError(DiptychError, RuntimeError):
    """An array from outside the arguments is differentiated, and its gradient would be lost."""


class PurityError(DiptychError, RuntimeError):
    """A rule that changes its arguments in place."""


class HostError(DiptychError, RuntimeError):
    """A host rule lacks something that the transform it is under needs."""


class ConvergenceError(DiptychError, ArithmeticError):
    """An iterative solve did not converge."""


class SingularError(DiptychError, ArithmeticError):
    """The linearised system of an implicit rule is singular."""


def message(where: str, *, expected: str, got: str, mend: str) -> str:
    """Returns the text of an error in the one form that all of them have.

    Args:
        where: the rule and the argument or output concerned.
        expected: what should have come.
        got: what came.
        mend: what to do about it.
    """
    return f"{where}\n  expected: {expected}; got: {got}\n  mend: {mend}"


def kind_of(thing: object) -> str:
    """Returns what kind of thing this is, as a message says it: "a list", "an ArrayImpl"."""
    name = type(thing).__name__
    return f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}"

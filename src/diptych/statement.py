"""What has been stated of a rule: its body, its derivatives and its options."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from diptych.arguments import Parameters
from diptych.captures import Captures
from diptych.reads import fields_read
from diptych.residuals import residuals_type


class Statement:
    """What has been stated of one rule: its body, its derivatives and its options."""

    def __init__(
        self,
        body: Callable[..., Any],
        parameters: Parameters,
        *,
        linear: bool,
        host: bool,
        out: Callable[..., Any] | None,
        vectorized: bool,
        intentional: bool | str = False,
        examples: Sequence[Any] = (),
    ):
        self.body = body
        self.name = parameters.name
        self.linear = linear
        self.host = host
        self.out = out
        self.vectorized = vectorized
        # What `diptych.check` reads.
        self.intentional = intentional
        self.examples = tuple(examples)
        self.fwd: Callable[..., Any] | None = None
        self.fwd_out: Callable[..., Any] | None = None
        self.jvp: Callable[..., Any] | None = None
        self.vjp: Callable[..., Any] | None = None
        self.partials: Callable[..., Any] | None = None
        self.decorator = (
            "diptych.rule("  # what a user wrote, for messages that show a line to write
        )
        self.version = 0
        self.traced: list[Any] = []  # what became of host code in compiled code
        self.transposed: set[str] = set()  # directions once found to be linear
        self.residuals = residuals_type(parameters)
        self._reads: dict[str, frozenset[str] | None] = {}

    def state(self, part: str, function: Callable[..., Any]) -> None:
        """Sets one part of the statement; calls made before do not outlive it."""
        setattr(self, part, function)
        self.version += 1
        self.transposed.clear()
        self.__dict__.pop("captures", None)
        if part != "fwd":
            names = fields_read(function)
            known = names is not None and names <= set(self.residuals._fields)
            self._reads[part] = names if known else None  # a method of the tuple reads them all

    def reads(self, *parts: str) -> frozenset[str] | None:
        """Returns which fields of the default residuals these parts read; `None`: all of them."""
        found: frozenset[str] = frozenset()
        for part in parts:
            if part in self._reads:
                fields = self._reads[part]
                if fields is None:
                    return None
                found |= fields
        return found

    def reads_any(self) -> frozenset[str] | None:
        """Returns which fields either direction reads.

        Both are kept together: a VJP that is differentiated in its cotangent runs the JVP that is
        stated beside it.
        """
        return self.reads("vjp", "partials", "jvp")

    @property
    def differentiable(self) -> bool:
        """Whether any derivative is stated."""
        return bool(self.jvp or self.vjp or self.partials or self.linear)

    @functools.cached_property
    def captures(self) -> Captures:
        """What the functions read from outside their arguments."""
        return Captures(self.functions)

    @property
    def functions(self) -> list[Callable[..., Any]]:
        """The functions that were stated, the body first."""
        return [f for f in (self.body, self.fwd, self.jvp, self.vjp, self.partials) if f]

    @property
    def two_maps(self) -> bool:
        """Whether the directions are stated apart, so that none may stand in for the other."""
        stated_push = self.jvp is not None or self.linear or self.partials is not None
        return (
            self.host
            or (stated_push and self.vjp is not None)
            or (self.jvp is not None and self.partials is not None)
        )

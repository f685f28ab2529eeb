"""What a user writes: a function together with its JVP and/or VJP."""

from __future__ import annotations

import functools
import itertools
import weakref
from collections.abc import Callable, Iterable, Sequence
from types import MethodType
from typing import Any, TypeVar, overload

from diptych import backends, stating
from diptych.arguments import Parameters, flatten, is_node
from diptych.call import Call
from diptych.errors import HostError, KindError, StaticArgumentError, message
from diptych.statement import Statement
from diptych.static import Static

F = TypeVar("F", bound=Callable[..., Any])

_PLANS_KEPT = 256
_numbers = itertools.count()
_rules: weakref.WeakValueDictionary[str, Rule] = weakref.WeakValueDictionary()
_NUMBERS = (bool, int, float, complex)
_VALUES = frozenset({bool, int, float, complex, str, bytes, type(None)})
_NO_VALUES = Static(())
# Equal values of these types are the same value (0.0 and -0.0 are not).
_EXACT = frozenset({bool, int, str, bytes, type(None)})


def _no_plan(call: Call, kinds: tuple[type, ...]) -> None:
    """A backend without cheap calls."""


class Rule:
    """A function whose derivative is the one that is stated. Made by `diptych.rule`."""

    __qualname__: str  # the function's, by update_wrapper

    def __init__(self, function: Callable[..., Any], parameters: Parameters, statement: Statement):
        functools.update_wrapper(self, function)
        if not hasattr(self, "__qualname__"):  # an object that can be called, or a partial
            self.__name__ = self.__qualname__ = parameters.name
        self.__signature__ = parameters.signature  # JAX asks for it at every eager grad
        self._function = function
        self._parameters = parameters
        self._statement = statement
        self._plans: dict[Any, Any] = {}
        self._calls: dict[Any, Call] = {}
        self._method: Rule | None = None
        self._in_class = False
        self._compiled: list[Any] = []  # its calls in compiled code
        # torch.compile finds a rule by its number, as it can hold no object of ours; in text, since
        # Dynamo makes ints symbolic.
        self._index = str(next(_numbers))
        _rules[self._index] = self
        backends.announce()

    # Statements.

    @overload
    def fwd(self, function: F) -> F: ...
    @overload
    def fwd(self, *, out: Callable[..., Any]) -> Callable[[F], F]: ...
    def fwd(self, function: Any = None, *, out: Callable[..., Any] | None = None) -> Any:
        """States `(*args) -> (out, res)`: the value, and what the derivative keeps.

        Args:
            function: gives the output and the residuals, intermediates included.
            out: for a host rule that is traced: maps the arguments' specs to those of
                `(out, res)`.

        Returns:
            The function it was given.
        """
        if function is None:
            return functools.partial(self.fwd, out=out)  # type: ignore[call-overload]  # both: ours
        self._statement.fwd_out = out
        return self._state("fwd", function)

    def jvp(self, function: F, *arguments: Any) -> F:
        """States J: `(res, *tangents) -> out_tangent`, one tangent per non-static argument.

        Returns:
            The function it was given.
        """
        return self._state("jvp", function, *arguments)

    def vjp(self, function: F, *arguments: Any) -> F:
        """States J*: `(res, out_bar) -> cotangent(s)`, one per non-static argument.

        A cotangent may be `None` for zero, or a function of no arguments, called only if wanted.

        Returns:
            The function it was given.
        """
        return self._state("vjp", function, *arguments)

    def partials(self, function: F, *arguments: Any) -> F:
        """States an elementwise function's `df/dx_i`: `(res) -> partial(s)`; gives both directions.

        Returns:
            The function it was given.
        """
        return self._state("partials", function, *arguments)

    def _state(self, part: str, function: F, *arguments: Any) -> F:
        if not callable(function) or arguments:
            raise stating.no_statement(self._statement.name, part, (function, *arguments))
        stating.check(part, function, self._parameters)
        self._statement.state(part, function)
        for rule in (self, self._method):
            if rule is not None:
                rule._plans.clear()
                rule._calls.clear()
        return function

    # Calls.

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the rule's value; the transforms around it see the stated derivative."""
        if backends.compiling():
            if self._in_class and args and self._is_object(args[0]):
                return backends.call_compiled(self._for_instance(args[0]), args, kwargs)
            return backends.call_compiled(self, args, kwargs)
        if not kwargs:
            plan = self._plans.get(tuple([type(arg) for arg in args]))
            if plan is not None:
                return plan(args)
        return self._call(args, kwargs)

    def _value(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Returns the rule's value by plainly calling what the user wrote."""
        statement = self._statement
        if statement.fwd is not None:
            return statement.fwd(*args, **kwargs)[0]
        return statement.body(*args, **kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._in_class and args and self._is_object(args[0]):
            return self._for_instance(args[0])(*args, **kwargs)  # called through its class
        dynamic, static = self._parameters.bind(args, kwargs)
        leaves, treedef = flatten(dynamic)
        found = {backends.owner(type(leaf)) for leaf in leaves}
        if None in found:
            self._refuse_objects(leaves, treedef)
        backend = backends.backend_of(leaves, self._statement.name)
        call = self.call_of(treedef, static)
        if not kwargs and call.flat and len(args) == len(self._parameters.names):
            self._plan(args, backend, treedef)
        return backend.apply(call, leaves)

    def _plan(self, args: tuple[Any, ...], backend: Any, treedef: Any) -> None:
        """Remembers how arguments of these types bind, so that the next call need not look."""
        parameters = self._parameters
        if len(self._plans) >= _PLANS_KEPT:
            self._plans.clear()
        apply = backend.apply
        kinds = tuple([type(arg) for arg in args])
        planned = getattr(backend, "planned", _no_plan)
        if not parameters.static_names:
            call = self.call_of(treedef, ())
            plan = planned(call, kinds) or functools.partial(apply, call)
        else:
            dynamic, static = parameters.dynamic_positions, parameters.static_positions
            leaf_kinds = tuple([kinds[i] for i in dynamic])
            exact = all(kinds[i] in _EXACT for i in static)
            known: dict[Any, Any] = {}

            def plan(args: tuple[Any, ...]) -> Any:
                values = tuple([args[i] for i in static])
                leaves = [args[i] for i in dynamic]
                if not exact:
                    return apply(self.call_of(treedef, values), leaves)
                run = known.get(values)
                if run is None:
                    if len(known) >= _PLANS_KEPT:
                        known.clear()
                    call = self.call_of(treedef, values)
                    run = known[values] = planned(call, leaf_kinds) or functools.partial(
                        apply, call
                    )
                return run(leaves)

        self._plans[tuple([type(arg) for arg in args])] = plan

    def call_of(self, treedef: Any, static: tuple[Any, ...]) -> Call:
        """Returns the call with this structure and these static values, the same one each time."""
        values = Static(static) if static else _NO_VALUES
        if not all(type(value) in _VALUES for value in static):
            # Not remembered: an object or a closure must not be kept alive here.
            return Call(self._statement, self._parameters, treedef, values)
        call = self._calls.get((treedef, values))
        if call is None:
            if len(self._calls) >= _PLANS_KEPT:
                self._calls.clear()
            call = Call(self._statement, self._parameters, treedef, values)
            if all(type(value) in _VALUES for value in call.fixed.values):
                self._calls[treedef, values] = call
        return call

    def _refuse_objects(self, leaves: list[Any], treedef: Any) -> None:
        """Raises `StaticArgumentError` for a leaf that is neither an array nor a number."""
        for i, leaf in enumerate(leaves):
            if backends.owner(type(leaf)) is None and not isinstance(leaf, _NUMBERS):
                raise self._not_an_array(treedef, i, leaf)

    def _not_an_array(self, treedef: Any, i: int, leaf: Any) -> StaticArgumentError:
        call = Call(self._statement, self._parameters, treedef, _NO_VALUES)
        name = self._statement.name
        argument = next(a.name for a in call.arguments if a.start <= i < a.stop)
        kind = type(leaf)
        base = argument.partition("[")[0]
        mend = (
            "trace with torch.export, make_fx or torch.compile: torch.fx sees no rules"
            if kind.__module__ == "torch.fx.proxy"
            else "pass its parameters as arguments of their own"
            if hasattr(leaf, "parameters") and hasattr(leaf, "state_dict")
            else f'declare it: @diptych.rule(static=("{base}",))'
            if base == call.leaf_names[i]
            else f"take it out of '{base}' and pass it as an argument of its own, declared static"
        )
        return StaticArgumentError(
            message(
                f"{name}: argument '{call.leaf_names[i]}' is no array",
                expected="arrays and numbers in every argument that is not static",
                got=f"{kind.__module__}.{kind.__qualname__}",
                mend=mend,
            )
        )

    # A rule in a class is a method.

    def __set_name__(self, owner: type, name: str) -> None:
        self._in_class = True
        # Made here, since torch.compile may be the first to ask for it and can make no rule.
        self._as_method()

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        method = self._for_instance(instance)
        if backends.compiling():  # Dynamo cannot make a bound method
            return functools.partial(method, instance)
        return MethodType(method, instance)

    def _is_object(self, first: Any) -> bool:
        """Returns whether the first argument is an instance that must be static."""
        if self._parameters.names[0] in self._parameters.static or isinstance(first, _NUMBERS):
            return False
        return backends.owner(type(first)) is None and not is_node(first)

    def _for_instance(self, instance: Any) -> Rule:
        first = self._parameters.names[0]
        if first in self._parameters.static or is_node(instance):
            return self  # static already, or a pytree: then `self` is an argument like any other
        return self._method or self._as_method()

    def _as_method(self) -> Rule:
        names = {*self._parameters.static, *self._parameters.names[:1]}
        parameters = Parameters(self._function, names, stateful=True)
        self._method = Rule(self._function, parameters, self._statement)
        return self._method

    def __repr__(self) -> str:
        return f"<diptych.rule {self.__qualname__}>"

    def __reduce__(self) -> str:
        return self.__qualname__


def numbered(index: str) -> Rule:
    """Returns the rule with this number."""
    return _rules[index]


def _no_function(given: Any) -> KindError:
    kind = type(given).__name__
    mend = f"write @{kind} above @diptych.rule"
    if not isinstance(given, (staticmethod, classmethod)):
        mend = 'write @diptych.rule above a function, or @diptych.rule(static=("n",)) with options'
    return KindError(
        message("diptych.rule", expected="a function", got=f"{kind}: {given!r}", mend=mend)
    )


@overload
def rule(function: Callable[..., Any], /) -> Rule: ...
@overload
def rule(
    *,
    static: str | Iterable[str] = (),
    linear: bool = False,
    host: bool = False,
    out: Callable[..., Any] | None = None,
    vectorized: bool = False,
    intentional: bool | str = False,
    examples: Sequence[Any] = (),
) -> Callable[[Callable[..., Any]], Rule]: ...
def rule(
    function: Callable[..., Any] | None = None,
    /,
    *,
    static: str | Iterable[str] = (),
    linear: bool = False,
    host: bool = False,
    out: Callable[..., Any] | None = None,
    vectorized: bool = False,
    intentional: bool | str = False,
    examples: Sequence[Any] = (),
) -> Any:
    """Makes a rule of a function; its derivative is then stated with the rule's decorators.

    Args:
        function: the primal, written with `diptych.namespace` so that both frameworks run it.
        static: the names of arguments that are no arrays and take no part in differentiation.
        linear: the function is linear in its non-static arguments: its JVP is itself.
        host: the bodies get and return NumPy arrays; the framework does not trace them.
        out: for host rules, maps the arguments' `diptych.Spec`s to the output's; needed where the
            framework must know the output before the function runs (jit, compile).
        vectorized: for host rules, one call does a whole batch along leading axes under `vmap`.
        intentional: the derivative is meant to differ from the function's (a straight-through
            estimator); a string says why. `diptych.check` then accepts the difference.
        examples: tuples of arguments on which `diptych check` checks the rule.

    Returns:
        The rule: callable as the function is, on arrays of either framework or of NumPy.

    Raises:
        StaticArgumentError: if `static` names no parameter of the function.

    Examples:
        >>> import diptych, numpy as np
        >>> @diptych.rule
        ... def cube(x):
        ...     return x**3
        >>> @cube.vjp
        ... def cube_vjp(res, out_bar):
        ...     return 3 * res.x**2 * out_bar
        >>> out, pullback = diptych.vjp(cube, np.array(2.0))
        >>> [float(bar) for bar in pullback(np.array(1.0))]
        [12.0]
    """
    names = (static,) if isinstance(static, str) else static
    if (out is not None or vectorized) and not host:
        raise HostError(
            message(
                "diptych.rule",
                expected="host=True beside out= and vectorized=, which concern NumPy code",
                got="host=False",
                mend="add host=True, or leave them out",
            )
        )

    def decorate(function: Callable[..., Any]) -> Rule:
        if not callable(function) or isinstance(function, (staticmethod, classmethod)):
            raise _no_function(function)
        parameters = Parameters(function, names)
        statement = Statement(
            function,
            parameters,
            linear=linear,
            host=host,
            out=out,
            vectorized=vectorized,
            intentional=intentional,
            examples=examples,
        )
        return Rule(function, parameters, statement)

    return decorate if function is None else decorate(function)

"""What is to be checked, from its name: a function in a module, or every rule in a package."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from diptych.errors import DiptychError, message
from diptych.proof.prober import prober_of
from diptych.proof.subject import Subject, example_of
from diptych.proof.target import target_of
from diptych.rule import Rule


class TargetError(DiptychError, LookupError):
    """A module, a name in it, or an example that is not there."""


class Found(NamedTuple):
    """A function to check, with its examples.

    Args:
        name: where it was found, as "module:name".
        function: the function.
        examples: tuples of arguments.
    """

    name: str
    function: Any
    examples: list[tuple[Any, ...]]


class Package(NamedTuple):
    """What a package holds.

    Args:
        found: the rules that carry examples.
        without: the names of the rules that carry none.
        errors: the modules that cannot be imported, each with what it raised.
    """

    found: list[Found]
    without: list[str]
    errors: list[tuple[str, str]]


def module_of(name: str) -> ModuleType:
    """Returns the module of this name, or in the file of this path.

    Raises:
        TargetError: if there is none, or it cannot be imported.
    """
    try:
        if name.endswith(".py"):
            return _from_file(Path(name))
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise TargetError(
            message(
                f"the module {name!r} cannot be imported",
                expected="a module on sys.path or in the current directory, or a .py file",
                got=said(error),
                mend="write package.module:name as you would import it",
            )
        ) from error


def said(error: BaseException) -> str:
    """Returns an error in one line, with the place it came from."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    if frame is None or isinstance(error, ImportError):
        return text
    return f"{text} ({Path(frame.tb_frame.f_code.co_filename).name}, line {frame.tb_lineno})"


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    # As `python path` does: what lies beside the file can be imported.
    sys.path.insert(0, str(path.parent.resolve()))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses and pickle look a class's module up
    spec.loader.exec_module(module)
    return module


def function_of(text: str) -> Found:
    """Returns the function that "module:name" names, with the examples that it carries.

    Raises:
        TargetError: if there is no such module, or no such name in it.
    """
    where, _, name = text.partition(":")
    found: Any = module_of(where)
    for part in name.split("."):
        if not hasattr(found, part):
            near = _alike(part, found)
            raise TargetError(
                message(
                    f"there is no {name!r} in {where}",
                    expected="the name of a function, a rule or a class of that module",
                    got=repr(part),
                    mend=f"did you mean {near}?" if near else f"look at dir({where})",
                )
            )
        found = getattr(found, part)
    if not callable(found):
        raise TargetError(
            message(
                f"{text} is no function",
                expected="a rule, a custom derivative of PyTorch or JAX, or a function",
                got=type(found).__name__,
                mend="name the function itself",
            )
        )
    return Found(text, found, examples_of(found))


def _alike(name: str, holder: Any) -> str:
    import difflib

    public = [n for n in dir(holder) if not n.startswith("_")]
    return ", ".join(difflib.get_close_matches(name, public, 3))


def examples_of(f: Any) -> list[tuple[Any, ...]]:
    """Returns the examples that a rule carries, each a tuple of arguments."""
    if not isinstance(f, Rule):
        return []
    return [x if isinstance(x, tuple) else (x,) for x in f._statement.examples]


def rules_of(name: str) -> Package:
    """Returns every rule that is defined in a module or package, modules within included.

    Raises:
        TargetError: if the package itself cannot be imported.
    """
    top = module_of(name)
    package = Package([], [], [])
    seen: set[int] = set()
    for module in _modules(top, package.errors):
        for label, rule in _rules_in(module):
            own = f"{rule.__module__}.".startswith(f"{top.__name__}.")
            if id(rule) in seen or not own:
                continue
            seen.add(id(rule))
            full = f"{module.__name__}:{label}"
            examples = examples_of(rule)
            if examples:
                package.found.append(Found(full, rule, examples))
            else:
                package.without.append(full)
    return package


def _modules(top: ModuleType, errors: list[tuple[str, str]]) -> Iterator[ModuleType]:
    yield top
    if not hasattr(top, "__path__"):
        return
    for info in pkgutil.iter_modules(top.__path__, f"{top.__name__}."):
        if info.name.endswith(".__main__"):
            continue  # a program: importing it would run it
        try:
            module = importlib.import_module(info.name)
        except (Exception, SystemExit) as error:
            errors.append((info.name, said(error)))
            continue
        yield from _modules(module, errors)


def _rules_in(holder: Any, prefix: str = "") -> Iterator[tuple[str, Rule]]:
    for name, thing in list(vars(holder).items()):
        if isinstance(thing, Rule):
            yield f"{prefix}{name}", thing
        elif isinstance(thing, type) and not prefix and thing.__module__ == holder.__name__:
            yield from _rules_in(thing, f"{name}.")


def runs_on(f: Any, args: Sequence[Any], names: Sequence[str]) -> list[str]:
    """Returns the frameworks among `names` whose arrays a function takes and returns.

    Raises:
        Exception: what the function raised, if it takes those of none.
    """
    working: list[str] = []
    failure: Exception | None = None
    for name in names:
        prober = prober_of(name)
        target, full_args = target_of(f, prober, args)
        try:
            example = example_of(target, full_args, prober.numpy, prober.is_array)
            if Subject(target, prober, example).outputs:
                working.append(name)
        except Exception as error:
            failure = failure or error
    if not working and failure is not None:
        raise failure
    return working or list(names)

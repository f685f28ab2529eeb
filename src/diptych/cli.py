"""The command line: `diptych check module:name`, `diptych check package`, `diptych learn`.

It exits with 0 if nothing is wrong, 1 if a derivative is broken, and 2 if something could not be
checked (and nothing is known to be broken).
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import diptych
from diptych.errors import DiptychError
from diptych.proof.summary import OK, UNCHECKED, Failure, Summary
from diptych.rule import Rule

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Framework(StrEnum):
    """A framework, as it is typed."""

    torch = "torch"
    jax = "jax"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"diptych {diptych.__version__}")
        raise typer.Exit


@app.callback()
def diptych_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One derivative rule, both directions, right under every transform of PyTorch and JAX."""


@app.command()
def check(
    target: Annotated[
        str,
        typer.Argument(
            help="module:name, file.py:name, or a package whose rules carry examples.",
            show_default=False,
        ),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            help="One argument, in order: normal(3, 4), [1.0, 2.0], 3, x.npy. Repeat for more.",
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report to this page.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, not the table.")] = False,
    order: Annotated[
        int | None, typer.Option(min=1, help="Up to which order to test; 2 if not given.")
    ] = None,
    claim: Annotated[
        list[str] | None, typer.Option(help="A claim to test; all if none is named.")
    ] = None,
    skip: Annotated[list[str] | None, typer.Option(help="A claim to leave out.")] = None,
    framework: Annotated[
        list[Framework] | None, typer.Option(help="On which to check; all that are installed.")
    ] = None,
    reference: Annotated[
        str, typer.Option(help="auto, body, differences, 'complex step' or mpmath.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Of random inputs and directions.")] = 0,
    budget: Annotated[
        float, typer.Option(min=0.0, help="Seconds that go into varying the example.")
    ] = 5.0,
    neighbours: Annotated[bool, typer.Option(help="Vary the example.")] = True,
    compile: Annotated[bool, typer.Option(help="Test compiled code too.")] = True,
    debug: Annotated[bool, typer.Option(help="Print the traceback of what was raised.")] = False,
) -> None:
    """Check the derivative of a function, or of every rule in a package that carries examples.

    Exit status: 0 nothing is wrong; 1 a derivative is broken; 2 something could not be checked.
    """
    # As `python -m` does; a console script has its own folder there.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    options: dict[str, Any] = dict(
        order=order,
        claims=claim or None,
        skip=skip or (),
        frameworks=[f.value for f in framework] if framework else None,
        reference=reference,
        seed=seed,
        budget=budget,
        neighbours=neighbours,
        compile=compile,
    )
    summary = _run(target, inputs or [], options, debug, quiet=as_json)
    if html is not None and summary.reports:
        try:
            summary.to_html(html)
        except OSError as error:
            summary.failures.append(Failure(str(html), f"the page cannot be written: {error}"))
    if as_json:
        typer.echo(json.dumps(summary.record(), indent=1, allow_nan=False))
    else:
        _print(summary, html)
    raise typer.Exit(summary.status)


@app.command()
def learn(
    browser: Annotated[bool, typer.Option(help="Open it in the browser.")] = True,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Of 127.0.0.1; if not given 8000, or one that is free."
        ),
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build it again first.")] = False,
) -> None:
    """Open the tutorial; where it is not built yet, build it first (minutes, once)."""
    from diptych.learn.serve import learn

    raise typer.Exit(learn(browser, port, rebuild))


def _run(
    target: str, inputs: list[str], options: dict[str, Any], debug: bool, quiet: bool
) -> Summary:
    """Returns all that could be checked, and why the rest could not be."""
    from diptych.proof import discover
    from diptych.proof.summary import check_all

    summary = Summary(target)
    try:
        if ":" in target:
            found = discover.function_of(target)
            if inputs:
                found = found._replace(examples=[_arguments(found.function, inputs, options)])
            if not found.examples:
                raise discover.TargetError(
                    "there is no example of its arguments\n"
                    "  mend: add --input for each argument, for example --input 'normal(3, 4)',"
                    " or state @diptych.rule(examples=[...])"
                )
            work = [found]
        else:
            if inputs:
                raise discover.TargetError(
                    "--input is for one function, and this is a module\n"
                    f"  mend: name the function too: {target}:name"
                )
            package = discover.rules_of(target)
            work, summary.without = package.found, package.without
            summary.failures += [Failure(*error) for error in package.errors]
            if not work:
                summary.failures.append(Failure(target, _no_examples(package.without)))
    except (DiptychError, ValueError) as error:
        if debug:
            traceback.print_exc()
        summary.failures.append(Failure(target, str(error)))
        return summary
    check_all(work, options, summary, debug=debug, quiet=quiet)
    return summary


def _no_examples(without: list[str]) -> str:
    if not without:
        return "there is no diptych rule in it"
    return (
        f"none of its {len(without)} rules carries an example\n"
        "  mend: state @diptych.rule(examples=[(x, y), ...]), or check one: module:name --input ..."
    )


def _arguments(f: Any, inputs: list[str], options: dict[str, Any]) -> tuple[Any, ...]:
    """Returns the arguments that are typed; a float is an array, unless it is static."""
    import numpy as np

    from diptych.proof.inputs import parse

    rng = np.random.default_rng(options["seed"])
    names: tuple[str, ...] = f._parameters.names if isinstance(f, Rule) else ()
    static = f._parameters.static if isinstance(f, Rule) else frozenset[str]()
    args = []
    for position, text in enumerate(inputs):
        value = parse(text, rng)
        if isinstance(value, (float, complex)):
            name = names[position] if position < len(names) else None
            value = value if name in static else np.asarray(value)
        args.append(value)
    return tuple(args)


def _print(summary: Summary, html: Path | None) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        columns = min(max(console.width, 80), 120)
        console = Console(highlight=False, width=columns)
    for part in summary.parts():
        console.print(part)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    for failure in summary.failures:
        errors.print(Text(f"could not check {failure.target}: {failure.text}", style="yellow"))
    if html is not None and html.is_file() and summary.reports:
        console.print(Text(f"page: {html}", style="dim"))


def main() -> None:
    """Runs the command line; what fails within it is no broken derivative, so exits with 2."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a TextIOWrapper
    try:
        app(prog_name="diptych")
    except Exception:
        traceback.print_exc()
        sys.exit(UNCHECKED)
    sys.exit(OK)

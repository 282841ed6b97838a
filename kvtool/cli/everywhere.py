"""What every command has: examples at the end of its help, and the flags -q, -v and --wide wherever
they stand on the line.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer
from typer.main import get_command

from kvtool.cli import console
from kvtool.screen import widen

HEADING = "Examples:"
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Print more notes.")]
WideOption = Annotated[
    bool, typer.Option("--wide", help="Print tables as wide as they are, names in full.")
]


def epilog(*examples: str) -> str | None:
    """Return the end of a command's help: lines of the shell, or None where there are none."""
    if not examples:
        return None
    lines = "\n".join(examples).splitlines()
    # The lines of a paragraph that begins with a backspace stay as they are.
    return "\n".join(["\b", HEADING, *(f"  {line}" for line in lines)])


def examples_in(help_text: str) -> list[str]:
    """Return the examples that end a help or an epilog, a line of the shell each; none where it has
    none.
    """
    _, _, lines = help_text.partition(f"{HEADING}\n")
    joined = re.sub(r"\s*\\\n\s*", " ", lines)
    return [line.strip() for line in joined.splitlines()]


def add_common_flags(command: Any) -> None:
    """Give the flags -q, -v and --wide to a command and to those below it."""
    command.params += _common_flags()
    for subcommand in getattr(command, "commands", {}).values():
        add_common_flags(subcommand)


def name_variables(command: Any, words: tuple[str, ...]) -> None:
    """Let each flag of a command, and of those below it, be set by the variable that its own words
    make, as KVTOOL_KNOCKOUT_EACH for --each; by itself Typer takes the parameter's name.
    """
    for parameter in command.params:
        variables = [_variable((*words, flag[2:])) for flag in parameter.opts if flag[:2] == "--"]
        if {*variables} - {_variable((*words, parameter.name))}:
            parameter.envvar = variables
    for name, subcommand in getattr(command, "commands", {}).items():
        name_variables(subcommand, (*words, name))


def _variable(words: tuple[str, ...]) -> str:
    return "_".join(words).replace("-", "_").upper()


def _common_flags() -> list[Any]:
    """Return the flags; they set the consoles and are no arguments of the command."""

    # Typer makes flags of a function's parameters; this function is never called.
    def flags(
        quiet: QuietOption = False, verbose: VerboseOption = False, full_width: WideOption = False
    ) -> None: ...

    single = typer.Typer(add_completion=False)
    single.command()(flags)
    parameters = get_command(single).params
    for parameter in parameters:
        parameter.expose_value = False
        parameter.callback = _set_wide if parameter.name == "full_width" else _set_level
    return list(parameters)


def _set_level(context: Any, parameter: Any, is_given: bool) -> None:
    # At Tab, flags are parsed too, without a console.
    if is_given and not context.resilient_parsing:
        console.set_level(**{parameter.name: True})


def _set_wide(context: Any, parameter: Any, is_given: bool) -> None:  # noqa: ARG001  click's
    if is_given and not context.resilient_parsing:
        widen()

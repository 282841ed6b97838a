"""docs/cli.md from the help of all commands: python -m kvtool.cli.reference > docs/cli.md."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from kvtool.cli.app import command_line

WIDTH = 80


def commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of a command and of all below it, in the order of the help."""
    yield words
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*words, name))


def help_text(command: tuple[str, ...]) -> str:
    """Return what `kvtool COMMAND --help` prints at a fixed width, without the variables of flags,
    for which there is a rule.
    """
    text, line = io.StringIO(), [*command, "--help"]
    with redirect_stdout(text), _without_variables(command):
        command_line()(line, prog_name="kvtool", standalone_mode=False, terminal_width=WIDTH)
    return text.getvalue().rstrip()


@contextmanager
def _without_variables(words: tuple[str, ...]) -> Iterator[None]:
    """Leave the variables of a command's flags out of its help."""
    command = command_line()
    for word in words:
        command = command.commands[word]
    visible = [flag for flag in command.params if getattr(flag, "show_envvar", False)]
    try:
        for flag in visible:
            flag.show_envvar = False
        yield
    finally:
        for flag in visible:
            flag.show_envvar = True


def reference() -> str:
    """Return the text of docs/cli.md."""
    parts = ["# Commands\n\nGenerated from `--help` by `make docs`; a test compares.\n"]
    for command in commands(command_line()):
        parts.append(f"## {' '.join(('kvtool', *command))}\n\n```\n{help_text(command)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(reference(), end="")

"""docs/cli.md from the help of all commands: python -m kvtool.cli.reference > docs/cli.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

from kvtool.cli.app import app

WIDTH = "100"


def commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of a command and of all below it, in the order of the help."""
    yield words
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*words, name))


def help_text(command: tuple[str, ...]) -> str:
    """Return what `kvtool COMMAND --help` prints at a fixed width."""
    env = {"COLUMNS": WIDTH, "TERMINAL_WIDTH": WIDTH, "NO_COLOR": "1", "TERM": "dumb"}
    return (
        CliRunner().invoke(app, [*command, "--help"], prog_name="kvtool", env=env).output.rstrip()
    )


def reference() -> str:
    """Return the text of docs/cli.md."""
    parts = ["# Commands\n\nGenerated from `--help` by `make docs`; a test compares.\n"]
    for command in commands(get_command(app)):
        parts.append(f"## {' '.join(('kvtool', *command))}\n\n```\n{help_text(command)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(reference(), end="")

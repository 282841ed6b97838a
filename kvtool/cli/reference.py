"""docs/cli.md from the help of all commands: python -m kvtool.cli.reference > docs/cli.md."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any
from unittest.mock import patch

from kvtool.cli.app import command_line

SCREEN = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}


def commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of a command and of all below it, in the order of the help."""
    yield words
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*words, name))


def help_text(command: tuple[str, ...]) -> str:
    """Return what `kvtool COMMAND --help` prints at a fixed width."""
    text = io.StringIO()
    with patch.dict(os.environ, SCREEN), redirect_stdout(text):
        line = [*command, "--help"]
        command_line()(line, prog_name="kvtool", standalone_mode=False, terminal_width=80)
    return text.getvalue().rstrip()


def reference() -> str:
    """Return the text of docs/cli.md."""
    parts = ["# Commands\n\nGenerated from `--help` by `make docs`; a test compares.\n"]
    for command in commands(command_line()):
        parts.append(f"## {' '.join(('kvtool', *command))}\n\n```\n{help_text(command)}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(reference(), end="")

"""Command lines as pages and scripts have them, parsed and not run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from typer.main import get_command

from kvtool.cli.app import app

CONTINUED = re.compile(r"\\\n\s*")


def kvtool_lines(text: str) -> Iterator[list[str]]:
    """Yield the words of every kvtool command of a script, without its name.

    A line may pipe several commands into each other, and go on after a backslash at its end.
    """
    for line in CONTINUED.sub(" ", text).splitlines():
        words = shlex.split(line, comments=True) if line.strip().startswith("kvtool ") else []
        while words:
            end = words.index("|") if "|" in words else len(words)
            if words[0] == "kvtool":
                yield words[1:end]
            words = words[end + 1 :]


def parse(words: list[str]) -> Any:
    """Parse a command's words and return its context. Raises click's UsageError for wrong ones."""
    command: Any = get_command(app)
    context = command.make_context("kvtool", list(words))
    while arguments := [*context._protected_args, *context.args]:
        name, command, arguments = context.command.resolve_command(context, arguments)
        context = command.make_context(name, arguments, parent=context)
    return context


def stand_in(words: Sequence[str], model: Path) -> list[str]:
    """The tiny model for every other, and this machine's processor for cards that it may lack."""
    stand_ins = {"--model": str(model), "--devices": "cpu"}
    if "demo" in words and ("--sae" in words or words[0] == "demo"):
        # SAEs are of one model alone, and the demo takes its own by name.
        del stand_ins["--model"]
    before = ["", *words[:-1]]
    return [stand_ins.get(flag, word) for flag, word in zip(before, words, strict=True)]

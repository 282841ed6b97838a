"""Messages, help and docs name flags that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import typer

from kvtool.cli.app import app

PACKAGE = Path(__file__).parent.parent.parent / "kvtool"
FLAG = re.compile(r"(?<![\w(-])--[a-z][a-z0-9-]*[a-z0-9]")
FOREIGN = {"--no-deps"}
"""Flags of other tools that a text may name."""


def all_flags(command: Any) -> set[str]:
    """Every flag of a command and of those below it."""
    parameters = command.get_params(typer.Context(command))
    flags = {
        flag for parameter in parameters for flag in (*parameter.opts, *parameter.secondary_opts)
    }
    for below in getattr(command, "commands", {}).values():
        flags |= all_flags(below)
    return flags | {"--help"}


def own_flags(path: Path) -> set[str]:
    """Those that a module of another entry point declares itself, with argparse."""
    return set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', path.read_text()))


def texts(path: Path) -> list[tuple[int, str]]:
    """String literals of a module with a flag, the constant parts of formatted ones, with their
    lines.
    """
    source = path.read_text()
    nodes = ast.walk(ast.parse(source)) if FLAG.search(source) else ()
    return [
        (node.lineno, node.value)
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


FLAGS = all_flags(typer.main.get_command(app)) | FOREIGN


def test_every_flag_that_a_text_names_exists() -> None:
    unknown = [
        (str(path.relative_to(PACKAGE)), line, flag)
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in texts(path)
        for flag in FLAG.findall(text)
        if flag not in FLAGS | own_flags(path)
    ]
    assert unknown == []


def test_a_flag_that_is_none_would_be_found() -> None:
    assert FLAG.findall("install it or take --neighbors auto") == ["--neighbors"]
    assert {"--backend", "--layers", "--labels", "--log-file"} <= FLAGS
    assert "--neighbors" not in FLAGS

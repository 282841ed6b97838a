"""docs/cli.md is what the commands say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from kvtool.cli.app import app
from kvtool.cli.reference import commands, reference

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.mark.slow
def test_reference_is_current() -> None:
    assert DOCS.read_text() == reference(), "docs/cli.md is stale: run `make docs`"


@pytest.mark.slow
def test_reference_names_every_command() -> None:
    paths: set[tuple[str, ...]] = {()}
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        paths.add((name,))
        paths.update((name, sub) for sub in getattr(command, "commands", {}))
    assert paths == set(commands(get_command(app)))


def test_no_arguments_shows_help() -> None:
    assert "extract" in CliRunner().invoke(app, []).output

"""Commands run in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import pytest

from kvtool.cli import app

Score = Callable[..., tuple[int, str, list[str]]]
Shell = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Run `kvtool ...`: (exit code, standard output, lines of standard error)."""

    def run(*arguments: object) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(sys, "argv", ["kvtool", *map(str, arguments)])
        code = 0
        try:
            app.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return run


@pytest.fixture
def score(shell: Shell) -> Score:
    """Run `kvtool score ...`, as shell."""
    return partial(shell, "score")

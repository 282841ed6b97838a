"""Commands run in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from kvtool.cli import app

Score = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Score:
    """Run `kvtool score ...`: (exit code, standard output, lines of standard error)."""

    def run(*arguments: object) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(sys, "argv", ["kvtool", "score", *map(str, arguments)])
        code = 0
        try:
            app.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err.splitlines()

    return run

"""Commands run in this process, and pictures to extract from."""

from __future__ import annotations

import shutil
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvtool.cli import console
from kvtool.viewer.serve import RunningViewer
from tests.support.shell import LineShell, Shell, in_lines


@pytest.fixture
def kvtool(shell: Shell) -> LineShell:
    """Run a command in this process: (exit code, lines of standard output, lines of standard
    error).
    """
    return in_lines(shell)


@pytest.fixture
def few(tmp_path: Path, pictures: Path) -> Path:
    """Four pictures of a test's own."""
    folder = tmp_path / "few"
    folder.mkdir()
    for i in range(4):
        shutil.copy(pictures / f"{i:03d}.png", folder)
    return folder


@pytest.fixture
def notes() -> Iterator[None]:
    """Notes go to standard error, as if no command had been there before."""
    console.configure(quiet=False, verbose=False, log_file=None)
    yield
    console.configure(quiet=False, verbose=False, log_file=None)


@pytest.fixture
def short_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """A viewer would wait for Ctrl-C, and open a browser; tests/viewer and tests/browser use it."""
    monkeypatch.setattr(RunningViewer, "wait", RunningViewer.stop)
    monkeypatch.setattr(webbrowser, "open", lambda address: address)

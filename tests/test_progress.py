"""`progress=True`: a bar on a terminal and in a notebook, nothing where there is neither; and what
a function of one's own is told."""

from __future__ import annotations

import os
import pty
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from html import unescape
from inspect import signature
from pathlib import Path
from threading import Thread
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import kvtool
from kvtool import progress
from kvtool.errors import DatasetError
from kvtool.progress import ProgressTally, bar, bar_html
from tests.support.keys import planted

LAYERS = 3


@pytest.fixture
def small_run(tmp_path: Path) -> Any:
    return planted(tmp_path / "s", 12, [(0, 0)], layers=LAYERS, heads=2)


class Screen:
    """Standard error that is a terminal of 120 columns."""

    def __init__(self) -> None:
        self.end, self.file = pty.openpty()
        self.stream = os.fdopen(self.file, "w")
        self.pieces: list[bytes] = []
        # A terminal that nobody reads is full after some thousand characters.
        self.reader = Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        """Read until the other end is closed, which Linux says by an error."""
        with suppress(OSError):
            while piece := os.read(self.end, 65536):
                self.pieces.append(piece)

    def text(self) -> str:
        """Close the terminal and return what it got, without its control sequences."""
        self.stream.close()
        self.reader.join()
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(self.pieces).decode())


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    """A terminal; a test puts it in place of standard error, since pytest does so until then."""
    terminal = Screen()
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    yield terminal
    terminal.text()
    os.close(terminal.end)


class Notebook:
    """What a notebook's kernel has: a shell, and cells whose output can be replaced."""

    def __init__(self) -> None:
        self.outputs: list[str] = []

        class ZMQInteractiveShell:
            """The shell's name is what tells a notebook from a terminal."""

        def display(html: Any, *, display_id: bool) -> Any:
            assert display_id
            self.outputs.append(html)
            return SimpleNamespace(update=self.outputs.append)

        self.module = ModuleType("IPython")
        parts = {
            "get_ipython": ZMQInteractiveShell,
            "display": SimpleNamespace(display=display, HTML=str),
        }
        vars(self.module).update(parts)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    notebook = Notebook()
    monkeypatch.setitem(sys.modules, "IPython", notebook.module)
    monkeypatch.setattr(progress, "REDRAW_S", 0.0)
    return notebook


def test_a_bar_on_a_terminal(
    small_run: Any, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", screen.stream)
    kvtool.variance(small_run, progress=True)
    n_reads = LAYERS * len(small_run.parts())
    assert re.search(rf"variance .* {n_reads}/{n_reads} .*key layer {LAYERS - 1}", screen.text())


def test_a_bar_in_a_notebook(small_run: Any, notebook: Notebook) -> None:
    kvtool.variance(small_run, progress=True)
    n_reads = LAYERS * len(small_run.parts())
    first, *_, last = notebook.outputs
    assert "<progress></progress> variance: at work for 0:00:00" in first
    assert f'<progress value="{n_reads}" max="{n_reads}">' in last
    assert f"variance: {n_reads} of {n_reads}, " in last
    assert f"key layer {LAYERS - 1}" in last
    assert len(notebook.outputs) == n_reads + 3  # begun, total, every read, ended


def test_a_bar_in_a_notebook_ends_with_an_error(notebook: Notebook) -> None:
    def work() -> None:
        with bar("x") as advance:
            advance(2, "<b>", 5)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        work()
    assert '<progress value="2" max="5">' in notebook.outputs[-1]
    assert "<b>" not in notebook.outputs[-1]
    assert "<b>" in unescape(notebook.outputs[-1])


def test_neither_a_terminal_nor_a_notebook(
    small_run: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    for value in (True, False, None):
        kvtool.variance(small_run, fresh=True, progress=value)
    assert capsys.readouterr() == ("", "")


def test_a_count_beyond_the_total_is_a_full_bar() -> None:
    tally = ProgressTally(4)
    tally.add(6, "", None)
    assert '<progress value="4" max="4">' in bar_html("x", tally)


def test_a_bar_for_what_hands_its_options_on(tmp_path: Path, notebook: Notebook) -> None:
    """`score` names no option of its own: True must be a bar by then."""
    with pytest.raises(DatasetError):
        kvtool.score("spair", answers=tmp_path / "none.jsonl", progress=True)
    assert "score: at work" in notebook.outputs[-1]


@pytest.mark.slow
def test_extract_tells_how_many_images_there_are(tmp_path: Path) -> None:
    steps: list[tuple[int, str, int | None]] = []

    def tell(n: int, note: str, total: int | None = None) -> None:
        steps.append((n, note, total))

    options: dict[str, Any] = {"model": "demo", "dataset": "scenes@msrc", "layers": [0]}
    kvtool.extract(tmp_path / "s.kv", limit=2, **options)
    kvtool.extract(tmp_path / "s.kv", limit=5, progress=tell, **options)
    assert steps[0] == (0, "", 3)
    assert sum(n for n, _, _ in steps) == 3
    assert "B written" in steps[-1][1]


SHORT = {"__version__", "adapter_import", "adapter_info", "load_sae", "open", "score"}
SHORT |= {"serve", "widget"}
"""What is no long call, or shows something for as long as it is looked at; the functions of `score`
are told of by name alone, see above."""


@pytest.mark.parametrize("name", sorted(set(kvtool.__all__) - SHORT))
def test_every_long_call_takes_true(name: str) -> None:
    assert "bool" in str(signature(getattr(kvtool, name)).parameters["progress"])

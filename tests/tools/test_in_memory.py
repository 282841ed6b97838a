"""Tests keep their files in memory where there is room, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.tools import in_memory

ROOT = Path(__file__).parents[2]
PRINT = "import os, pathlib; p = pathlib.Path(os.environ['TMPDIR']); (p / 'x').touch(); print(p)"


def ran(code: str, **variables: str) -> tuple[int, str]:
    """Exit code and output of Python as in_memory runs it."""
    environment = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.tools.in_memory", "-c", code],
        cwd=ROOT,
        env=environment | variables,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.strip()


@pytest.mark.skipif(not in_memory.has_room(), reason="no 4 GB of memory to spare")
def test_a_folder_in_memory_that_goes_in_the_end() -> None:
    code, folder = ran(PRINT)
    assert code == 0
    assert Path(folder).parent == in_memory.MEMORY
    assert not Path(folder).exists()


def test_a_chosen_folder_stays(tmp_path: Path) -> None:
    assert ran(PRINT, TMPDIR=str(tmp_path)) == (0, str(tmp_path))
    assert (tmp_path / "x").exists()


def test_its_exit_code_is_given(tmp_path: Path) -> None:
    assert ran("raise SystemExit(7)", TMPDIR=str(tmp_path)) == (7, "")


def test_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_memory, "ROOM_BYTES", 1)
    assert in_memory.has_room(tmp_path)
    assert not in_memory.has_room(tmp_path / "none")
    monkeypatch.setattr(in_memory, "ROOM_BYTES", psutil.virtual_memory().available * 2)
    assert not in_memory.has_room(tmp_path)

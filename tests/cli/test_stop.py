"""How commands end when someone else ends them: Ctrl-C, a scheduler's SIGTERM, a closed pipe, a
full disk.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kvtool
from kvtool.store.verify import verify

pytestmark = pytest.mark.alone

MODELS = (sys.executable, "-m", "kvtool", "models")


@pytest.fixture
def many(tmp_path: Path, pictures: Path) -> Path:
    """More pictures than are extracted before a signal arrives."""
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(4000):
        (folder / f"{i:04d}.png").symlink_to(pictures / f"{i % 70:03d}.png")
    return folder


@pytest.mark.parametrize(
    ("number", "workers", "code", "messages"),
    [
        (signal.SIGINT, "cpu", 130, ["kvtool: interrupted; what was committed stays"]),
        (signal.SIGINT, "cpu,cpu", 130, ["kvtool: interrupted; what was committed stays"]),
        (signal.SIGTERM, "cpu", 143, []),
    ],
)
@pytest.mark.slow
def test_a_signal_releases_claims(
    tmp_path: Path,
    tiny_model: Path,
    many: Path,
    number: int,
    workers: str,
    code: int,
    messages: list[str],
) -> None:
    """The signal goes to all processes, as a terminal's Ctrl-C does."""
    store = tmp_path / "s.kv"
    command = [sys.executable, "-m", "kvtool", "extract", str(store), "--model", str(tiny_model)]
    process = subprocess.Popen(
        [*command, "--dataset", f"folder:{many}", "--devices", workers],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and not list(store.glob("runs/*/parts/0*")):
        time.sleep(0.05)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert [line.partition(", the same")[0] for line in err.splitlines()] == messages
    assert list(store.glob("runs/*/locks/*.claim")) == []
    opened = kvtool.open(store)
    assert 0 < len(opened.run().samples) < 4000
    assert verify(opened) == []
    assert [path.name for path in (store / "tmp").iterdir()] == ["zarr.json"]


@pytest.mark.slow
def test_a_closed_pipe_is_silent() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(MODELS, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_full_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(MODELS, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "kvtool: output: No space left on device\n"


@pytest.mark.slow
def test_a_log_file_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    command = [*MODELS[:-1], "--log-file", str(tmp_path / "missing" / "log"), "models"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"kvtool: {tmp_path}/missing/log: No such file or directory\n"

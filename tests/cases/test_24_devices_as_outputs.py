"""Outputs that are no regular files: written into, never renamed onto; and a link is followed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cases.outcomes import rows
from tests.cases.spaces import needs
from tests.support.shell import Shell


@pytest.fixture
def store(shell: Shell, tiny_model: Path, photos: Path, tmp_path: Path) -> Path:
    """A store with a result to report."""
    path = tmp_path / "s.kv"
    rows(shell("extract", path, "--model", tiny_model, "--dataset", f"folder:{photos}"))
    assert rows(shell("variance", path))
    return path


@pytest.mark.slow
@needs("--mount")
def test_a_device_stays_one(store: Path, tmp_path: Path) -> None:
    """Inside a private mount, so that no device of the machine is touched."""
    (tmp_path / "dev").mkdir()
    script = """
mount -t tmpfs none "$1" && mknod "$1/null" c 1 3 || exit 77
"$2" -m kvtool -q report "$3" -o "$1/null" || exit 1
"$2" -m kvtool -q variance "$3" --plot "$1/null" > "$1/rows"
"$2" -m kvtool -q show "$3" --image p0.png -o "$1/null" > "$1/rows"
[ -c "$1/null" ] || exit 2
"""
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        tmp_path / "dev",
        sys.executable,
        store,
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(f"no device can be made here: {done.stderr.strip()}")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


@pytest.mark.slow
def test_a_link_is_followed(shell: Shell, store: Path, tmp_path: Path) -> None:
    words = {
        "page.html": ("report", store, "-o"),
        "maps.png": ("show", store, "--image", "p0.png", "-o"),
    }
    for name, command in {**words, "plot.png": ("variance", store, "--plot")}.items():
        real, link = tmp_path / name, tmp_path / f"link-{name}"
        real.touch()
        link.symlink_to(name)
        assert shell(*command, link)[0] == 0
        assert link.is_symlink()
        assert real.stat().st_size > 0


@pytest.mark.slow
def test_a_pipe_is_written_into(store: Path) -> None:
    script = (
        'kvtool() { "$0" -m kvtool -q "$@"; }; kvtool report "$1" -o >(wc -c) > /dev/null; wait $!'
    )
    command = ["bash", "-c", script, sys.executable, str(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""

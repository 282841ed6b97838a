"""Runs Python with its temporary files in memory, where there is room for them.

Tests write tens of thousands of small files, sync and delete them, which takes a disk longer than
the tests themselves.

`python -m tests.tools.in_memory ARGUMENT ...` is `python ARGUMENT ...` with $TMPDIR in memory,
where that has 4 GB to spare and nobody chose another $TMPDIR. What is left there goes in the end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import psutil

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30


def has_room(folder: Path = MEMORY) -> bool:
    """Return whether a folder in memory is there, may be written, and has room."""
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return False
    memory_bytes: int = psutil.virtual_memory().available
    return min(shutil.disk_usage(folder).free, memory_bytes) >= ROOM_BYTES


def main(arguments: list[str]) -> int:
    """Run Python; its exit code."""
    with ExitStack() as end:
        variables = dict(os.environ)
        if "TMPDIR" not in variables and has_room():
            folder = tempfile.TemporaryDirectory(
                dir=MEMORY, prefix="kvtool-", ignore_cleanup_errors=True
            )
            variables["TMPDIR"] = end.enter_context(folder)
        process = subprocess.Popen([sys.executable, *arguments], env=variables)
        # A Ctrl-C reaches it, too, and it tells how far it came.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

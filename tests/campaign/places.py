"""Where the campaign writes its many small stores: in memory where the system has a place
for that.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")


@contextmanager
def new_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder that is removed at the end; fsync costs nothing there, so that thousands of stores
    can be tried.
    """
    if parent is None and os.access(MEMORY, os.W_OK):
        parent = MEMORY
    with tempfile.TemporaryDirectory(
        prefix="kvtool-campaign-", dir=parent, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)

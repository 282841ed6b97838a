"""The hub's cache folder, as its client lays it out."""

from __future__ import annotations

import shutil
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 987654321\n"
"""What lies in a folder in place of a file that Git LFS did not bring."""


def cached(hub: Path, model: Path, *references: str, commit: str = COMMIT) -> Path:
    """A snapshot of acme/tiny in a hub cache, its files links to blobs as the hub's client makes
    them.
    """
    root = hub / "models--acme--tiny"
    snapshot = root / "snapshots" / commit
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(model.iterdir())):
        blob = root / "blobs" / f"{commit[:4]}-{number}"
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(blob)
    for reference in references:
        (root / "refs" / reference).parent.mkdir(parents=True, exist_ok=True)
        (root / "refs" / reference).write_text(commit)
    return snapshot

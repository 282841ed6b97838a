"""Addresses of stores on object stores, and where their mirrors lie."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kvtool.digests import cache_folder

_ADDRESS = re.compile(r"(s3|gs|az):/+([^/].*?)/*")
"""A pathlib.Path has lost the second slash."""


def remote_address(path: str | os.PathLike[str]) -> str | None:
    """Return the address on an object store that a path is, or whose mirror it is; else None."""
    match = _ADDRESS.fullmatch(os.fspath(path))
    if match is not None:
        return f"{match[1]}://{match[2]}"
    folder = Path(path)
    if folder.parent.parent == mirrors_folder():
        return (folder.parent / "address").read_text()
    return None


def mirrors_folder() -> Path:
    """Return the folder of all mirrors."""
    return cache_folder().absolute() / "stores"

"""Any folder of images (`folder:PATH`), or a list of paths on standard input (`folder:-`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kvtool.datasets.base import About, DatasetBase, ImageRef
from kvtool.datasets.files import IMAGE_SUFFIXES
from kvtool.errors import DatasetError


class ImageFolder(DatasetBase):
    """Images without annotations. Ids are paths relative to the folder with '/', or the lines as given."""

    about = About(
        name="folder",
        title="any folder of images, or paths on standard input",
        tasks=(),
        splits=(),
        layout=("**/*.{jpg,png,...}  every image below the folder; hidden files and folders are left out",),
        source="yours",
        licence="yours",
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        if root is None:
            self._images = _listed(_stdin_lines())
        else:
            self._images = _found(self.folder)

    def default_split(self) -> str:
        return ""

    def images(self) -> Sequence[ImageRef]:
        return self._images

    def truth_files(self) -> Sequence[Path]:
        """None: the pictures are all there is."""
        return ()


def _found(root: Path) -> list[ImageRef]:
    paths = sorted((path.relative_to(root).as_posix(), path) for path in _walk(root))
    if not paths:
        raise DatasetError(f"folder: {root}: expected images below this folder, found none; check the path")
    for name, _ in paths:
        _check_utf8(name)
    return [ImageRef(name, path) for name, path in paths]


def _walk(root: Path) -> Iterator[Path]:
    """Image files below a folder; links to folders are followed, each real folder once."""
    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(folder) / name


def _stdin_lines() -> list[str]:
    try:
        return sys.stdin.read().split("\n")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"folder: standard input: expected UTF-8 paths, one a line, found byte {error.object[error.start]:#04x}; "
            "rename that file"
        ) from None


def _listed(lines: Iterable[str]) -> list[ImageRef]:
    """One image a line, the first of equal lines kept, blank lines left out."""
    names = [line.rstrip("\r") for line in lines if line.strip()]
    if not names:
        raise DatasetError("folder: standard input: expected image paths, one a line, found none; nothing to do")
    for name in names:
        _check_utf8(name)
    return [ImageRef(name, Path(name)) for name in dict.fromkeys(names)]


def _check_utf8(name: str) -> None:
    """Ids are stored as UTF-8; a file name that is not has surrogates in it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode("ascii", "backslashreplace").decode()
        raise DatasetError(f"folder: expected file names in UTF-8, found {shown}; rename it") from None

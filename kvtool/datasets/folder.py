"""Any folder of images (`folder:PATH`), or a list of paths on standard input (`folder:-`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kvtool.datasets.base import About, DatasetBase, ImageRef
from kvtool.datasets.files import MAX_LIST_BYTES
from kvtool.datasets.formats import (
    OTHER_SUFFIXES,
    READ_SUFFIXES,
    UNREAD_SUFFIXES,
    head_of,
    is_picture,
    unread_picture,
)
from kvtool.datasets.names import is_hidden, is_utf8, printable
from kvtool.errors import DatasetError
from kvtool.inputs import STANDARD_INPUT, read_input

_LISTED = 3
"""How many left-out files the error of an empty folder names."""
_STORE_MARKS = {"zarr.json", ".zgroup", ".zarray"}
"""A folder that holds one of these is a Zarr store: its chunks are no pictures."""


class ImageFolder(DatasetBase):
    """Images without annotations.

    Ids are paths relative to the folder with '/', or the lines as given.

    skipped: files that look like pictures but can be none of the data set, and folders that cannot
    be read.
    """

    about = About(
        name="folder",
        title="any folder of images, or paths on standard input",
        tasks=(),
        splits=(),
        layout=(
            "**/*.{jpg,png,...}  every image below the folder; hidden files and folders are left "
            "out",
        ),
        source="yours",
        licence="yours",
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split or None)  # a run over a folder names its split ""
        self.unread = self.skipped  # a folder holds nothing but pictures
        if root is None:
            self._images = listed_paths(_stdin_lines(), self.skipped)
        else:
            self._images = _pictures_below(self.folder, self.skipped)

    def default_split(self) -> str:
        """Return the empty name: a folder has no splits."""
        return ""

    def images(self) -> Sequence[ImageRef]:
        """Return the pictures of the folder or of the list, in order."""
        return self._images

    def truth_files(self) -> Sequence[Path]:
        """None: the pictures are all there is."""
        return ()


def pictures_by_id(folder: Path, ids: Iterable[str]) -> list[ImageRef]:
    """Pictures of an earlier run below a folder, by their ids.

    The ids of `folder:-` are paths as they were given then: what of their end is found below the
    folder counts. A picture that is not found gets the path where it should be.
    """
    return [ImageRef(name, _path_of(folder, name)) for name in ids]


class ListedPictures(ImageFolder):
    """The pictures of an earlier run over a list (`folder:-`, or paths), which lie below a folder
    now.

    Raises DatasetError where there is no such folder.
    """

    def __init__(self, root: Path, ids: Iterable[str]) -> None:
        DatasetBase.__init__(self, root, None)
        self._images = pictures_by_id(self.folder, ids)


def _path_of(folder: Path, name: str) -> Path:
    # The path as given then may begin anywhere: its longest end that is there counts.
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    candidates = [folder.joinpath(*parts[start:]) for start in range(len(parts))]
    present = (path for path in candidates if os.path.exists(path))  # noqa: PTH110
    return next(present, folder / name)


def _pictures_below(root: Path, skipped: list[str]) -> list[ImageRef]:
    """Return every picture below the folder, sorted by id; what looks like one and is left out is
    named in `skipped`.
    """
    names = sorted(_walk(os.fspath(root), skipped))
    if not names:
        overflow = f" and {len(skipped) - _LISTED} more" if len(skipped) > _LISTED else ""
        reason = (
            f" that can be read: {'; '.join(skipped[:_LISTED])}{overflow}"
            if skipped
            else "; check the path"
        )
        raise DatasetError(f"folder: {root}: expected images below this folder, found none{reason}")
    return [ImageRef(name, root / name) for name in names]


def _walk(root: str, skipped: list[str]) -> Iterator[str]:
    """Paths of the pictures below a folder, relative to it; links to folders are followed, each
    real folder once.

    Which entries are folders the listing itself mostly tells: files with a known suffix are not
    looked at.
    """
    # Links may lead in a circle: a folder is known by its device and number.
    seen: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        prefix = pending.pop()
        folder = os.path.join(root, prefix)  # noqa: PTH118
        try:
            status = os.stat(folder)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            skipped.append(f"{printable(folder)}: a folder that cannot be read: {error.strerror}")
            continue
        # A store among the pictures would give its chunks for pictures.
        if _STORE_MARKS.intersection(entry.name for entry in entries):
            continue
        folders = []
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if _is_folder(entry):
                folders.append(f"{prefix}{entry.name}/")
            elif _is_wanted(entry, skipped):
                yield prefix + entry.name
        # The last one is popped next, so that folders are gone through in the order of names.
        pending.extend(reversed(folders))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in a circle
        return False


def _is_wanted(entry: os.DirEntry[str], skipped: list[str]) -> bool:
    """Return whether a file counts as a picture: by its suffix, or where that says nothing by its
    first bytes.
    """
    # Suffixes decide before the file is opened: a folder may hold a million of them.
    suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
    if suffix in OTHER_SUFFIXES or entry.name.endswith("~"):
        return False
    if suffix in UNREAD_SUFFIXES:
        skipped.append(_unread(entry, UNREAD_SUFFIXES[suffix]))
        return False
    if suffix not in READ_SUFFIXES and not _holds_picture(entry, skipped):
        return False
    if not is_utf8(entry.path):
        skipped.append(f"{printable(entry.path)}: a name that is not UTF-8; rename it")
        return False
    return True


def _holds_picture(entry: os.DirEntry[str], skipped: list[str]) -> bool:
    """Return whether a file of an unknown suffix is a picture.

    Links that lead nowhere are named: they may have been one. So are pictures of a format that is
    not read.
    """
    try:
        entry.stat()
    except OSError as error:
        skipped.append(f"{printable(entry.path)}: a link that cannot be followed: {error.strerror}")
        return False
    # Opened only where the suffix says nothing.
    head = head_of(entry.path) if entry.is_file() else b""
    if not is_picture(head) and (name := unread_picture(head)) is not None:
        skipped.append(_unread(entry, name))
    return is_picture(head)


def _unread(entry: os.DirEntry[str], format_name: str) -> str:
    return f"{printable(entry.path)}: {format_name}, a format that kvtool does not read"


def _stdin_lines() -> list[str]:
    """Return lines of standard input as file names: bytes that are not UTF-8 become surrogates.

    Raises DatasetError.
    """
    location = "folder: standard input"
    try:
        data = read_input(STANDARD_INPUT, MAX_LIST_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(
            f"{location}: expected paths, one a line, found that it cannot be read: {reason}"
        ) from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DatasetError(
            f"{location}: expected UTF-8 paths, one a line, found UTF-16; save the list as UTF-8"
        )
    if b"\0" in data:
        raise DatasetError(
            f"{location}: expected one path a line, found NUL bytes; use find without -print0"
        )
    return data.decode("utf-8-sig", "surrogateescape").split("\n")


def listed_paths(lines: Iterable[str], skipped: list[str]) -> list[ImageRef]:
    """One image a line, the first of equal paths kept, blank lines left out; names that are not
    UTF-8 in `skipped`.

    a.png and ./a.png are one path; a line is a path whatever it begins with, a # too.
    """
    by_path: dict[Path, str] = {}
    for line in (line.rstrip("\r") for line in lines if line.strip()):
        # Paths are compared, not texts: "a.png" and "./a.png" are one picture.
        by_path.setdefault(Path(line), line)
    names = list(by_path.values())
    usable = [name for name in names if is_utf8(name)]
    skipped += [
        f"{printable(name)}: a name that is not UTF-8; rename it"
        for name in names
        if not is_utf8(name)
    ]
    if not usable:
        reason = f": {skipped[0]}" if skipped else "; nothing to do"
        raise DatasetError(f"folder: expected image paths, one a line, found none{reason}")
    return [ImageRef(name, Path(name)) for name in usable]

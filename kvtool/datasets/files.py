"""Reading the files of a data set's layout, with errors that say what was expected where and what
was found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from kvtool.datasets.formats import LFS_POINTER, READ_SUFFIXES
from kvtool.datasets.names import is_hidden, is_utf8, printable
from kvtool.digests import read_stamped
from kvtool.errors import DatasetError
from kvtool.inputs import read_input

IMAGE_SUFFIXES = READ_SUFFIXES

MAX_LIST_BYTES = 1 << 28
MAX_JSON_BYTES = 1 << 30
"""COCO's largest annotation file has 450 MB."""


def require(root: Path, relative: str, what: str, name: str) -> Path:
    """Return the file or folder `relative` (with a trailing slash for a folder) below the root of
    data set `name`.

    Raises DatasetError with what is there instead, and the likely root when the user's is one level
    off.
    """
    path = root / relative
    if path.is_dir() if relative.endswith("/") else path.is_file():
        return path
    raise DatasetError(
        f"{name}: {root}: expected {what} at {relative}, found {found(path, root)}; "
        f"{advice(root, relative)}"
    )


def require_any(root: Path, relatives: Sequence[str], what: str, name: str) -> Path:
    """Return the first of several places that exists."""
    for relative in relatives:
        if (root / relative).exists():
            return root / relative
    expected = " or ".join(relatives)
    raise DatasetError(
        f"{name}: {root}: expected {what} at {expected}, found {found(root / relatives[0], root)}; "
        f"{advice(root, relatives[0])}"
    )


def found(path: Path, root: Path) -> str:
    """Return what the nearest existing folder above a missing path holds, in a few words."""
    if path.exists():
        return "a folder" if path.is_dir() else "a file"
    folder = path.parent
    # The nearest folder that exists shows where the layout was left.
    while not folder.is_dir() and folder != root:
        folder = folder.parent
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
    # A name may hold line breaks, and the message is one line.
    names = [printable(name) for name in names]
    overflow = f" and {len(names) - 4} more" if len(names) > 4 else ""
    prefix = "" if folder == root else f"{folder.relative_to(root)}/ with "
    return prefix + (", ".join(names[:4]) + overflow if names else "an empty folder")


def advice(root: Path, relative: str) -> str:
    """Return what to do about a file that is not there: the likely root, or where to read."""
    # One level too high or too low is the most common mistake.
    for candidate in (root.parent, *sorted(p for p in root.iterdir() if p.is_dir())):
        if (candidate / relative).exists():
            return f"did you mean {candidate}?"
    return "see the folder tree in docs/datasets.md"


def read_text(path: Path, most_bytes: int = MAX_LIST_BYTES, *, piped: bool = False) -> str:
    """A UTF-8 text with any line ends and with or without byte order marks. Raises DatasetError.

    piped: whether it may also come from a pipe, or from standard input as "-".
    """
    try:
        data = read_input(path, most_bytes) if piped else read_stamped(path, most_bytes)[0]
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: expected a text file, found nothing there; check the data set is complete"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise DatasetError(f"{path}: expected a readable file, found: {reason}") from None
    check_no_pointer(path, data)
    # UTF-16 begins with its own mark, or has a zero in each of the first letters.
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data[:4]:
        raise DatasetError(
            f"{path}: expected UTF-8 text, found UTF-16 or binary data; save it as UTF-8"
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path}: expected UTF-8 text, found byte {data[error.start]:#04x} at {error.start}; "
            "download the file again"
        ) from None
    return text.lstrip("\ufeff")


def check_no_pointer(path: Path, data: bytes) -> None:
    """Raises DatasetError for what git-lfs leaves in place of a file that was not fetched."""
    if data.startswith(LFS_POINTER):
        raise DatasetError(f"{path}: found a git-lfs pointer, not the file; fetch it: git lfs pull")


def read_lines(path: Path) -> list[str]:
    """Return the lines of a list, stripped; blank ones left out. Raises DatasetError when none is
    left.
    """
    lines = [line.strip() for line in split_lines(read_text(path))]
    lines = [line for line in lines if line]
    if not lines:
        raise DatasetError(
            f"{path}: expected a list with one name a line, found no line; download the file again"
        )
    if any("\0" in line for line in lines):
        raise DatasetError(
            f"{path}: expected a list with one name a line, found a NUL byte; download the file "
            "again"
        )
    return lines


def split_lines(text: str) -> list[str]:
    """Return the lines of a text.

    Not str.splitlines, which also ends lines at marks that may stand in a JSON string.
    """
    return _LINE_ENDS.split(text)


_LINE_ENDS = re.compile(r"\r\n|\r|\n")


def by_stem(folder: Path, left_out: list[str] | None = None) -> dict[str, Path]:
    """Return the images directly in a folder by file name without suffix, sorted.

    Of several pictures with one stem the first counts; the others, and names that cannot be ids,
    are named in `left_out`. Raises DatasetError for a folder that cannot be read.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DatasetError(
            f"{folder}: expected a folder that can be read, found: {error.strerror}"
        ) from None
    pictures: dict[str, Path] = {}
    reasons = []
    for path in paths:
        if path.suffix.lower() not in IMAGE_SUFFIXES or is_hidden(path.name):
            continue
        # Ids are written to JSON, which takes no surrogates.
        if not is_utf8(path.name):
            reasons.append(f"{printable(str(path))}: a name that is not UTF-8; rename it")
        elif pictures.setdefault(path.stem, path) != path:
            reasons.append(
                f"{path}: a second picture of this name, {pictures[path.stem].name} counts; remove "
                "one"
            )
    if left_out is not None:
        left_out += reasons
    return pictures


CLASSES_FILE = "classes.txt"
"""Names of the classes, one a line, instead of the data set's own."""


def class_names(root: Path, default: Sequence[str]) -> tuple[str, ...]:
    """Return names in the order of their ids: from `classes.txt` in the root, one a line, where
    there is one.
    """
    path = root / CLASSES_FILE
    return tuple(read_lines(path)) if path.is_file() else tuple(default)


def pictures_below(folder: Path, left_out: list[str]) -> dict[str, Path]:
    """Return the images in a folder and in the folders below it, by their place below it without
    suffix.

    In the order of the folders, sorted within each. What by_stem leaves out, and folders that
    cannot be read, are named in `left_out`; hidden folders are passed over. A folder that is not
    there has none.
    """
    pictures: dict[str, Path] = {}
    for subfolder, folders, _ in os.walk(folder):
        # Changed in place, so that os.walk goes through the folders in this order.
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        below = Path(subfolder).relative_to(folder)
        try:
            folder_pictures = by_stem(Path(subfolder), left_out)
        except DatasetError as error:
            left_out.append(str(error))
            continue
        pictures |= {(below / stem).as_posix(): path for stem, path in folder_pictures.items()}
    return pictures

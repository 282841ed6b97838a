"""Reading the files of a data set's layout, with errors that say what was expected where and what was found."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kvtool.errors import DatasetError

_SUFFIXES = "avif bmp gif jp2 jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp"
IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())


def require(root: Path, relative: str, what: str, name: str) -> Path:
    """The file or folder `relative` (with a trailing slash for a folder) below the root of data set `name`.

    Raises DatasetError with what is there instead, and the likely root when the user's is one level off.
    """
    path = root / relative
    if path.is_dir() if relative.endswith("/") else path.is_file():
        return path
    raise DatasetError(
        f"{name}: {root}: expected {what} at {relative}, found {found(path, root)}; {advice(root, relative)}"
    )


def require_any(root: Path, relatives: Sequence[str], what: str, name: str) -> Path:
    """The first of several places that exists."""
    for relative in relatives:
        if (root / relative).exists():
            return root / relative
    places = " or ".join(relatives)
    raise DatasetError(
        f"{name}: {root}: expected {what} at {places}, found {found(root / relatives[0], root)}; "
        f"{advice(root, relatives[0])}"
    )


def found(path: Path, root: Path) -> str:
    """What the nearest existing folder above a missing path holds, in a few words."""
    if path.exists():
        return "a folder" if path.is_dir() else "a file"
    folder = path.parent
    while not folder.is_dir() and folder != root:
        folder = folder.parent
    names = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    where = "" if folder == root else f"{folder.relative_to(root)}/ with "
    return where + (", ".join(names[:4]) + more if names else "an empty folder")


def advice(root: Path, relative: str) -> str:
    for candidate in (root.parent, *sorted(p for p in root.iterdir() if p.is_dir())):
        if (candidate / relative).exists():
            return f"did you mean {candidate}?"
    return "see the folder tree in docs/datasets.md"


def read_text(path: Path) -> str:
    """A UTF-8 text with any line ends and with or without a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: expected a text file, found nothing there; check the data set is complete"
        ) from None
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path}: expected UTF-8 text, found byte {error.object[error.start]:#04x} at {error.start}; "
            "download the file again"
        ) from None
    except OSError as error:
        raise DatasetError(f"{path}: expected a readable file, found: {error.strerror}") from None


def read_lines(path: Path) -> list[str]:
    """The lines of a list, stripped; blank ones left out. Raises DatasetError when none is left."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        raise DatasetError(f"{path}: expected a list with one name a line, found no line; download the file again")
    return lines


def read_json(path: Path) -> Any:
    """A JSON file. Raises DatasetError that names the place of a syntax error."""
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise DatasetError(f"{path}: expected JSON, found: {error}; download the file again") from None


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file, or of a file that holds one JSON list of them."""
    text = read_text(path)
    try:
        if text.lstrip().startswith("["):
            records = json.loads(text)
        else:
            records = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise DatasetError(
            f"{path}: expected JSON lines or a JSON list, found: {error}; download the file again"
        ) from None
    if not records or not all(isinstance(r, dict) for r in records):
        raise DatasetError(
            f"{path}: expected one JSON object a line, found {'none' if not records else 'other values'}"
        )
    return list(records)


def stream_json_list(path: Path, chunk: int = 1 << 20) -> Iterator[Any]:
    """The elements of a top-level JSON list one by one: files of hundreds of MB pass in the memory of one element."""
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8-sig") as file:
        buffer = file.read(chunk).lstrip()
        if not buffer.startswith("["):
            raise DatasetError(f"{path}: expected a JSON list, found {buffer[:20]!r}; download the file again")
        buffer = buffer[1:]
        while True:
            elements, buffer = _whole_elements(decoder, buffer)
            yield from elements
            if buffer.startswith("]"):
                return
            block = file.read(chunk)
            if not block or len(buffer) > _LARGEST_ELEMENT:
                raise DatasetError(f"{path}: expected one more list element, found {buffer[:40]!r}; download it again")
            buffer += block


_LARGEST_ELEMENT = 1 << 26
"""Characters of one element of a list; more means that it is broken, and reading on would take all memory."""

_BLANKS = re.compile(r"[ \t\r\n]*")
_COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")


def _whole_elements(decoder: json.JSONDecoder, buffer: str) -> tuple[list[Any], str]:
    """The elements at the head of the buffer that are known to be whole, and the rest of it.

    An element is whole once a comma or the closing bracket follows: a number could go on in the next block.
    """
    elements: list[Any] = []
    position = _end(_BLANKS, buffer, 0)
    while position < len(buffer) and buffer[position] != "]":
        try:
            element, after = decoder.raw_decode(buffer, position)
        except ValueError:
            break
        following = _end(_BLANKS, buffer, after)
        if following == len(buffer) or buffer[following] not in ",]":
            break
        elements.append(element)
        position = following if buffer[following] == "]" else _end(_COMMA, buffer, following)
    return elements, buffer[position:]


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    match = pattern.match(text, start)
    return match.end() if match else start


def fields(record: Any, names: Sequence[str], where: str) -> list[Any]:
    """The named values of a record. Raises DatasetError naming the missing ones."""
    if not isinstance(record, dict):
        raise DatasetError(f"{where}: expected an object with {', '.join(names)}, found {type(record).__name__}")
    missing = [name for name in names if name not in record]
    if missing:
        has = ", ".join(map(str, list(record)[:6])) or "none"
        raise DatasetError(f"{where}: expected the fields {', '.join(missing)}, found {has}; download the file again")
    return [record[name] for name in names]


def by_stem(folder: Path) -> dict[str, Path]:
    """The images directly in a folder by file name without suffix, sorted."""
    files = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
    return {path.stem: path for path in sorted(files)}


CLASSES_FILE = "classes.txt"
"""Names of the classes, one a line, instead of the data set's own."""


def class_names(root: Path, default: Sequence[str]) -> tuple[str, ...]:
    """Names in the order of their ids: from `classes.txt` in the root, one a line, where there is one."""
    path = root / CLASSES_FILE
    return tuple(read_lines(path)) if path.is_file() else tuple(default)

"""Reading the files of a data set's layout, with errors that say what was expected where and what was found."""

from __future__ import annotations

import json
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
    decoder, buffer, started = json.JSONDecoder(), "", False
    with path.open(encoding="utf-8-sig") as file:
        while True:
            block = file.read(chunk)
            buffer += block
            buffer, elements, started, ended = _drain(decoder, buffer, started)
            yield from elements
            if ended:
                return
            if not block:
                raise DatasetError(
                    f"{path}: expected a JSON list, found the end of the file or another value near "
                    f"{buffer[:40]!r}; download the file again"
                )


def _drain(decoder: json.JSONDecoder, buffer: str, started: bool) -> tuple[str, list[Any], bool, bool]:
    """Whole elements at the head of the buffer: (rest, elements, list has begun, list has ended)."""
    elements: list[Any] = []
    rest = buffer.lstrip()
    if not started:
        if not rest.startswith("["):
            return rest, elements, False, False
        rest, started = rest[1:].lstrip(), True
    position = 0
    while position < len(rest) and rest[position] != "]":
        try:
            element, end = decoder.raw_decode(rest, position)
        except ValueError:
            break
        following = end + _blanks(rest, end)
        if following >= len(rest):  # a number may go on in the next block, and a comma may follow
            break
        elements.append(element)
        position = following + (rest[following] == ",")
        position += _blanks(rest, position)
    return rest[position:], elements, True, rest[position : position + 1] == "]"


def _blanks(text: str, start: int) -> int:
    end = start
    while end < len(text) and text[end] in " \t\r\n":
        end += 1
    return end - start


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


def class_names(root: Path, default: Sequence[str]) -> tuple[str, ...]:
    """Names in the order of their ids: from `classes.txt` in the root, one a line, where there is one."""
    path = root / "classes.txt"
    return tuple(read_lines(path)) if path.is_file() else tuple(default)

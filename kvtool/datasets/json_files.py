"""Reading JSON of a data set: whole files, lists too large for memory, fields of their records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from kvtool.datasets.files import MAX_JSON_BYTES, check_no_pointer, read_text, split_lines
from kvtool.datasets.formats import LFS_POINTER
from kvtool.datasets.names import brief
from kvtool.digests import open_regular
from kvtool.errors import DatasetError


def read_json(path: Path) -> Any:
    """Return a JSON file. Raises DatasetError that names the place of a syntax error.

    NaN and Infinity are read as such, so that one of them costs its annotation and not the file:
    who takes a number checks that it is finite.
    """
    return _parse(path, read_text(path, MAX_JSON_BYTES), "JSON")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON lines file, or of a file that holds one JSON list of them."""
    text, expected = read_text(path, MAX_JSON_BYTES), "JSON lines or a JSON list"
    # Some tools write a list where others write lines.
    if text.lstrip().startswith("["):
        records = _parse(path, text, expected)
    else:
        records = [_parse(path, line, expected) for line in split_lines(text) if line.strip()]
    if not records or not all(isinstance(r, dict) for r in records):
        raise DatasetError(
            f"{path}: expected one JSON object a line, found "
            f"{'none' if not records else 'other values'}"
        )
    return list(records)


def _parse(path: Path, text: str, expected: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise DatasetError(
            f"{path}: expected {expected}, found lists or objects nested too deep"
        ) from None
    except ValueError as error:
        reason = brief(str(error), 200)
        raise DatasetError(
            f"{path}: expected {expected}, found: {reason}; download the file again"
        ) from None


def stream_json_list(path: Path, chunk: int = 1 << 20) -> Iterator[Any]:
    """Yield the elements of a top-level JSON list one by one: files of hundreds of MB pass in the
    memory of one element.

    Raises DatasetError.
    """
    try:
        with open_regular(path) as fd, open(fd, encoding="utf-8-sig", closefd=False) as file:
            yield from _stream(path, file, chunk)
    except (OSError, UnicodeDecodeError) as error:
        reason = (
            error.strerror
            if isinstance(error, OSError)
            else f"byte {error.object[error.start]:#04x}"
        )
        raise DatasetError(f"{path}: expected a readable UTF-8 file, found: {reason}") from None
    except RecursionError:
        raise DatasetError(
            f"{path}: expected a JSON list, found lists or objects nested too deep"
        ) from None


def _stream(path: Path, file: TextIO, chunk: int) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    buffer = file.read(chunk).lstrip()
    check_no_pointer(path, buffer[: len(LFS_POINTER)].encode())
    if not buffer.startswith("["):
        raise DatasetError(
            f"{path}: expected a JSON list, found {brief(buffer, 20)}; download the file again"
        )
    # The bracket is taken off; from here on the buffer begins at an element.
    buffer = buffer[1:]
    while True:
        elements, buffer = _whole_elements(decoder, buffer)
        yield from elements
        if buffer.startswith("]"):
            return
        # An element that is not whole yet needs the next block.
        block = file.read(chunk)
        if not block or len(buffer) > _LARGEST_ELEMENT:
            raise DatasetError(
                f"{path}: expected one more list element, found {brief(buffer, 40)}; download it "
                "again"
            )
        buffer += block


_LARGEST_ELEMENT = 1 << 24
"""Characters of one element of a list; more means that it is broken, and reading on would take all
memory.
"""


_BLANKS = re.compile(r"[ \t\r\n]*")


_COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")


def _whole_elements(decoder: json.JSONDecoder, buffer: str) -> tuple[list[Any], str]:
    """Return the elements at the head of the buffer that are known to be whole, and the rest of it.

    An element is whole once a comma or the closing bracket follows: a number could go on in the
    next block.
    """
    elements: list[Any] = []
    # A block may end anywhere, within blanks as well.
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


def fields(record: Any, names: Sequence[str], location: str) -> list[Any]:
    """Return the named values of a record. Raises DatasetError naming the missing ones."""
    if not isinstance(record, dict):
        raise DatasetError(
            f"{location}: expected an object with {', '.join(names)}, found {type(record).__name__}"
        )
    absent = [name for name in names if name not in record]
    if absent:
        has = ", ".join(brief(name).strip("'") for name in list(record)[:6]) or "none"
        raise DatasetError(
            f"{location}: expected the fields {', '.join(absent)}, found {has}; download the file "
            "again"
        )
    return [record[name] for name in names]


def text_of(value: Any, what: str, location: str) -> str:
    """Return a value that must be a text that can be stored.

    Raises DatasetError; `what` names the field.
    """
    if not isinstance(value, str):
        raise DatasetError(f"{location}: expected {what} as a text, found {brief(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DatasetError(
            f"{location}: expected {what} as Unicode text, found a lone surrogate in {brief(value)}"
        ) from None
    return value


def name_of(value: Any, what: str, location: str) -> str:
    """Return a value that must be the name of a file in a folder. Raises DatasetError."""
    name = text_of(value, what, location)
    if not name.strip() or name in (".", "..") or "/" in name or "\0" in name:
        raise DatasetError(
            f"{location}: expected {what} as the name of a file, found {brief(name)}"
        )
    return name

"""The text before each image: a condition of the data set, one text for all, or a user's file of
one text an image.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kvtool.digests import read_stamped
from kvtool.errors import DatasetError, UsageError

if TYPE_CHECKING:
    from kvtool.datasets.base import Dataset, ImageRef

TEXT, FILE = "text:", "file:"
FROM_DATA = ("correct", "incorrect", "random", "file")
"""Prefixes whose texts come from the data set or a file, image by image."""
MAX_CSV_BYTES = 1 << 28
ID_COLUMNS = ("image", "id")


def condition_name(prefix: str) -> str:
    """Return what a run records of a job's prefix: a file's place is not recorded, since its texts
    alone count.
    """
    return "file" if prefix.startswith(FILE) else prefix


def prefix_texts(prefix: str, dataset: Dataset, refs: Sequence[ImageRef]) -> tuple[str | None, ...]:
    """Return the text before each image; None where there is none for it, so that the image is
    counted as failed.

    prefix: none, correct, incorrect, random, text:... or file:CSV. Raises UsageError; and the data
    set's DatasetError where it lacks all of them: a file is missing, not a text.
    """
    if prefix.startswith(TEXT):
        text = prefix.removeprefix(TEXT)
        if not text.strip():
            raise UsageError(
                "--prefix text: expected a text after the colon, found none; --prefix none puts no "
                "text"
            )
        return (text,) * len(refs)
    if prefix.startswith(FILE):
        path = prefix.removeprefix(FILE)
        if not path:
            raise UsageError(
                "--prefix file: expected the path of a CSV file after the colon, found none"
            )
        return _texts_of_file(path, refs)
    if prefix == "none":
        return ("",) * len(refs)
    texts: list[str | None] = []
    missing_error: DatasetError | None = None
    for ref in refs:
        try:
            texts.append(dataset.prefix(ref.id, prefix))
        except DatasetError as error:
            # An image without a text fails alone; without any, the first error is told.
            missing_error = missing_error or error
            texts.append(None)
    if missing_error and all(text is None for text in texts):
        raise missing_error
    return tuple(texts)


def _texts_of_file(name: str, refs: Sequence[ImageRef]) -> tuple[str | None, ...]:
    texts = read_texts(name)
    if not texts:
        raise UsageError(
            f"{name}: expected a text for at least one image, found none; fill the column text"
        )
    # No id of the data set at all is a mistake; some that it has not may be of another split.
    unknown = texts.keys() - {ref.id for ref in refs}
    if len(unknown) == len(texts):
        raise UsageError(
            f"{name}: expected images of the data set such as {refs[0].id!r}, found "
            f"{next(iter(texts))!r} and others "
            f"that it has not, {len(texts)} in all; write the ids of the data set"
        )
    if unknown:
        logging.getLogger("kvtool").warning(
            "%s: %d of %d images are not in the data set, e.g. %r; their texts are left out",
            *(name, len(unknown), len(texts), min(unknown)),
        )
    return tuple(texts.get(ref.id) for ref in refs)


def read_texts(name: str) -> dict[str, str]:
    """Return image id -> text of a CSV: UTF-8, a header, columns `image` (or `id`) and `text`; rows
    of no text are left out.

    Raises UsageError that names the file and the line.
    """
    lines = _records(name)
    _, header = next(lines, (1, []))
    # Spreadsheets write headers with capitals and blanks.
    names = [column.strip().lower() for column in header]
    image = next((names.index(column) for column in ID_COLUMNS if column in names), None)
    if image is None or "text" not in names:
        raise UsageError(
            f"{name}: line 1: expected the columns image and text, found "
            f"{', '.join(header) or 'nothing'}"
        )
    texts: dict[str, str] = {}
    seen: dict[str, int] = {}
    for line, record in lines:
        # A row of another length is most often an unquoted comma, which would shift the columns.
        if len(record) != len(names):
            raise UsageError(
                f"{name}: line {line}: expected {len(names)} columns as in line 1, found "
                f"{len(record)}; "
                'put a text that holds commas into "double quotes"'
            )
        if record[image] in seen:
            raise UsageError(
                f"{name}: line {line}: expected one text an image, found {record[image]!r} again "
                "after line "
                f"{seen[record[image]]}; leave one of them out"
            )
        # Ids of rows without a text count as seen too: a second row of theirs is a contradiction.
        seen[record[image]] = line
        if record[names.index("text")].strip():
            texts[record[image]] = record[names.index("text")]
    return texts


def _records(name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, fields) of each record of a CSV file that is not blank; a record ends on its
    line.
    """
    try:
        data, _ = read_stamped(Path(name).expanduser(), MAX_CSV_BYTES)
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{name}: expected a CSV file of prefixes, found: {reason}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{name}: line {line}: expected UTF-8, found byte {data[error.start]:#04x}; save the "
            "file as UTF-8"
        ) from None
    # Without newline translation, as the csv module needs it for line breaks within quotes.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for record in reader:
            if record:
                yield reader.line_num, record
    except csv.Error as error:
        raise UsageError(f"{name}: line {reader.line_num}: expected CSV, found: {error}") from None

"""Benchmarks as parquet files with embedded images, as `datasets` writes them: image cells are
(bytes, path).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from kvtool.datasets.base import ImageRef, Question
from kvtool.datasets.files import check_no_pointer
from kvtool.datasets.formats import HEAD_BYTES
from kvtool.datasets.json_files import text_of
from kvtool.datasets.names import brief, is_hidden
from kvtool.datasets.raster import one_line
from kvtool.digests import open_regular, quick_look
from kvtool.errors import DatasetError, ImageError

_CACHED_COLUMNS = 4
"""Image columns of one row group kept in memory, so that reading in order decodes each once."""
_MAX_COLUMN_BYTES = 1_000_000_000
"""Memory that one image column of one row group may take; official files have up to 500 MB."""
_MAX_TEXT_BYTES = 250_000_000
_BATCH_ROWS = 16

T = TypeVar("T")


def parquet_files(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """Return the files of these patterns below a folder, each once and sorted, without hidden
    ones.
    """
    paths = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(path for path in paths if not any(map(is_hidden, path.relative_to(folder).parts)))


class ParquetTable:
    """One file: text columns as rows of plain values, image cells read when asked for."""

    def __init__(self, path: Path, columns: Sequence[str], image_columns: Sequence[str]) -> None:
        """Raises DatasetError for a file that is no parquet, and for missing columns, by name.

        Of the image columns the first must be there.
        """
        self.path = path
        self._arguments = (path, tuple(columns), tuple(image_columns))
        self._stamp = quick_look(path)
        self._file = self._open()
        present = self._file.schema_arrow.names
        absent = [name for name in (*columns, image_columns[0]) if name not in present]
        if absent:
            has = brief(", ".join(present), 200).strip("'")
            raise DatasetError(
                f"{path}: expected columns {', '.join(absent)}, found {has}; use the official files"
            )
        self.image_columns = [name for name in image_columns if name in present]
        self._check_cells()
        # Texts are small and are read at once; picture cells are read when they are asked for.
        self.rows: list[dict[str, Any]] = self._guarded(lambda: self._rows(list(columns)))
        metadata = self._file.metadata
        # Where each row group ends, from which a row's group is found by bisection.
        self._ends = list(
            accumulate(metadata.row_group(g).num_rows for g in range(metadata.num_row_groups))
        )
        self._lock = Lock()
        self._cells = lru_cache(maxsize=_CACHED_COLUMNS)(self._read_cells)
        self._present = {
            name: self._guarded(partial(self._valid_cells, name)) for name in self.image_columns
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """Image references travel to other processes, which open the file again."""
        return ParquetTable, self._arguments

    def images(self, row: int, prefix: str) -> list[ImageRef]:
        """Return the row's images that are not null; ids are `<prefix>/<column>`."""
        names = [name for name in self.image_columns if self._present[name][row]]
        return [
            ImageRef(
                f"{prefix}/{name}", read=partial(self.image_bytes, row, name), container=self.path
            )
            for name in names
        ]

    def image_bytes(self, row: int, column: str) -> bytes:
        """Return the bytes of an image cell. Raises ImageError."""
        # A row is found by its group, then by its batch within the group.
        group = bisect_right(self._ends, row)
        start = self._ends[group - 1] if group else 0
        try:
            with self._lock:  # one reader of a file at a time
                batch, cell = divmod(row - start, _BATCH_ROWS)
                content = self._cells(group, column)[batch][cell]["bytes"].as_py()
        except DatasetError as error:
            raise ImageError(str(error)) from None
        if not isinstance(content, bytes):
            content_kind = "none" if content is None else "text"
            raise ImageError(
                f"{self.path}: row {row}, {column}: expected embedded bytes, found {content_kind}; "
                "use the official file"
            )
        if (
            quick_look(self.path) != self._stamp
        ):  # the stamp stands for the bytes in digests: both of one moment
            raise ImageError(
                f"{self.path}: the file changed while it was read; run the command again"
            )
        return content

    def _open(self) -> Any:
        import pyarrow.parquet as pq

        try:
            # Looked at before pyarrow is given the path: no pipe, and no pointer of git-lfs.
            with open_regular(self.path) as fd, open(fd, "rb", closefd=False) as file:
                check_no_pointer(self.path, file.read(HEAD_BYTES))
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"{self.path}: expected a parquet file, found: {one_line(error)}"
            ) from None
        return self._guarded(lambda: pq.ParquetFile(self.path), "expected a parquet file, found")

    def _check_cells(self) -> None:
        import pyarrow as pa

        for name in self.image_columns:
            schema = self._file.schema_arrow
            if schema.get_field_index(name) < 0:  # a name that stands there twice has no one place
                raise DatasetError(
                    f"{self.path}: expected one column {name}, found several; use the official "
                    "files"
                )
            kind = schema.field(name).type
            # Pictures are structs of bytes and a path, as `datasets` writes them.
            if not pa.types.is_struct(kind) or not {"bytes", "path"} <= {f.name for f in kind}:
                arrow_type = brief(str(kind)).strip("'")
                raise DatasetError(
                    f"{self.path}: column {name}: expected images as (bytes, path), found "
                    f"{arrow_type}"
                )

    def _rows(self, columns: list[str]) -> list[dict[str, Any]]:
        batches = self._batches(columns, None, _MAX_TEXT_BYTES)
        return [row for batch in batches for row in batch.to_pylist()]

    def _valid_cells(self, column: str) -> list[bool]:
        """Return which cells hold an image; a null cell is told from the short `path` alone,
        without its bytes.
        """
        batches = self._batches([f"{column}.path"], None, _MAX_TEXT_BYTES)
        return [valid for batch in batches for valid in batch.column(0).is_valid().to_pylist()]

    def _read_cells(self, group: int, column: str) -> Any:
        """Return the cells of a row group, a sequence of arrays of _BATCH_ROWS cells."""
        batches = self._guarded(lambda: list(self._batches([column], [group], _MAX_COLUMN_BYTES)))
        return [batch.column(0) for batch in batches]

    def _batches(
        self, columns: list[str], groups: list[int] | None, most_bytes: int
    ) -> Iterator[Any]:
        """Record batches of _BATCH_ROWS rows.

        Raises DatasetError once they take more than `most_bytes`.

        Read in small pieces, since a value that the file holds once may stand in every row.
        """
        total = 0
        # Small batches are counted as they come, so that damage cannot take all memory at once.
        for batch in self._file.iter_batches(_BATCH_ROWS, groups, columns, use_threads=False):
            total += batch.nbytes
            if total > most_bytes:
                names = brief(", ".join(columns), 100)[1:-1]
                raise DatasetError(
                    f"{self.path}: columns {names}: more than the limit of {most_bytes / 1e9:.1f} "
                    "GB; "
                    "write the file in smaller row groups"
                )
            yield batch

    def _guarded(self, read: Callable[[], T], expected: str = "damaged parquet file") -> T:
        """Return what `read` gives; whatever pyarrow raises becomes one DatasetError line."""
        try:
            return read()
        except DatasetError:
            raise
        except Exception as error:  # noqa: BLE001  damaged files make pyarrow raise many kinds
            raise DatasetError(
                f"{self.path}: {expected}: {one_line(error)}; download it again"
            ) from None


@dataclass(frozen=True)
class QuestionRow:
    """One row of a benchmark's table whose texts are checked, and its images."""

    id: str
    values: dict[str, Any]
    images: list[ImageRef]

    def question(self, group: str, source: str | None = None) -> Question:
        """Return the row as a question; `group` and `source` name the columns of these."""
        values = self.values
        return Question(
            id=self.id,
            image_ids=tuple(ref.id for ref in self.images),
            text=values["question"],
            prompt=values["prompt"],
            answer="" if values["answer"] in (None, "hidden") else values["answer"],
            group=values[group],
            choices=tuple(values["choices"] or ()),
            source="" if source is None else values[source],
        )


def question_rows(
    tables: Sequence[ParquetTable], id_of: Callable[[dict[str, Any]], str], skipped: list[str]
) -> list[QuestionRow]:
    """Return the rows of all tables in order; those with values of a wrong type are left out and
    named in `skipped`.
    """
    rows = []
    for table in tables:
        for index, values in enumerate(table.rows):
            try:
                _check_row(values, f"{table.path}: row {index}")
            except DatasetError as error:
                skipped.append(str(error))
                continue
            # The name is made of values that were checked.
            name = id_of(values)
            rows.append(QuestionRow(name, values, table.images(index, name)))
    return rows


def _check_row(values: dict[str, Any], location: str) -> None:
    """Raises DatasetError naming a column that is neither text nor, where it may be, null or a
    number.
    """
    for column, value in values.items():
        if column == "choices":
            if not (value is None or isinstance(value, list)) or not all(
                isinstance(choice, str) for choice in value or ()
            ):
                raise DatasetError(
                    f"{location}: expected choices as a list of texts, found {brief(value)}"
                )
        elif column == "idx":
            if not isinstance(value, str | int) or value == "":
                raise DatasetError(
                    f"{location}: expected idx as a text or a number, found {brief(value)}"
                )
        elif column != "answer" or value is not None:
            text_of(value, column, location)


def check_unique(ids: Sequence[str], location: str) -> None:
    """Raises DatasetError naming the first id that occurs twice."""
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DatasetError(
                f"{location}: expected each idx once, found {brief(name, 100)[1:-1]} twice; remove "
                "the duplicate file"
            )
        seen.add(name)

"""Benchmarks as parquet files with embedded images, as `datasets` writes them: image cells are (bytes, path)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from kvtool.datasets.base import ImageRef
from kvtool.datasets.files import brief, check_no_pointer, is_hidden
from kvtool.datasets.formats import HEAD_BYTES
from kvtool.datasets.raster import one_line
from kvtool.digests import open_regular, quick_look
from kvtool.errors import DatasetError, ImageError

_CACHED_COLUMNS = 4
"""Image columns of one row group kept in memory, so that reading in order decodes each once."""
_MAX_COLUMN_BYTES = 1_000_000_000
"""Memory that one column of one row group may take; official files have 100 to 500 MB."""
_MAX_ROWS = 10_000_000

T = TypeVar("T")


def parquet_files(folder: Path, names: Iterable[str]) -> list[Path]:
    """The files of these patterns in a folder and in the folders in it, sorted; hidden ones left out.

    `names` are the official file names and those of the hub's own conversion, a folder a split: `val/0000.parquet`.
    """
    patterns = [pattern for name in names for pattern in (name, f"*/{name}")]
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
        missing = [name for name in (*columns, image_columns[0]) if name not in present]
        if missing:
            has = brief(", ".join(present), 200).strip("'")
            raise DatasetError(f"{path}: expected columns {', '.join(missing)}, found {has}; use the official files")
        self.image_columns = [name for name in image_columns if name in present]
        self._check_cells()
        self._check_sizes([*columns, *self.image_columns])
        self.rows: list[dict[str, Any]] = self._guarded(lambda: self._read(list(columns)).to_pylist())
        metadata = self._file.metadata
        self._ends = list(accumulate(metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)))
        self._lock = Lock()
        self._cells = lru_cache(maxsize=_CACHED_COLUMNS)(self._read_cells)
        self._present = {name: self._guarded(partial(self._valid_cells, name)) for name in self.image_columns}

    def __reduce__(self) -> tuple[Any, ...]:
        """Image references travel to other processes, which open the file again."""
        return ParquetTable, self._arguments

    def images(self, row: int, prefix: str) -> list[ImageRef]:
        """The row's images that are not null; ids are `<prefix>/<column>`."""
        names = [name for name in self.image_columns if self._present[name][row]]
        return [
            ImageRef(f"{prefix}/{name}", read=partial(self.image_bytes, row, name), container=self.path)
            for name in names
        ]

    def image_bytes(self, row: int, column: str) -> bytes:
        """The bytes of an image cell. Raises ImageError."""
        group = bisect_right(self._ends, row)
        start = self._ends[group - 1] if group else 0
        try:
            with self._lock:  # one reader of a file at a time
                content = self._cells(group, column)[row - start]["bytes"].as_py()
        except DatasetError as error:
            raise ImageError(str(error)) from None
        if not isinstance(content, bytes):
            raise ImageError(
                f"{self.path}: row {row}, {column}: expected embedded bytes, found {'none' if content is None else 'text'}; "
                "use the official file"
            )
        if quick_look(self.path) != self._stamp:  # the stamp stands for the bytes in digests: both of one moment
            raise ImageError(f"{self.path}: the file changed while it was read; run the command again")
        return content

    def _open(self) -> Any:
        import pyarrow.parquet as pq

        try:
            with open_regular(self.path) as fd, open(fd, "rb", closefd=False) as file:
                check_no_pointer(self.path, file.read(HEAD_BYTES))
        except (OSError, ValueError) as error:
            raise DatasetError(f"{self.path}: expected a parquet file, found: {one_line(error)}") from None
        return self._guarded(lambda: pq.ParquetFile(self.path), "expected a parquet file, found")

    def _check_cells(self) -> None:
        import pyarrow as pa

        for name in self.image_columns:
            kind = self._file.schema_arrow.field(name).type
            if not pa.types.is_struct(kind) or not {"bytes", "path"} <= {f.name for f in kind}:
                found = brief(str(kind)).strip("'")
                raise DatasetError(f"{self.path}: column {name}: expected images as (bytes, path), found {found}")

    def _check_sizes(self, columns: Sequence[str]) -> None:
        """Refuse what would take too much memory, by what the file says of its columns before they are read."""
        metadata = self._file.metadata
        if metadata.num_rows > _MAX_ROWS:
            raise DatasetError(f"{self.path}: expected at most {_MAX_ROWS} rows, found {metadata.num_rows}")
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            chunks = map(group.column, range(group.num_columns))
            chunks = (chunk for chunk in chunks if chunk.path_in_schema.partition(".")[0] in columns)
            for chunk in chunks:
                if chunk.total_uncompressed_size > _MAX_COLUMN_BYTES:
                    size = f"{chunk.total_uncompressed_size / 1e9:.1f} GB in a row group"
                    raise DatasetError(
                        f"{self.path}: column {brief(chunk.path_in_schema)}: {size}, more than the limit of "
                        f"{_MAX_COLUMN_BYTES / 1e9:.1f} GB; write it in smaller row groups"
                    )

    def _read(self, columns: list[str]) -> Any:
        return self._file.read(columns, use_threads=False)

    def _valid_cells(self, column: str) -> list[bool]:
        """Which cells hold an image: a null is told from the short `path` and the lengths, without the bytes."""
        cells = self._read([f"{column}.path"]).column(column).combine_chunks()
        valid: list[bool] = cells.is_valid().to_pylist()
        if all(valid) and not cells.field("path").null_count:
            return valid
        # A cell of two nulls is no image either, but only the bytes can tell.
        lengths = self._lengths(column)
        paths = cells.field("path").to_pylist()
        return [ok and (path is not None or held) for ok, path, held in zip(valid, paths, lengths, strict=True)]

    def _lengths(self, column: str) -> list[bool]:
        """Whether each cell has bytes, read a row group at a time."""
        groups = range(self._file.metadata.num_row_groups)
        name = f"{column}.bytes"
        parts = (self._file.read_row_group(group, [name], use_threads=False) for group in groups)
        return [ok for part in parts for ok in part.column(column).combine_chunks().field("bytes").is_valid().to_pylist()]

    def _read_cells(self, group: int, column: str) -> Any:
        def read() -> Any:
            return self._file.read_row_group(group, [column], use_threads=False).column(column).combine_chunks()

        return self._guarded(read)

    def _guarded(self, read: Callable[[], T], expected: str = "damaged parquet file") -> T:
        """What `read` gives; whatever pyarrow raises becomes one DatasetError line."""
        try:
            return read()
        except Exception as error:  # noqa: BLE001  damaged files make pyarrow raise many kinds
            raise DatasetError(f"{self.path}: {expected}: {one_line(error)}; download it again") from None


def check_unique(ids: Sequence[str], where: str) -> None:
    """Raises DatasetError naming the first id that occurs twice."""
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DatasetError(
                f"{where}: expected each idx once, found {brief(name, 100)[1:-1]} twice; remove the duplicate file"
            )
        seen.add(name)

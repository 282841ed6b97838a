"""Benchmarks as parquet files with embedded images, as `datasets` writes them: image cells are (bytes, path)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

from kvtool.datasets.base import ImageRef
from kvtool.digests import quick_look
from kvtool.errors import DatasetError, ImageError

_CACHED_COLUMNS = 4
"""Image columns of one row group kept in memory, so that reading in order decodes each once."""


class ParquetTable:
    """One file: text columns as rows of plain values, image cells read when asked for."""

    def __init__(self, path: Path, columns: Sequence[str], image_columns: Sequence[str]) -> None:
        """Raises DatasetError for a file that is no parquet, and for missing columns, by name.

        Of the image columns the first must be there.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = path
        self._arguments = (path, tuple(columns), tuple(image_columns))
        self._stamp = quick_look(path)
        try:
            self._file = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            said = " ".join(str(error).split())[:200]
            raise DatasetError(f"{path}: expected a parquet file, found: {said}; download it again") from None
        present = self._file.schema_arrow.names
        missing = [name for name in (*columns, image_columns[0]) if name not in present]
        if missing:
            raise DatasetError(
                f"{path}: expected columns {', '.join(missing)}, found {', '.join(present)}; use the official files"
            )
        self.image_columns = [name for name in image_columns if name in present]
        self._check_cells()
        self.rows: list[dict[str, Any]] = self._read(list(columns)).to_pylist()
        metadata = self._file.metadata
        self._ends = list(accumulate(metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)))
        self._lock = Lock()
        self._cells = lru_cache(maxsize=_CACHED_COLUMNS)(self._read_cells)
        # A null cell is told from the short `path` alone, without its bytes.
        self._present = {
            name: self._read([f"{name}.path"]).column(name).combine_chunks().is_valid().to_pylist()
            for name in self.image_columns
        }

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
        group = bisect_right(self._ends, row)
        start = self._ends[group - 1] if group else 0
        try:
            with self._lock:  # one reader of a file at a time
                content = self._cells(group, column)[row - start]["bytes"].as_py()
        except DatasetError as error:
            raise ImageError(str(error)) from None
        if content is None:
            raise ImageError(
                f"{self.path}: row {row}, {column}: expected embedded bytes, found none; use the official file"
            )
        if quick_look(self.path) != self._stamp:  # the stamp stands for the bytes in digests: both of one moment
            raise ImageError(f"{self.path}: the file changed while it was read; run the command again")
        return bytes(content)

    def _check_cells(self) -> None:
        import pyarrow as pa

        for name in self.image_columns:
            kind = self._file.schema_arrow.field(name).type
            if not pa.types.is_struct(kind) or not {"bytes", "path"} <= {f.name for f in kind}:
                raise DatasetError(f"{self.path}: column {name}: expected images as (bytes, path), found {kind}")

    def _read(self, columns: list[str]) -> Any:
        return self._guarded(self._file.read, columns)

    def _read_cells(self, group: int, column: str) -> Any:
        return self._guarded(self._file.read_row_group, group, [column]).column(column).combine_chunks()

    def _guarded(self, read: Any, *arguments: Any) -> Any:
        import pyarrow as pa

        try:
            return read(*arguments, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            said = " ".join(str(error).split())[:200]
            raise DatasetError(f"{self.path}: damaged parquet file: {said}; download it again") from None


def check_unique(ids: Sequence[str], where: str) -> None:
    """Raises DatasetError naming the first id that occurs twice."""
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DatasetError(f"{where}: expected each idx once, found {name} twice; remove the duplicate file")
        seen.add(name)

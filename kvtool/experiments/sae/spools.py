"""Numbers that grow with the number of images, on disk until a layer needs them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Spool:
    """Rows of numbers, appended as they come and read at the end.

    Attributes:
        path: A file of its own, in a folder that goes when the study ends.
        width: Numbers of a row.
        dtype: Their type.
    """

    path: Path
    width: int
    dtype: str = "float32"

    def append(self, rows: Array) -> None:
        """Append rows (n, width)."""
        with self.path.open("ab") as file:
            file.write(np.ascontiguousarray(rows, self.dtype).tobytes())

    def read(self) -> Array:
        """Return all rows, (row, width); none of rows without a number."""
        if not self.width or not self.path.exists():
            return np.empty((0, self.width), self.dtype)
        return np.fromfile(self.path, self.dtype).reshape(-1, self.width)


@dataclass(frozen=True)
class SparseSpool:
    """Rows of numbers of which most are 0: the others with their row and column."""

    entries: Spool
    width: int

    @classmethod
    def at(cls, path: Path, width: int) -> SparseSpool:
        """Return an empty one in a file."""
        return cls(Spool(path, 3, "float32"), width)

    def append(self, row: int, values: Array) -> None:
        """Append the row of this number, (width,)."""
        columns = np.flatnonzero(values)
        rows = np.full(len(columns), row)
        # Numbers below 2**24 are exact in float32.
        self.entries.append(np.stack([rows, columns, values[columns]], axis=1))

    def read(self, n_rows: int) -> Array:
        """Return rows 0 to n_rows - 1, (row, width) float32."""
        dense = np.zeros((n_rows, self.width), np.float32)
        rows, columns, values = self.entries.read().T
        dense[rows.astype(int), columns.astype(int)] = values
        return dense

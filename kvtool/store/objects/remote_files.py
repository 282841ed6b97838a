"""Objects that stand for files of a mirror's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c

from kvtool.store.durable import FileRecord
from kvtool.store.objects.bucket import Bucket


@dataclass(frozen=True)
class BucketFile:
    """An object of a store, see kvtool.store.mirrors.RemoteFile."""

    bucket: Bucket
    key: str

    def read(self) -> bytes:
        """Return all bytes. Raises FileNotFoundError."""
        data = self.bucket.get(self.key)
        if data is None:
            raise FileNotFoundError(2, "no such object", f"{self.bucket.address}/{self.key}")
        return data

    def record(self) -> FileRecord:
        """Return size and crc32c, read piece by piece. Raises FileNotFoundError."""
        nbytes = checksum = 0
        for piece in self.bucket.pieces(self.key):
            data = bytes(piece)
            checksum = google_crc32c.extend(checksum, data)
            nbytes += len(data)
        return FileRecord(nbytes, checksum)

    def read_range(self, start: int, stop: int) -> tuple[Any, int]:
        """Return the bytes from start to stop - 1, and the size of the object."""
        return self.bucket.get_range(self.key, start, stop)

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[Any]:
        """Return the bytes of each (start, stop), fetched side by side."""
        return self.bucket.get_ranges(self.key, ranges)

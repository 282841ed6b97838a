"""Where the bytes of a shard come from: a file, or the object that stands for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kvtool.store.mirrors import RemoteFile, remote_file

Range = tuple[int, int]
"""The first byte, and the one after the last."""


class ByteSource(Protocol):
    """Bytes that are read by ranges. All methods raise OSError, or StoreError of a service."""

    def tail(self, start: int, stop: int) -> tuple[NDArray[np.uint8], int]:
        """Return the bytes from start to stop - 1, or as many as there are, and the size of all."""

    def announce(self, ranges: Sequence[Range]) -> None:
        """Let these ranges, none twice, come while others are decoded; each is read once next."""

    def read(self, buffer: NDArray[np.uint8], start: int) -> int:
        """Fill a buffer from `start` on; return how many bytes there were."""

    def close(self) -> None:
        """Let go of what is open."""


def open_bytes(path: Path) -> ByteSource:
    """Return the bytes of a file, or of the object that stands for it. Raises FileNotFoundError."""
    try:
        return FileBytes(path)
    except FileNotFoundError:
        # A mirror's folder has small files alone: shards are objects of the store behind it.
        remote = remote_file(path)
        if remote is None:
            raise
        return RemoteBytes(remote)


class FileBytes:
    """The bytes of a file."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY)

    def tail(self, start: int, stop: int) -> tuple[NDArray[np.uint8], int]:
        """Return the bytes from start to stop - 1, and the size of the file."""
        # A file of another size is damaged: its last bytes are no index and are not read.
        nbytes = os.fstat(self._fd).st_size
        if nbytes != stop:
            return np.empty(0, np.uint8), nbytes
        buffer = np.empty(stop - start, np.uint8)
        return buffer[: self.read(buffer, start)], nbytes

    def announce(self, ranges: Sequence[Range]) -> None:
        """Advise the kernel, where it takes such advice; some file systems take none."""
        if hasattr(os, "posix_fadvise"):
            for start, stop in ranges:
                with suppress(OSError):
                    os.posix_fadvise(self._fd, start, stop - start, os.POSIX_FADV_WILLNEED)

    def read(self, buffer: NDArray[np.uint8], start: int) -> int:
        """Fill a buffer; a read may give less than was asked for, e.g. on network file systems."""
        done = 0
        while done < buffer.nbytes:
            count = os.preadv(self._fd, [buffer[done:].data], start + done)
            if count == 0:
                break
            done += count
        return done

    def close(self) -> None:
        """What was read was checked: a file that does not close costs nobody the values."""
        with suppress(OSError):
            os.close(self._fd)


class RemoteBytes:
    """The bytes of an object: a request for its end, and one for all ranges that are announced."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._buffers: dict[Range, NDArray[np.uint8]] = {}

    def tail(self, start: int, stop: int) -> tuple[NDArray[np.uint8], int]:
        """Return the bytes from start to stop - 1, and the size of the object."""
        data, nbytes = self._file.read_range(start, stop)
        return np.frombuffer(data, np.uint8), nbytes

    def announce(self, ranges: Sequence[Range]) -> None:
        """Fetch the ranges, neighbors with one request."""
        if ranges:
            # All announced ranges in one call, which asks for them side by side.
            buffers = self._file.read_ranges(ranges)
            # By both ends, since ranges of two lengths may begin at the same byte.
            self._buffers = {
                span: np.frombuffer(buffer, np.uint8)
                for span, buffer in zip(ranges, buffers, strict=True)
            }

    def read(self, buffer: NDArray[np.uint8], start: int) -> int:
        """Fill a buffer with a range that was announced, which is let go of then."""
        data = self._buffers.pop((start, start + buffer.nbytes))
        count = min(len(data), len(buffer))
        buffer[:count] = data[:count]
        return count

    def close(self) -> None:
        """Let go of what was fetched."""
        self._buffers.clear()

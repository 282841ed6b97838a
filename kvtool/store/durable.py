"""Bytes that survive a crash: written, synced, and compared with what was to be written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np

from kvtool.digests import open_regular, read_stamped
from kvtool.errors import StoreError
from kvtool.store.mirrors import remote_file

_BLOCK_BYTES = 1 << 20
_MOST_BYTES = 1 << 31
"""More than any file has that is read whole: results, and what groups record."""


class FileRecord(NamedTuple):
    """Size and crc32c of a file's bytes."""

    nbytes: int
    crc32c: int


class TornError(StoreError):
    """A file is not as it was written: something removed or changed it before it was committed."""


def crc32c(data: Any) -> int:
    """crc32c of bytes or of a contiguous uint8 array."""
    return int(google_crc32c.value(data))


def fsync_folder(folder: Path) -> None:
    """Sync a folder, so that the names in it survive a power cut. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, whose names survive a power cut.

    One that is there is fine.
    """
    # Found before they are made: only a new name has to be synced in the folder above it.
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in new_folders:
        fsync_folder(path.parent)


def read_file(path: Path) -> bytes:
    """Return the bytes of a regular file, or of the object that stands for it.

    Raises OSError for anything else in its place: a FIFO would wait for ever.
    """
    try:
        return read_stamped(path, _MOST_BYTES)[0]
    except FileNotFoundError:
        if (remote := remote_file(path)) is None:
            raise
        return remote.read()


def write_file(path: Path, *buffers: Any) -> int:
    """Create a file with these bytes, fsync it and return its size.

    Exists already: FileExistsError.
    """
    return write_recorded(path, *buffers).nbytes


def write_recorded(path: Path, *buffers: Any) -> FileRecord:
    """As write_file; the checksum is that of the bytes given, whatever becomes of them on their way
    to the disk.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        size = checksum = 0
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            checksum = google_crc32c.extend(checksum, np.frombuffer(view, np.uint8))
            # The system may write less than it was given.
            while view.nbytes:
                count = os.write(fd, view)
                size += count
                view = view[count:]
        os.fsync(fd)
    finally:
        os.close(fd)
    return FileRecord(size, checksum)


def read_record(path: Path) -> FileRecord:
    """Return the size and crc32c of a file as it can be read now.

    Raises OSError for what is no regular file: a FIFO in its place would wait for ever.
    """
    size = checksum = 0
    buffer = np.empty(_BLOCK_BYTES, np.uint8)
    try:
        with open_regular(path) as fd:
            while count := os.readv(fd, [buffer.data]):
                checksum = google_crc32c.extend(checksum, buffer[:count])
                size += count
    except FileNotFoundError:
        if (remote := remote_file(path)) is None:
            raise
        return remote.record()
    return FileRecord(size, checksum)


def check_files(folder: Path, files: Mapping[str, FileRecord]) -> None:
    """Read files back. Raises TornError where one is missing or was written otherwise."""
    for name, record in files.items():
        try:
            current = read_record(folder / name)
        except FileNotFoundError:
            raise TornError(_torn(folder / name, f"{record.nbytes} bytes", "no file")) from None
        if current != record:
            expected, actual = (
                f"{r.nbytes} bytes of crc32c {r.crc32c:08x}" for r in (record, current)
            )
            raise TornError(_torn(folder / name, expected, actual))


def walk(folder: Path, topdown: bool = True) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder at and below one, and the names of its files.

    A folder that cannot be listed raises OSError, where os.walk alone would pass over it.
    """

    def fail(error: OSError) -> None:
        """Raise the error that os.walk would pass over."""
        raise error

    for subfolder, _, names in os.walk(folder, topdown, onerror=fail):
        yield Path(subfolder), names


def sizes(folder: Path) -> dict[str, int]:
    """Return the size of every file below a folder, by its path from there."""
    nbytes_of_path = {}
    for subfolder, names in walk(folder):
        for name in names:
            path = subfolder / name
            nbytes_of_path[str(path.relative_to(folder))] = path.stat().st_size
    return nbytes_of_path


def check_sizes(folder: Path, files: Mapping[str, int]) -> None:
    """Raise TornError where a file is missing or has another size."""
    for name, expected in files.items():
        try:
            nbytes = (folder / name).stat().st_size
        except FileNotFoundError:
            raise TornError(_torn(folder / name, f"{expected} bytes", "no file")) from None
        if nbytes != expected:
            raise TornError(_torn(folder / name, f"{expected} bytes", f"{nbytes}"))


def _torn(path: Path, expected: str, actual: str) -> str:
    return (
        f"{path}: expected {expected}, found {actual}: it was removed or changed while it was "
        "written: run again"
    )

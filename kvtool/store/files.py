"""Files that survive a crash: sealed JSON, fsync, rename, and a temporary folder of one's own.

A sealed JSON file carries the crc32c of its own bytes (computed with the eight digits as zeros), so that a flipped
bit anywhere in it is found, in a sample's id as much as in a brace.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import google_crc32c
import psutil

from kvtool.errors import CorruptError, SpaceError, StoreError
from kvtool.store.layout import ZARR_JSON, tmp_path

SEAL = "kvtool_crc32c"
UNSEALED = "00000000"
_SEAL_PATTERN = re.compile(rb'"kvtool_crc32c": "([0-9a-f]{8})"')
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)
_SAME_BOOT_S = 60.0
_sequence = itertools.count()


def crc32c(data: Any) -> int:
    """crc32c of bytes or of a contiguous uint8 array."""
    return int(google_crc32c.value(data))


def sealed(document: dict[str, Any]) -> bytes:
    """JSON bytes of a document whose first SEAL member (now UNSEALED) becomes the checksum of those bytes."""
    text = json.dumps(document).encode()
    start, stop = _SEAL_PATTERN.search(text).span(1)  # type: ignore[union-attr]
    return text[:start] + b"%08x" % crc32c(text) + text[stop:]


def unsealed(data: bytes, where: str) -> dict[str, Any]:
    """Inverse of sealed, SEAL left in place. Raises CorruptError that begins with `where`."""
    match = _SEAL_PATTERN.search(data)
    if match is None:
        raise CorruptError(f"{where}: expected a checksum ({SEAL}), found none: damaged, or not kvtool's")
    start, stop = match.span(1)
    found = b"%08x" % crc32c(data[:start] + UNSEALED.encode() + data[stop:])
    if found != match[1]:
        raise CorruptError(f"{where}: expected crc32c {match[1].decode()}, found {found.decode()}: damaged")
    document: dict[str, Any] = json.loads(data)
    return document


def group_json(attributes: dict[str, Any]) -> bytes:
    """zarr.json of an explicit group; the seal is its first attribute, since zarr allows no other member."""
    return sealed({"zarr_format": 3, "node_type": "group", "attributes": {SEAL: UNSEALED, **attributes}})


def read_group(folder: Path, where: str) -> dict[str, Any]:
    """Attributes of a group written with group_json. Raises CorruptError, or FileNotFoundError."""
    attributes: dict[str, Any] = unsealed((folder / ZARR_JSON).read_bytes(), f"{where}: {ZARR_JSON}")["attributes"]
    del attributes[SEAL]
    return attributes


def fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(path: Path, *buffers: Any) -> int:
    """Create a file with these bytes, fsync it and return its size. Exists already: FileExistsError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        size = 0
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            while view.nbytes:
                written = os.write(fd, view)
                size += written
                view = view[written:]
        os.fsync(fd)
    finally:
        os.close(fd)
    return size


def replace_file(path: Path, data: bytes, tmp: Path) -> None:
    """Write `data` in the folder `tmp`, then rename it to `path`: readers see the old file or the new one."""
    write_file(tmp / path.name, data)
    (tmp / path.name).replace(path)
    fsync_folder(path.parent)


def commit_folder(tmp: Path, target: Path) -> bool:
    """Rename a folder whose files are fsynced to its final name. False: another writer was first, `tmp` is dropped.

    The target is never created first: renaming onto an empty folder silently succeeds, onto a full one fails.
    """
    for folder, _, _ in os.walk(tmp, topdown=False):
        fsync_folder(Path(folder))
    try:
        tmp.rename(target)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        shutil.rmtree(tmp)
        return False
    fsync_folder(target.parent)
    return True


@contextmanager
def scratch_folder(store: Path) -> Iterator[Path]:
    """A new folder STORE/tmp/<host>-<pid>-<seq>/, removed at the end unless it was renamed away."""
    while True:
        folder = tmp_path(store) / f"{host_name()}-{os.getpid()}-{next(_sequence)}"
        with suppress(FileExistsError):  # left by a dead process that had our pid
            folder.mkdir(parents=True)
            break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_stale_scratch(folder: Path) -> bool | None:
    """Whether the process that wrote a folder of tmp/ is gone; None where another host would have to say."""
    match = re.fullmatch(r"(.+)-(\d+)-\d+", folder.name)
    if match is None or match[1] != host_name():
        return None
    with suppress(FileNotFoundError):
        return not process_alive(int(match[2]), folder.stat().st_mtime)
    return True


def host_name() -> str:
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())


def process_alive(pid: int, seen_at_s: float) -> bool:
    """Whether the process that had this pid of this host at a time (seconds since the epoch) still runs."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(process.create_time() <= seen_at_s + _SAME_BOOT_S)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


@contextmanager
def os_errors(what: str) -> Iterator[None]:
    """OSErrors become SpaceError or StoreError of one line; `what` says who was doing what, where."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _NO_SPACE:
            raise SpaceError(
                f"{what}: no space left on the disk ({reason}); nothing was kept of it: free some, then run again"
            ) from error
        name = f" ({error.filename})" if error.filename else ""
        raise StoreError(f"{what}: {reason}{name}") from error

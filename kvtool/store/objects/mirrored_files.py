"""Files of a mirror: written as a whole, and results fetched with the time of their objects."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from kvtool.store import layout
from kvtool.store.objects.bucket import Bucket, ObjectEntry

_REQUESTS = 16


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold what is in a mirror's outer folder against other processes of this machine, and threads
    of this one.
    """
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_mirrored(path: Path, data: bytes, modified_s: float | None = None) -> None:
    """Write a file of the mirror, as a whole, with a time where one is given; it can be fetched
    again at any time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Under a name of its own, so that two processes that fetch one file do not mix their bytes.
    aside = path.with_name(f".{secrets.token_hex(4)}.part")
    aside.write_bytes(data)
    if modified_s is not None:
        os.utime(aside, (modified_s, modified_s))
    aside.replace(path)


def fetch_results(bucket: Bucket, folder: Path) -> None:
    """Bring the folder of results up to date: those saved since are fetched, others removed.

    The mirror is locked meanwhile, as it is while a result is written: so a file that no object
    stands for is neither one that is being written nor one that was saved after the listing.
    """
    # One listing says which results there are, and whether the mirror's are the same.
    entries = {
        folder / Path(entry.key).name: entry
        for entry in bucket.list(layout.RESULTS)
        if entry.key.endswith(".json")
    }
    for path in set(layout.entries(folder)) - entries.keys():
        path.unlink(missing_ok=True)
    with ThreadPoolExecutor(_REQUESTS) as pool:
        list(pool.map(lambda item: _fetch_result(bucket, *item), entries.items()))


def _fetch_result(bucket: Bucket, path: Path, entry: ObjectEntry) -> None:
    """Fetch a result that is not the one that the mirror has, by its size and time."""
    with suppress(FileNotFoundError):  # not fetched yet, or removed in this moment
        status = path.stat()
        # The object's time was given to the file when it was fetched.
        if (status.st_size, status.st_mtime) == (entry.nbytes, entry.modified_s):
            return
    data = bucket.get(entry.key)
    if data is not None:
        write_mirrored(path, data, entry.modified_s)

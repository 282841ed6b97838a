"""Which local folders are mirrors of stores on object stores, and what such a mirror does in place
of the file system.

A store at an address such as s3://bucket/spair.kv is opened through a folder of the user's cache
that holds its small files. So all that reads a store reads that folder; what the folder lacks, and
what is committed, removed or claimed, goes through the mirror that is registered for it. Of a store
in a folder of its own there is none. See kvtool.store.objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from kvtool.store.durable import FileRecord
    from kvtool.store.locks import Owner


REMOTE_FOLDERS = ("commits", "index", "recent")
"""What an object store has beside what a folder has, see kvtool.store.objects."""


class RemoteFile(Protocol):
    """An object of the store that stands for a file of its mirror's folder."""

    def read(self) -> bytes:
        """Return all bytes. Raises FileNotFoundError."""

    def record(self) -> FileRecord:
        """Return size and crc32c, read piece by piece. Raises FileNotFoundError."""

    def read_range(self, start: int, stop: int) -> tuple[Any, int]:
        """Return a buffer of the bytes from start to stop - 1, and the size of the whole object.

        Raises FileNotFoundError.
        """

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[Any]:
        """Return a buffer for each (start, stop), fetched side by side."""


class Mirror(Protocol):
    """What stands between a folder of the cache and the object store that it mirrors."""

    @property
    def address(self) -> str:
        """The address of the store, e.g. s3://bucket/spair.kv."""

    def refresh(self, at_once: bool = False) -> None:
        """Bring the folder up to date; where it was a moment ago, only if `at_once`."""

    def file(self, path: Path) -> RemoteFile | None:
        """Return the object of a file that the folder may lack; None where there can be none."""

    def sizes(self, folder: Path) -> dict[str, int]:
        """Return the size of each object of a committed folder, by its name there."""

    def complete(self, folder: Path) -> None:
        """Fetch the files of a committed folder that the mirror lacks."""

    def commit(self, tmp: Path, target: Path, files: Mapping[str, FileRecord]) -> bool:
        """Commit a folder under the name `target`. False: another writer was first."""

    def save(self, path: Path, data: bytes) -> None:
        """Put a file that is replaced as a whole, such as a result, there and in the folder."""

    def remove(self, target: Path) -> None:
        """Remove what was committed or saved; none is fine."""

    def lease(self, path: Path, what: str, wait_s: float) -> AbstractContextManager[Owner]:
        """Hold the claim at `path`. Raises BusyError."""

    def leases(self, folder: Path) -> dict[str, Owner | None]:
        """Return the owners of the claims of a folder that are alive, by what they claim."""

    def zarr_store(self, folder: Path) -> Any:
        """Return what zarr opens in place of an array's folder."""

    def nbytes(self) -> dict[str, int]:
        """Return the size of every object by its name in the store."""

    def prune(self, dry_run: bool) -> list[str]:
        """Delete objects that no commit names and that are old; return what they belonged to."""


_mirrors: dict[Path, Mirror] = {}


def register(root: Path, mirror: Mirror) -> None:
    """Let a mirror serve a folder of this process from now on."""
    _mirrors[root] = mirror


def mirror_of(path: Path) -> Mirror | None:
    """Return the mirror of the store that is at `path` or above it; None of any other folder."""
    # Most processes have no mirror: paths are not walked up for nothing.
    if not _mirrors:
        return None
    # The nearest folder above decides, since a mirror serves all that lies below its root.
    return next((_mirrors[folder] for folder in (path, *path.parents) if folder in _mirrors), None)


def remote_file(path: Path) -> RemoteFile | None:
    """Return the object that stands for a file of a mirror; None of any other file."""
    mirror = mirror_of(path)
    return None if mirror is None else mirror.file(path)


def refresh(path: Path, at_once: bool = False) -> None:
    """Bring the mirror that a path belongs to up to date; of any other path nothing is done."""
    if (mirror := mirror_of(path)) is not None:
        mirror.refresh(at_once)


def complete(folder: Path) -> None:
    """Fetch what the mirror of a committed folder lacks; of any other folder nothing is done."""
    if (mirror := mirror_of(folder)) is not None:
        mirror.complete(folder)


def address_of(store: Path) -> str:
    """Return what a user calls a store: its address on an object store, else its path."""
    mirror = mirror_of(store)
    return str(store) if mirror is None else mirror.address

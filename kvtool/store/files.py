"""Files that survive a crash: fsync, rename, and a temporary folder for each writer."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from kvtool.errors import SpaceError, StoreError
from kvtool.store import ledger
from kvtool.store.durable import (
    FileRecord,
    TornError,
    check_files,
    check_sizes,
    crc32c,
    fsync_folder,
    sizes,
    walk,
    write_file,
)
from kvtool.store.layout import PLAIN_FOLDERS, ZARR_JSON, entries, entry_names, tmp_path
from kvtool.store.mirrors import mirror_of
from kvtool.store.owners import (
    Process,
    Watch,
    beating,
    host_name,
    is_dead,
    is_locked,
    locked,
    this_process,
    untouched_s,
)
from kvtool.store.sealed import leaf_json

__all__ = ["crc32c", "fsync_folder", "host_name", "write_file"]  # and what is defined here

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)
SCRATCH_EXPIRY_S = 86400.0
"""When a folder in tmp/ is left by a process nobody can judge: it is touched every HEARTBEAT_S
while in use.
"""
_sequence = itertools.count()
_swept: set[tuple[int, Path]] = set()
_watch = Watch()


def replace_file(path: Path, data: bytes, tmp: Path) -> None:
    """Write `data` in the folder `tmp`, then rename it to `path`: readers see the old file or the
    new one.
    """
    write_file(tmp / path.name, data)
    (tmp / path.name).replace(path)
    fsync_folder(path.parent)


def close_plain_folders(store: Path, tmp: Path) -> None:
    """Give each folder of a store whose files are not Zarr its zarr.json, where it has none."""
    for name in PLAIN_FOLDERS:
        folder = store / name
        if folder.is_dir() and not (folder / ZARR_JSON).exists():
            replace_file(folder / ZARR_JSON, leaf_json({}), tmp)


def commit_folder(tmp: Path, target: Path, files: Mapping[str, FileRecord] | None = None) -> bool:
    """Rename a folder whose files are fsynced to its final name, and enter it in the ledger.

    False: another writer was first, `tmp` is dropped.

    tmp: STORE/tmp/<scratch>/<name>. files: what was written, by path below tmp, which is read back
    before and after the rename. What was renamed has the same files of the same sizes, too, or it
    is taken back. Raises TornError.

    The target is never created first: renaming onto an empty folder silently succeeds, onto a full
    one fails.
    """
    if (mirror := mirror_of(tmp)) is not None:
        return mirror.commit(tmp, target, files or {})
    # Read back before anyone can see it: what was torn on its way is never committed.
    check_files(tmp, files or {})
    # Names in a folder survive a power cut only once the folder itself is synced, the inner first.
    expected = sizes(tmp)
    for folder, _ in walk(tmp, topdown=False):
        fsync_folder(folder)
    try:
        tmp.rename(target)
    except OSError as error:
        if error.errno not in _OCCUPIED:
            raise
        shutil.rmtree(tmp)
        fsync_folder(
            target.parent
        )  # the winner may not have come to it, and this one says that it is committed
        return False
    fsync_folder(target.parent)
    # Read once more under the final name: only then is it safe to say that it is committed.
    try:
        check_files(target, files or {})
        check_sizes(target, expected)
    except (TornError, OSError):
        target.rename(tmp)
        raise
    # The ledger comes last: without an entry a commit is merely not missed when it is gone.
    ledger.mark(tmp.parent.parent.parent, target)
    return True


def remove_committed(store: Path, target: Path) -> None:
    """Remove a committed file or folder, at once for readers: its entry in the ledger goes first.

    None is fine.
    """
    if (mirror := mirror_of(store)) is not None:
        mirror.remove(target)
    # The ledger's entry goes first, or a crash in between would leave a loss to be reported.
    ledger.unmark(store, target)
    with scratch_folder(store) as scratch, suppress(FileNotFoundError):
        target.rename(scratch / target.name)
        fsync_folder(target.parent)


@contextmanager
def scratch_folder(store: Path) -> Iterator[Path]:
    """A new folder STORE/tmp/<process>-<seq>/, removed at the end unless it was renamed away.

    The first one of a process sweeps what dead ones left, and a later one what it has watched
    meanwhile.
    """
    # Once a process, and again when what looked old has been watched long enough.
    if (os.getpid(), store) not in _swept or _watch.is_due():
        sweep_scratch(store)
    folder = tmp_path(store) / f"{this_process().tag}-{next(_sequence)}"
    folder.mkdir(parents=True)
    with locked(folder), beating(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def scratch_owner(folder: Path) -> Process | None:
    """Return the process that made a folder of tmp/; None where it is no scratch folder."""
    return Process.from_tag(folder.name.rpartition("-")[0])


def is_stale_scratch(folder: Path) -> bool | None:
    """Return whether the process that made a folder of tmp/ is gone; None where that cannot be
    said.
    """
    # A folder that no process's tag names is nobody's to remove.
    owner = scratch_owner(folder)
    if owner is None:
        return None
    dead = is_dead(owner)
    # A lock that is held shows a live owner even where processes cannot be seen.
    if dead is False or is_locked(folder):
        return False
    if dead:
        return True
    # A clock that jumps makes every folder look old, so its age alone is no proof: it must be
    # seen to be left alone.
    idle_s = untouched_s(folder)
    is_old = idle_s is not None and idle_s > SCRATCH_EXPIRY_S
    return True if is_old and _watch.is_idle(folder) else None


def is_watched_scratch(folder: Path) -> bool:
    """Return whether is_stale_scratch has found a folder old and needs WATCH_S more to say whether
    it is left alone.
    """
    return is_stale_scratch(folder) is None and _watch.is_watched(folder)


def sweep_scratch(store: Path) -> list[str]:
    """Delete what dead processes left unfinished, and return the names.

    Nothing that may be in use is touched.

    It is moved aside before it is deleted: a writer that is alive after all finds its folder whole,
    or gone.
    """
    _swept.add((os.getpid(), store))
    swept = []
    with suppress(OSError):
        stale = [folder for folder in entries(tmp_path(store)) if is_stale_scratch(folder)]
        if stale:
            with scratch_folder(store) as grave:
                for folder in stale:
                    with suppress(OSError):
                        folder.rename(grave / folder.name)
                        _watch.end(folder)
                        swept.append(folder.name)
    return swept


def member_names(folder: Path, within: range | None = None) -> list[str]:
    """Return the sorted names of the members of a run's group; hidden ones are none.

    within: leave out the parts that hold no image of this range. Raises StoreError.
    """
    with os_errors(f"{folder}: cannot be listed"):
        return [name for name in entry_names(folder, within) if not name.startswith(".")]


@contextmanager
def os_errors(what: str) -> Iterator[None]:
    """Turn OSErrors into a SpaceError or StoreError of one line that begins with `what`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _NO_SPACE:
            raise SpaceError(
                f"{what}: no space left on the disk ({reason}); nothing was kept of it: free "
                "some, then run again"
            ) from error
        name = f" ({error.filename})" if error.filename else ""
        raise StoreError(f"{what}: {reason}{name}") from error

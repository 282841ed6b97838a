"""What a file holds, as a digest: of pictures, annotations and weights.

Hashed once, then remembered.

A file is hashed again only where its stamp (size, times, inode) is not the remembered one. The
memory is a small SQLite file in the user's cache folder, `$KVTOOL_CACHE/digests.sqlite`; where it
cannot be read or written, files are hashed each time, and nothing else changes. No torch, no NumPy.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

CACHE_VARIABLE = "KVTOOL_CACHE"
DIGITS = 32
"""Hexadecimal digits of sha256 that are kept: 128 bits."""

_BLOCK_BYTES = 1 << 22
_BATCH_PATHS = 500
_RACY_NS = 2_000_000_000
"""A file that changed this shortly before it was hashed may change again within the same clock
tick.
"""
_BUSY_S = 5.0
_HASH_THREADS = 4
_TABLE = (
    "CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, "
    "ctime_ns INTEGER, inode INTEGER, digest TEXT) WITHOUT ROWID"
)


class Stamp(NamedTuple):
    """What a quick look at a file tells: where it is unchanged, so is the file's content."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Return the stamp that a file's status holds."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def cache_folder() -> Path:
    """Return the user's cache folder: $KVTOOL_CACHE, or kvtool in $XDG_CACHE_HOME or ~/.cache."""
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.environ.get(CACHE_VARIABLE) or f"{user}/kvtool"
    return Path(os.path.expanduser(folder))  # noqa: PTH111  without a home the path stays as it is


def digest_bytes(data: bytes) -> str:
    """Return 32 hex digits of some bytes."""
    return hashlib.sha256(data).hexdigest()[:DIGITS]


def digest_texts(texts: Iterable[str]) -> str:
    """Return 32 hex digits of texts in order, each with its length, so that no two lists run
    together.
    """
    sha = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        sha.update(b"%d:" % len(data))
        sha.update(data)
    return sha.hexdigest()[:DIGITS]


def quick_look(path: str | os.PathLike[str]) -> Stamp | None:
    """Return the stamp of a regular file; None where there is none that can be looked at."""
    try:
        status = _as_path(path).stat()
    except (OSError, ValueError):
        return None
    return Stamp.of(status) if stat.S_ISREG(status.st_mode) else None


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[int]:
    """A file descriptor of a regular file.

    Raises OSError for anything else: a FIFO would wait for ever.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(22, "not a regular file", os.fspath(path))
        yield fd
    finally:
        os.close(fd)


def read_stamped(path: str | os.PathLike[str], most_bytes: int) -> tuple[bytes, Stamp]:
    """Return the bytes of a regular file and the stamp it had when it was opened.

    Raises OSError where it cannot be read, is no regular file, or holds more than `most_bytes`.
    """
    with open_regular(path) as fd:
        stamp = Stamp.of(os.fstat(fd))
        if stamp.size > most_bytes:
            raise OSError(
                27, f"{stamp.size} bytes, more than the limit of {most_bytes}", os.fspath(path)
            )
        with open(fd, "rb", closefd=False) as file:
            return file.read(stamp.size + 1), stamp  # not more is allocated than the file had


def digest_file(path: str | os.PathLike[str]) -> str:
    """Return 32 hex digits of a file's bytes; an empty string where it cannot be read or is no
    regular file.
    """
    return next(iter(digest_files([path]).values()))


def digest_files(paths: Iterable[str | os.PathLike[str]]) -> dict[Path, str]:
    """Return the digest of each file, in order; an empty string for those that cannot be read or
    are no regular files.

    Those whose stamp is remembered are not opened. Many files are hashed by a few threads.
    """
    unique_paths = list(dict.fromkeys(map(_as_path, paths)))
    # One quick look at each file, and one question to the memory for all.
    stamps = {path: quick_look(path) for path in unique_paths}
    names = {path: _place(path) for path in unique_paths if stamps[path] is not None}
    remembered = _recall(names.values())
    digests: dict[Path, str] = {}
    unknown: list[Path] = []
    for path in unique_paths:
        stamp = stamps[path]
        memory = remembered.get(names.get(path, ""))
        if stamp is not None and memory is not None and memory[0] == stamp:
            digests[path] = memory[1]
        elif stamp is not None:
            unknown.append(path)
    # Only what is new or changed is read.
    fresh = _hash_all(unknown)
    digests.update({path: digest for path, (digest, _) in fresh.items()})
    _remember({names[path]: entry for path, entry in fresh.items() if entry[0]})
    return {path: digests.get(path, "") for path in unique_paths}


def bytes_to_hash(paths: Iterable[str | os.PathLike[str]]) -> int:
    """Return how many bytes `digest_files` has to read of files that it does not remember."""
    stamps = {_place(path): quick_look(path) for path in paths}
    remembered = _recall(stamps)
    unknown = [stamp for name, stamp in stamps.items() if remembered.get(name, (None,))[0] != stamp]
    return sum(stamp.size for stamp in unknown if stamp is not None)


def _hash_all(paths: Sequence[Path]) -> dict[Path, tuple[str, Stamp | None]]:
    """Return the digest and stamp of each file, hashed now."""
    if len(paths) < 2:
        return {path: _hash(path) for path in paths}
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        return dict(zip(paths, pool.map(_hash, paths), strict=True))


def _hash(path: Path) -> tuple[str, Stamp | None]:
    """Return the digest and stamp of a file; the stamp is None where the file may still be
    changing.
    """
    sha = hashlib.sha256()
    buffer = bytearray(_BLOCK_BYTES)
    try:
        with open_regular(path) as fd, open(fd, "rb", closefd=False, buffering=0) as file:
            before = Stamp.of(os.fstat(fd))
            while count := file.readinto(buffer):
                sha.update(memoryview(buffer)[:count])
            after = Stamp.of(os.fstat(fd))
    except OSError:
        return "", None
    # A file written to while it was read, or a moment ago, is hashed again next time.
    settled = before == after and time.time_ns() - max(after.mtime_ns, after.ctime_ns) > _RACY_NS
    return sha.hexdigest()[:DIGITS], after if settled else None


def remember(entries: Mapping[str | os.PathLike[str], tuple[str, Stamp]]) -> None:
    """Keep digests of files that were read for another purpose: path -> (digest, stamp when it was
    opened).
    """
    now = time.time_ns()
    _remember(
        {
            _place(path): (digest, stamp)
            for path, (digest, stamp) in entries.items()
            if now - max(stamp.mtime_ns, stamp.ctime_ns) > _RACY_NS
        }
    )


def recall(paths: Iterable[str | os.PathLike[str]]) -> dict[Path, tuple[str, Stamp]]:
    """Return what `remember` kept of each path: (digest, stamp then); paths that are not remembered
    are left out.
    """
    paths_by_name = {_place(path): Path(path) for path in paths}
    return {
        paths_by_name[name]: (digest, stamp)
        for name, (stamp, digest) in _recall(paths_by_name).items()
    }


def _memory(create: bool) -> sqlite3.Connection | None:
    """Return the remembered digests; None where there are none, or the file is of no use."""
    path = cache_folder() / "digests.sqlite"
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.exists():
            return None
        connection = sqlite3.connect(path, timeout=_BUSY_S)
    except (OSError, ValueError, sqlite3.Error):
        return None
    if create:
        try:
            connection.execute(_TABLE)
        except sqlite3.OperationalError:  # locked, read-only or full: not this time
            connection.close()
            return None
        except sqlite3.DatabaseError:  # damaged: it only saves time, so begin anew
            connection.close()
            path.unlink(missing_ok=True)
            return None
    return connection


def _recall(names: Iterable[str]) -> dict[str, tuple[Stamp, str]]:
    """Return the stamp and digest of each place that is remembered."""
    connection = _memory(create=False)
    if connection is None:
        return {}
    entries: dict[str, tuple[Stamp, str]] = {}
    paths = [path for path in names if _is_text(path)]
    with closing(connection):
        try:
            for start in range(0, len(paths), _BATCH_PATHS):
                batch = paths[start : start + _BATCH_PATHS]
                marks = ",".join("?" * len(batch))
                query = f"SELECT * FROM digests WHERE path IN ({marks})"
                for path, size, mtime_ns, ctime_ns, inode, digest in connection.execute(
                    query, batch
                ):
                    entries[path] = Stamp(size, mtime_ns, ctime_ns, inode), digest
        except sqlite3.Error:
            return {}
    return entries


def _remember(entries: Mapping[str, tuple[str, Stamp | None]]) -> None:
    rows = [
        (name, *stamp, digest)
        for name, (digest, stamp) in entries.items()
        if stamp and _is_text(name)
    ]
    if not rows or (connection := _memory(create=True)) is None:
        return
    with closing(connection):
        try:
            with connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?)", rows
                )
        except (sqlite3.Error, OverflowError):
            return


def _as_path(path: str | os.PathLike[str]) -> Path:
    """Return a path as it is, since taking thousands apart again costs as much as looking at the
    files.
    """
    return path if isinstance(path, Path) else Path(path)


def _place(path: str | os.PathLike[str]) -> str:
    """Return the name under which a file is remembered: absolute, links left as they are."""
    return os.path.abspath(path)  # noqa: PTH100  links are not resolved


def _is_text(name: str) -> bool:
    """Return whether SQLite can hold a path: names that are no UTF-8 have surrogates in them."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True

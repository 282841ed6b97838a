"""Files and folders that commands write for their user: checked before any work, and there whole or
not at all.

A regular file is written aside in its folder and renamed, with the permissions it had. What is no
regular file, a device, a pipe or a FIFO, is written into and never renamed onto. A link is
followed: its target is replaced.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from kvtool.errors import SpaceError, StoreError, UsageError

FilePath = str | os.PathLike[str]

DESCRIPTOR = re.compile(r"/(?:dev/fd|proc/self/fd)/(\d{1,9})")
NAMED_DESCRIPTORS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
READER_WAIT_S = 10.0
"""How long a FIFO may be without a reader."""
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
IN_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)
"""Why a file may be writable though nothing can be renamed onto it: its folder is another user's,
or the file alone is mounted into a container.
"""


def check_output(path: FilePath, what: str, *, make_folder: bool = False) -> Path:
    """Return where a file may be written.

    `what` leads errors: the flag, or the command. make_folder: whether write_output is to make the
    folder where it is missing.

    Raises UsageError for a folder and where the file's folder is missing, StoreError where nothing
    can be written.
    """
    file = _file_name(path, what)
    if _descriptor(file) is not None:
        return file
    with _named(file, what):
        mode = _mode(file)
        if mode is not None and stat.S_ISDIR(mode):
            raise UsageError(f"{what}: expected a file, found a folder: {file}")
        folder = _target(file).parent
        if make_folder:
            folder = _existing(folder)
        elif not folder.is_dir():
            raise UsageError(
                f"{what}: expected an existing folder, found none: {folder}; make it first"
            )
        if mode is not None and (not stat.S_ISREG(mode) or not os.access(folder, os.W_OK)):
            if not os.access(file, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        else:
            _try_to_write(folder)
    return file


def is_regular(path: FilePath) -> bool:
    """Return whether a regular file is or will be there: what is written into a device or a pipe
    may have any name.
    """
    file = Path(path)
    if _descriptor(file) is not None:
        return False
    try:
        return stat.S_ISREG(file.stat().st_mode)
    except (OSError, ValueError):
        return True


def check_folder(path: FilePath, what: str) -> Path:
    """Return where a folder of files may be written, which need not exist.

    Errors as check_output's.
    """
    folder = _file_name(path, what)
    with _named(folder, what):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{what}: expected a folder, found a file: {folder}")
        _try_to_write(_existing(_target(folder)))
    return folder


def write_output(
    path: FilePath, pieces: bytes | Iterable[bytes], what: str, *, make_folder: bool = False
) -> None:
    """Write a file: all pieces or, where it is a regular file, none.

    Raises SpaceError or StoreError.
    """
    target = _file_name(path, what)
    data = [pieces] if isinstance(pieces, bytes) else pieces
    with _named(target, what):
        number = _descriptor(target)
        mode = None if number is not None else _mode(target)
        if number is not None:
            if sys.stdout is not None:
                sys.stdout.flush()  # what was printed before comes before
            with os.fdopen(os.dup(number), "wb") as file:
                file.writelines(data)
        # A regular file is replaced as a whole, so that a reader never sees half of it.
        elif mode is None or stat.S_ISREG(mode):
            if make_folder:
                _target(target).parent.mkdir(parents=True, exist_ok=True)
            _replace(_target(target), data)
        else:
            with os.fdopen(_open_in_place(target), "wb") as file:
                file.writelines(data)


def _open_in_place(path: Path) -> int:
    """Return a descriptor to write into a device or a FIFO.

    Raises OSError where nothing reads a FIFO in READER_WAIT_S.
    """
    deadline = time.monotonic() + READER_WAIT_S
    while True:
        try:
            number = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() >= deadline:
                raise OSError(errno.ENXIO, "nothing reads this FIFO; start its reader") from None
            time.sleep(0.05)
        else:
            os.set_blocking(number, True)
            return number


@contextmanager
def output_folder(path: FilePath, what: str) -> Iterator[Path]:
    """A folder beside `path` to write into, which is renamed to it at the end; `path` is new, or an
    empty folder.

    Raises StoreError where it cannot be written; nothing is left behind then.
    """
    target = Path(os.path.realpath(path))
    aside = target.with_name(_aside())
    with _named(Path(path), what):
        try:
            aside.mkdir(parents=True)
            yield aside
            aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _replace(target: Path, pieces: Iterable[bytes]) -> None:
    """Write aside and rename; where the folder forbids it and the file is there, write into the
    file.
    """
    aside = target.with_name(_aside())
    data = list(pieces)
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.writelines(data)
            _keep_permissions(target, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    except OSError as error:
        if error.errno not in IN_PLACE or not os.access(target, os.W_OK):
            raise
        with target.open("wb") as file:
            file.writelines(data)
    finally:
        with suppress(OSError):
            aside.unlink()


def _keep_permissions(target: Path, file: BinaryIO) -> None:
    """Owner, as far as we may, and mode of the file that is replaced."""
    with suppress(FileNotFoundError):
        before = target.stat()
        with suppress(PermissionError):
            os.fchown(file.fileno(), before.st_uid, before.st_gid)
        os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))


def _try_to_write(folder: Path) -> None:
    """Make a file that has no name, or is removed at once: root's access says nothing of a
    read-only disk.
    """
    with tempfile.TemporaryFile(dir=folder):
        pass


def _file_name(path: FilePath, what: str) -> Path:
    """Return a path that the system can be asked about.

    Raises UsageError for a NUL, and for text that is no file's name.
    """
    try:
        is_name = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        is_name = False
    if not is_name:
        raise UsageError(f"{what}: expected the name of a file, found {os.fspath(path)!r}")
    return Path(path)


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return folder


def _descriptor(path: Path) -> int | None:
    """Return the open descriptor that a path of /dev stands for: opened anew, a file would be
    written from its start again.
    """
    text = os.path.normpath(path)
    match = DESCRIPTOR.fullmatch(text)
    return int(match[1]) if match else NAMED_DESCRIPTORS.get(text)


def _mode(path: Path) -> int | None:
    """Return the kind and permissions of what is there, links followed; None where nothing is."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _target(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _aside() -> str:
    return f".kvtool-{uuid.uuid4().hex[:12]}"


@contextmanager
def _named(path: Path, what: str) -> Iterator[None]:
    """OSErrors as errors of one line that name the path as it was given."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in NO_SPACE:
            raise SpaceError(
                f"{what}: {path} cannot be written: no space left on the disk ({reason}); free "
                "some, then run again"
            ) from error
        raise StoreError(f"{what}: {path} cannot be written: {reason}") from error

"""What a user gives a command to read: a file, a pipe, or standard input as "-"; bounded in size
and in waiting.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import time

FilePath = str | os.PathLike[str]

STANDARD_INPUT = "-"
WRITER_WAIT_S = 10.0
"""How long a FIFO may have no writer.

One that has a writer is read to its end, however slow that is.
"""
POLL_MS = 50


def read_input(source: FilePath, most_bytes: int) -> bytes:
    """Return the bytes of a regular file, of a pipe or FIFO, or of standard input for "-".

    Raises OSError where there is none of these, nobody writes into a FIFO, or there are more than
    `most_bytes`.
    """
    data = (
        _standard_input(most_bytes)
        if os.fspath(source) == STANDARD_INPUT
        else _file_bytes(source, most_bytes)
    )
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"more than the limit of {most_bytes} bytes", os.fspath(source))
    return data


def _file_bytes(source: FilePath, most_bytes: int) -> bytes:
    """Return those of a regular file or a pipe; more than `most_bytes` where there are more."""
    # Without O_NONBLOCK, opening a FIFO would wait for its writer for ever.
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if stat.S_ISFIFO(status.st_mode):
            return _await_writer(fd, source) + file.read(most_bytes + 1)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file or a pipe", os.fspath(source))
        return file.read(
            min(status.st_size, most_bytes) + 1
        )  # not more is allocated than the file has


def _standard_input(most_bytes: int) -> bytes:
    """Standard input, of which not more is read than tells that it is too long.

    Raises OSError where it is closed.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise OSError(errno.EBADF, "standard input is closed")
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:  # replaced by a text stream, as a caller from Python may do
        return sys.stdin.read(most_bytes + 1).encode("utf-8", "surrogateescape")
    data: bytes = stream.read(most_bytes + 1)
    return data


def _await_writer(fd: int, source: FilePath) -> bytes:
    """Return once a pipe has, or had, a writer, with what was read meanwhile; from then on reading
    waits for it.

    A pipe without a writer reads as empty, just as one whose writer has ended. The difference is
    that of the latter the system says that it was hung up; one with a writer that is silent so far
    says that reading would block. Raises OSError after the wait.
    """
    poll, first = select.poll(), b""
    poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + WRITER_WAIT_S
    while not poll.poll(POLL_MS):
        try:
            first = os.read(fd, 1)
        except BlockingIOError:
            break
        if first:
            break
        if time.monotonic() > deadline:
            raise OSError(
                errno.ETIMEDOUT,
                f"a FIFO into which nobody wrote for {WRITER_WAIT_S:g} s",
                os.fspath(source),
            )
    os.set_blocking(fd, True)
    return first

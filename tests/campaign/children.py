"""Work in a forked process, so that its end is the end of a writer: its claims and scratch folders
are a dead one's.
"""

from __future__ import annotations

import gc
import io
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from kvtool.errors import KvtoolError
from tests.support.patience import hang_s

Report = Callable[[Any], None]
DONE, REFUSED, BROKEN = 0, 1, 70


@dataclass(frozen=True)
class Outcome:
    """How a child ended (its exit code, or minus the signal), what it reported, and its last
    words.
    """

    code: int
    reports: list[Any]
    error: str

    @property
    def hung(self) -> bool:
        return self.code == -signal.SIGALRM


class Child:
    """A forked process that runs `work(report)`; what it reports can be read while it runs."""

    def __init__(self, work: Callable[[Report], object]) -> None:
        reading, writing = os.pipe()
        sys.stdout.flush()
        limit_s = hang_s()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            _run(work, writing, limit_s)
        os.close(writing)
        self._fd, self._data = reading, b""
        self._status: int | None = None

    def reports(self) -> list[Any]:
        """What it has reported so far."""
        os.set_blocking(self._fd, False)
        with suppress(BlockingIOError):
            while data := os.read(self._fd, 1 << 16):
                self._data += data
        return [value for kind, value in self._records() if kind == "report"]

    def stopped(self) -> bool:
        """Wait until it has stopped itself (SIGSTOP) or ended; whether it has stopped."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self._status = status
        return False

    def kill(self) -> Outcome:
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self) -> Outcome:
        """How it ended and everything that it reported; can be asked once."""
        os.set_blocking(self._fd, True)
        while data := os.read(self._fd, 1 << 16):
            self._data += data
        os.close(self._fd)
        if self._status is None:
            _, self._status = os.waitpid(self.pid, 0)
        records = self._records()
        error = "".join(value for kind, value in records if kind == "error")
        reports = [value for kind, value in records if kind == "report"]
        return Outcome(os.waitstatus_to_exitcode(self._status), reports, error)

    def _records(self) -> list[tuple[str, Any]]:
        """(kind, value) of what has come whole; it may have been killed in the midst of a
        record.
        """
        records, file = [], io.BytesIO(self._data)
        with suppress(EOFError, pickle.UnpicklingError):
            while True:
                records.append(pickle.load(file))
        return records


def run_child(work: Callable[[Report], object]) -> Outcome:
    return Child(work).wait()


def _run(work: Callable[[Report], object], fd: int, limit_s: float) -> NoReturn:
    """In the child: never returns.

    Nothing of the parent (pytest, its handlers, its buffers, its callbacks of the collector) runs
    here.
    """
    code = BROKEN
    try:
        gc.callbacks.clear()  # hypothesis' one would swallow the exception that SIGTERM raises
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        code = _code(work, fd)
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    except SystemExit as stop:  # SIGTERM came after the work had ended, or while an error was sent
        code = int(stop.code or 0)
    finally:
        os._exit(code)


def _code(work: Callable[[Report], object], fd: int) -> int:
    """The exit code of `work(report)`, whose error is sent, too."""
    write = os.write  # the original one, whatever `work` wraps
    try:
        work(lambda value: _send(write, fd, ("report", value)))
    except KvtoolError as error:
        _send(write, fd, ("error", str(error)))
        return REFUSED if "\n" not in str(error) else BROKEN
    except SystemExit:
        raise
    except BaseException:  # noqa: BLE001  the child must not go on as a second test run
        _send(write, fd, ("error", traceback.format_exc()))
        return BROKEN
    return DONE


def _send(write: Callable[[int, Any], int], fd: int, record: tuple[str, Any]) -> None:
    data = memoryview(pickle.dumps(record))
    while data:
        data = data[write(fd, data) :]

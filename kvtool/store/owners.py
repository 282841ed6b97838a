"""Who writes: processes told apart across containers, users and reboots, and the heartbeat of what
they hold.

A process is named by host, boot, namespaces, id and start time, and by a random token. Whether it
is dead can only be said by a process of the same boot and the same namespaces, where one id means
one process. For all others what it holds ends when its owner has not touched it for long, by the
clock of the file server.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kvtool.store.process import UNKNOWN, Process, describe_process, host_name, look_at

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["UNKNOWN", "Process", "host_name"]  # and what is defined here

HEARTBEAT_S = 30.0
WATCH_S = 4 * HEARTBEAT_S
_DEAD_STATES = ("Z", "X", "x")


def this_process() -> Process:
    """Return the running process; after a fork the child is another one."""
    return _pulse().process


def is_dead(process: Process) -> bool | None:
    """Return whether a process is gone; None where another boot or namespace would have to say."""
    ours = this_process()
    if process.token == ours.token:
        return False
    # Ids mean the same process only within one boot and one namespace.
    is_identified = UNKNOWN not in (ours.boot, ours.space)
    if not is_identified or (process.host, process.boot, process.space) != (
        ours.host,
        ours.boot,
        ours.space,
    ):
        return None
    # The kernel's answer to a signal holds even where /proc hides the processes of others.
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    except (OSError, OverflowError):
        return None
    # A process id is used again: then the start times differ.
    state, started = look_at(process.pid)
    reused = bool(started and process.started and started != process.started)
    return state in _DEAD_STATES or reused


@contextmanager
def beating(path: Path) -> Iterator[None]:
    """Touch a file or folder every HEARTBEAT_S meanwhile, so that others see that its owner is
    alive.
    """
    pulse = _pulse()
    pulse.add(path)
    try:
        yield
    finally:
        pulse.remove(path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder meanwhile, which the system ends with the process.

    No more than a sign of life: where the file system has no locks, as NFS for folders, others go
    by the heartbeat alone.
    """
    fd = None
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        _flock(fd, exclusive=True)
    try:
        yield
    finally:
        if fd is not None:
            with suppress(OSError):
                os.close(fd)


def is_locked(folder: Path) -> bool:
    """Return whether a process that this system can see holds the lock.

    False says nothing: it may be of another host.
    """
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            # A shared lock, which is refused only while the owner holds the exclusive one.
            _flock(fd, exclusive=False)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
    return False


def _flock(fd: int, exclusive: bool) -> None:
    """Raise BlockingIOError where another holds it, OSError where there are no locks."""
    if fcntl is not None:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)


class Watch:
    """Folders seen to be left alone, by a clock that nobody sets: a heartbeat changes the times of
    a folder that is in use, so one whose times stay as they are for WATCH_S on the monotonic clock
    of this process has no owner.
    """

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, float]] = {}
        self._looked_s = 0.0

    def is_idle(self, folder: Path) -> bool:
        """Return whether a folder was not touched since this process first saw it so, WATCH_S ago
        or longer.
        """
        self._looked_s = time.monotonic()
        try:
            touched_ns = folder.stat().st_mtime_ns
        except OSError:
            self._seen.pop(folder, None)
            return False
        # Any change of time restarts the watch, whatever clock set it.
        before_ns, since_s = self._seen.get(folder, (None, 0.0))
        if touched_ns != before_ns:
            self._seen[folder] = (touched_ns, self._looked_s)
            return False
        return self._looked_s - since_s >= WATCH_S

    def is_due(self) -> bool:
        """Return whether folders are watched and nobody looked at them for WATCH_S."""
        return bool(self._seen) and time.monotonic() - self._looked_s >= WATCH_S

    def is_watched(self, folder: Path) -> bool:
        """Return whether a folder is being watched."""
        return folder in self._seen

    def end(self, folder: Path) -> None:
        """Watch a folder no longer."""
        self._seen.pop(folder, None)


def server_now_s(folder: Path) -> float:
    """Return the clock of the file server, which also stamps what is touched.

    Raises OSError where it cannot be written.
    """
    with suppress(
        AttributeError, OSError
    ):  # a file without a name leaves nothing if this is killed
        number = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600)
        try:
            return os.fstat(number).st_mtime
        finally:
            os.close(number)
    # File systems without nameless files get one with a name that is litter to all readers.
    probe = folder / f".now-{secrets.token_hex(8)}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def untouched_s(path: Path) -> float | None:
    """Return the seconds since a file or folder was touched; None where it is gone, or where the
    clock cannot be read.
    """
    with suppress(OSError):
        return server_now_s(path.parent) - path.stat().st_mtime
    return None


class _Pulse:
    """The process as others see it, and one thread that touches all it holds."""

    def __init__(self) -> None:
        self.process = describe_process()
        self._paths: dict[Path, int] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, path: Path) -> None:
        """Touch a path from now on, as often as it was added."""
        with self._lock:
            # Several blocks may hold one path: it is touched until the last of them ends.
            self._paths[path] = self._paths.get(path, 0) + 1
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._beat, daemon=True, name="kvtool heartbeat"
                )
                self._thread.start()

    def remove(self, path: Path) -> None:
        """Take one addition of a path back."""
        with self._lock:
            self._paths[path] -= 1
            if not self._paths[path]:
                del self._paths[path]

    def _beat(self) -> None:
        while True:
            time.sleep(HEARTBEAT_S)
            with self._lock:
                paths = list(self._paths)
            # Paths are touched outside the lock, as a slow file server would hold up others.
            for path in paths:
                with suppress(OSError):
                    os.utime(path)


_pulses: dict[int, _Pulse] = {}
_pulses_lock = threading.Lock()


def _pulse() -> _Pulse:
    """Return the pulse of this process, not that of the one it was forked from."""
    # Keyed by process id: after a fork the heartbeat of the parent is none of the child's.
    pid = os.getpid()
    with _pulses_lock:
        if pid not in _pulses:
            _pulses.clear()
            _pulses[pid] = _Pulse()
        return _pulses[pid]


def _renew_lock() -> None:
    """A fork may copy the lock while another thread holds it."""
    global _pulses_lock
    _pulses_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)

"""Who writes: processes told apart across containers, users and reboots, and the heartbeat of what
they hold.

A process is named by host, boot, namespaces, id and start time, and by a random token. Whether it
is dead can only be said by a process of the same boot and the same namespaces, where one id means
one process. For all others what it holds ends when its owner has not touched it for long, by the
clock of the file server.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

HEARTBEAT_S = 30.0
WATCH_S = 4 * HEARTBEAT_S
UNKNOWN = "x"
"""Stands for a boot or a namespace that this system does not tell; it is equal to no other."""

_LINUX: bool = sys.platform.startswith("linux")
_TAG = re.compile(r"(.+)-(\d+)-(\d+)-([0-9a-f]{12}|x)-(\w+)-([0-9a-f]{8})")
_DEAD_STATES = ("Z", "X", "x")


@dataclass(frozen=True)
class Process:
    """A process that writes in a store.

    started: when it began, in units of this system, 0 where that is not known; an id used again has
        another.
    boot: 12 digits of the boot's id. space: the namespaces that give ids and start times their
        meaning.
    """

    host: str
    pid: int
    started: int
    boot: str
    space: str
    token: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def tag(self) -> str:
        """All of it as a part of a file name."""
        return f"{self.host}-{self.pid}-{self.started}-{self.boot}-{self.space}-{self.token}"

    @classmethod
    def from_tag(cls, tag: str) -> Process | None:
        """Inverse of tag; None where it is none."""
        match = _TAG.fullmatch(tag)
        if match is None or len(match[2]) > 10 or len(match[3]) > 20:
            return None
        host, pid, started, *names = match.groups()
        return cls(host, int(pid), int(started), *names)


def host_name() -> str:
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:64]


def this_process() -> Process:
    """The running process; after a fork the child is another one."""
    return _pulse().process


def is_dead(process: Process) -> bool | None:
    """Whether a process is gone; None where another boot or namespace would have to say."""
    ours = this_process()
    if process.token == ours.token:
        return False
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
    state, started = _look_at(process.pid)
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
    """Whether a process that this system can see holds the lock.

    False says nothing: it may be of another host.
    """
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            _flock(fd, exclusive=False)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
    return False


def _flock(fd: int, exclusive: bool) -> None:
    """Raises BlockingIOError where another holds it, OSError where there are no locks."""
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
        """Whether a folder was not touched since this process first saw it so, WATCH_S ago or
        longer.
        """
        self._looked_s = time.monotonic()
        try:
            touched_ns = folder.stat().st_mtime_ns
        except OSError:
            self._seen.pop(folder, None)
            return False
        before_ns, since_s = self._seen.get(folder, (None, 0.0))
        if touched_ns != before_ns:
            self._seen[folder] = (touched_ns, self._looked_s)
            return False
        return self._looked_s - since_s >= WATCH_S

    def is_due(self) -> bool:
        """Whether folders are watched and nobody looked at them for WATCH_S."""
        return bool(self._seen) and time.monotonic() - self._looked_s >= WATCH_S

    def is_watched(self, folder: Path) -> bool:
        return folder in self._seen

    def end(self, folder: Path) -> None:
        """Watch a folder no longer."""
        self._seen.pop(folder, None)


def server_now_s(folder: Path) -> float:
    """The clock of the file server, which also stamps what is touched.

    Raises OSError where it cannot be written.
    """
    probe = folder / f".now-{secrets.token_hex(8)}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def untouched_s(path: Path) -> float | None:
    """Seconds since a file or folder was touched; None where it is gone, or where the clock cannot
    be read.
    """
    with suppress(OSError):
        return server_now_s(path.parent) - path.stat().st_mtime
    return None


class _Pulse:
    """The process as others see it, and one thread that touches all it holds."""

    def __init__(self) -> None:
        self.process = _describe()
        self._paths: dict[Path, int] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, path: Path) -> None:
        with self._lock:
            self._paths[path] = self._paths.get(path, 0) + 1
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._beat, daemon=True, name="kvtool heartbeat"
                )
                self._thread.start()

    def remove(self, path: Path) -> None:
        with self._lock:
            self._paths[path] -= 1
            if not self._paths[path]:
                del self._paths[path]

    def _beat(self) -> None:
        while True:
            time.sleep(HEARTBEAT_S)
            with self._lock:
                paths = list(self._paths)
            for path in paths:
                with suppress(OSError):
                    os.utime(path)


_pulses: dict[int, _Pulse] = {}
_pulses_lock = threading.Lock()


def _pulse() -> _Pulse:
    """The pulse of this process, not that of the one it was forked from."""
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


def _describe() -> Process:
    pid = os.getpid()
    _, started = _look_at(pid)
    return Process(host_name(), pid, started, _boot(), _space(), secrets.token_hex(4))


def _boot() -> str:
    """12 hex digits that change with each boot."""
    with suppress(OSError):
        text = Path("/proc/sys/kernel/random/boot_id").read_text()
        return re.sub(r"[^0-9a-f]", "", text.lower())[:12].ljust(12, "0")
    if _LINUX:
        return UNKNOWN
    with suppress(OSError, psutil.Error):
        return f"{int(psutil.boot_time()):012x}"[-12:]
    return UNKNOWN


def _space() -> str:
    """The namespaces of process ids and of clocks; systems without them have one of each."""
    if not _LINUX:
        return "0"
    inodes = []
    for kind in ("pid", "time"):
        link = Path(f"/proc/self/ns/{kind}")
        if kind == "time" and not link.is_symlink():  # kernels before 5.6 have one clock
            continue
        try:
            inodes.append("".join(filter(str.isdigit, os.readlink(link))))  # noqa: PTH115  a magic link, no path
        except OSError:
            return UNKNOWN
    return "_".join(inodes) or UNKNOWN


def _look_at(pid: int) -> tuple[str, int]:
    """State and start time of a process; empty and 0 where they cannot be seen."""
    if _LINUX:
        return _look_in_proc(pid)
    try:
        process = psutil.Process(pid)
        return ("Z" if process.status() == psutil.STATUS_ZOMBIE else ""), int(process.create_time())
    except psutil.Error:
        return "", 0


def _look_in_proc(pid: int) -> tuple[str, int]:
    """As _look_at. A /proc that was mounted for other namespaces gives nothing: its ids are not
    ours.
    """
    try:
        if os.readlink("/proc/self") != str(os.getpid()):  # noqa: PTH115  a magic link, no path
            return "", 0
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, ValueError, IndexError):
        return "", 0

"""A process as its files name it: told apart across containers, users and reboots."""

from __future__ import annotations

import os
import re
import secrets
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

UNKNOWN = "x"
"""Stands for a boot or a namespace that this system does not tell; it is equal to no other."""

_LINUX: bool = sys.platform.startswith("linux")
_TAG = re.compile(r"(.+)-(\d+)-(\d+)-([0-9a-f]{12}|x)-(\w+)-([0-9a-f]{8})")


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
        """Return what errors call the process."""
        return f"process {self.pid} on {self.host}"

    @property
    def tag(self) -> str:
        """All of it as a part of a file name."""
        return f"{self.host}-{self.pid}-{self.started}-{self.boot}-{self.space}-{self.token}"

    @classmethod
    def from_tag(cls, tag: str) -> Process | None:
        """Return the inverse of tag; None where it is none."""
        match = _TAG.fullmatch(tag)
        # Longer numbers can be no id and no start time.
        if match is None or len(match[2]) > 10 or len(match[3]) > 20:
            return None
        host, pid, started, *names = match.groups()
        return cls(host, int(pid), int(started), *names)


def host_name() -> str:
    """Return the name of this machine, as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())[:64]


def describe_process() -> Process:
    """Describe the running process, with a new token."""
    pid = os.getpid()
    _, started = look_at(pid)
    return Process(host_name(), pid, started, _boot(), _space(), secrets.token_hex(4))


def _boot() -> str:
    """Return 12 hex digits that change with each boot."""
    with suppress(OSError):
        text = Path("/proc/sys/kernel/random/boot_id").read_text()
        # Twelve digits of the boot's id keep file names short.
        return re.sub(r"[^0-9a-f]", "", text.lower())[:12].ljust(12, "0")
    if _LINUX:
        return UNKNOWN
    with suppress(OSError, psutil.Error):
        return f"{int(psutil.boot_time()):012x}"[-12:]
    return UNKNOWN


def _space() -> str:
    """Return the namespaces of process ids and of clocks; systems without them have one of each."""
    if not _LINUX:
        return "0"
    inodes = []
    for kind in ("pid", "time"):
        link = Path(f"/proc/self/ns/{kind}")
        if kind == "time" and not link.is_symlink():  # kernels before 5.6 have one clock
            continue
        try:
            target = os.readlink(link)  # noqa: PTH115  a magic link, no path
            inodes.append("".join(filter(str.isdigit, target)))
        except OSError:
            return UNKNOWN
    return "_".join(inodes) or UNKNOWN


def look_at(pid: int) -> tuple[str, int]:
    """State and start time of a process; empty and 0 where they cannot be seen."""
    if _LINUX:
        return _look_in_proc(pid)
    try:
        process = psutil.Process(pid)
        return ("Z" if process.status() == psutil.STATUS_ZOMBIE else ""), int(process.create_time())
    except psutil.Error:
        return "", 0


def _look_in_proc(pid: int) -> tuple[str, int]:
    """As look_at. A /proc that was mounted for other namespaces gives nothing: its ids are not
    ours.
    """
    try:
        # The process must be the one that it says, or /proc belongs to other namespaces.
        if os.readlink("/proc/self") != str(os.getpid()):  # noqa: PTH115  a magic link, no path
            return "", 0
        # A program's name may hold blanks and brackets: fields are counted behind the last one.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, ValueError, IndexError):
        return "", 0

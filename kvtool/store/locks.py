"""Claims: who works on which part. A claim is a file that names its owner and that only one can make; no flock, so NFS
does. It is written aside and hard-linked to its name, hence never seen half written; where a file system has no hard
links, it is made with O_EXCL.

A claim only saves double work: commits are safe without it (writer.commit_folder lets one of two win). It ends when
its owner deletes it, when its owner is a dead process of this host, or, on another host, when the owner has not
touched the file for EXPIRY_S; a thread touches it every HEARTBEAT_S.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from kvtool.errors import BusyError
from kvtool.store.files import host_name, os_errors, process_alive, scratch_folder, write_file

HEARTBEAT_S = 30.0
EXPIRY_S = 600.0
POLL_S = 1.0
SUFFIX = ".claim"
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class Owner:
    """Who made a claim, and when (seconds since the epoch, the owner's clock)."""

    host: str
    pid: int
    since_s: float
    token: str

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since_s))
        return f"process {self.pid} on {self.host} since {since}"


@contextmanager
def claim(store: Path, path: Path, what: str, wait_s: float = 0.0) -> Iterator[Owner]:
    """Hold the claim at `path`. Raises BusyError, naming the owner, where another still holds it after wait_s."""
    mine = Owner(host_name(), os.getpid(), time.time(), uuid.uuid4().hex)
    deadline = time.monotonic() + wait_s
    with os_errors(f"{what}: cannot be claimed"):
        while not _create(store, path, mine):
            if _drop_if_stale(path):
                continue
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                owner = read_owner(path)
                raise BusyError(
                    f"{what} is held by {owner or 'an unknown process'}: wait for it, or use --wait SECONDS"
                )
            time.sleep(min(POLL_S, left_s))
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, ended), daemon=True, name=f"claim {path.stem}")
    heart.start()
    try:
        yield mine
    finally:
        ended.set()
        heart.join()
        if read_owner(path) == mine:
            path.unlink(missing_ok=True)


def read_owner(path: Path) -> Owner | None:
    """The owner of a claim; None where there is no claim, or its maker has not yet written its name."""
    try:
        return Owner(**json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def is_stale(path: Path) -> bool:
    """Whether a claim's owner is gone: known at once on its own host, after EXPIRY_S without a touch elsewhere."""
    owner = read_owner(path)
    if owner is not None and owner.host == host_name():
        return not process_alive(owner.pid, owner.since_s)
    try:
        return _server_now_s(path.parent) - path.stat().st_mtime > EXPIRY_S
    except FileNotFoundError:
        return False


def live_claims(folder: Path) -> list[Owner | None]:
    """Owners of the claims in a folder that are not stale (None: owner unknown)."""
    return [read_owner(path) for path in sorted(folder.glob(f"*{SUFFIX}")) if not is_stale(path)]


def sweep(folder: Path) -> None:
    """Delete the stale claims of a folder."""
    for path in folder.glob(f"*{SUFFIX}"):
        _drop_if_stale(path)


def _create(store: Path, path: Path, owner: Owner) -> bool:
    if path.exists():
        return False
    data = json.dumps(asdict(owner)).encode()
    with scratch_folder(store) as tmp:
        write_file(tmp / path.name, data)
        try:
            os.link(tmp / path.name, path)
        except FileExistsError:
            return read_owner(path) == owner  # over NFS a link that was made may be reported as taken
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            return True
    try:
        write_file(path, data)
    except FileExistsError:
        return False
    except OSError:
        path.unlink()
        raise
    return True


def _drop_if_stale(path: Path) -> bool:
    """Remove a stale claim. True: try again now.

    It is renamed before it is deleted, so that two who find the same stale claim do not delete each other's new one.
    """
    seen = read_owner(path)
    if not is_stale(path):
        return False
    grave = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        path.rename(grave)
    except FileNotFoundError:
        return True
    if read_owner(grave) != seen:  # someone was quicker, and this is the new claim: give it back
        with suppress(FileExistsError):
            os.link(grave, path)
    grave.unlink()
    return True


def _server_now_s(folder: Path) -> float:
    """The file server's clock, which also stamps the claims."""
    probe = folder / f".now-{uuid.uuid4().hex}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT_S):
        with suppress(OSError):
            os.utime(path)

"""Claims: who works on which part.

A claim is a file that names its owner and that only one can make; no flock, so NFS does. It is
written aside and hard-linked to its name, hence never seen half written; where a file system has no
hard links, it is made with O_EXCL.

A claim only saves double work: commits are safe without it (writer.commit_folder lets one of two
win). It ends when its owner deletes it, or when its owner is dead; where that cannot be said, as
across hosts and containers, when the owner has not touched the file for EXPIRY_S. See owners.py.
"""

from __future__ import annotations

import errno
import json
import os
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from kvtool.errors import BusyError
from kvtool.store import layout
from kvtool.store.durable import read_file
from kvtool.store.files import os_errors, scratch_folder, write_file
from kvtool.store.mirrors import mirror_of
from kvtool.store.owners import Process, beating, is_dead, this_process, untouched_s

EXPIRY_S = 600.0
POLL_S = 1.0
SUFFIX = ".claim"
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True)
class Owner:
    """Who made a claim, and when (seconds since the epoch, the owner's clock)."""

    process: Process
    since_s: float
    token: str

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since_s))
        return f"{self.process} since {since}"


@contextmanager
def claim(store: Path, path: Path, what: str, wait_s: float = 0.0) -> Iterator[Owner]:
    """Hold the claim at `path`.

    Raises BusyError, naming the owner, where another still holds it after wait_s.
    """
    if (mirror := mirror_of(store)) is not None:
        with mirror.lease(path, what, wait_s) as owner:
            yield owner
        return
    # A token makes each claim unlike all others, also of the same process in the same second.
    mine = Owner(this_process(), time.time(), uuid.uuid4().hex)
    deadline = time.monotonic() + wait_s
    with os_errors(f"{what}: cannot be claimed"):
        while not _create(store, path, mine):
            # The claim of a dead process is taken over without waiting.
            if _drop_if_stale(store, path):
                continue
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise BusyError(held(what, read_owner(path)))
            time.sleep(min(POLL_S, left_s))
    try:
        with beating(path):
            yield mine
    finally:
        with suppress(
            OSError
        ):  # never over the error of the work; left behind, it is stale once this process ends
            # Another may have taken it over as stale: only the own claim is removed.
            if read_owner(path) == mine:
                path.unlink(missing_ok=True)


def held(what: str, owner: Owner | None) -> str:
    """Return that something is held, by whom, and what to do."""
    return f"{what} is held by {owner or 'an unknown process'}: wait for it, or use --wait SECONDS"


def read_owner(path: Path) -> Owner | None:
    """Return the owner of a claim; None where there is no claim, or its maker has not yet written
    its name.
    """
    try:
        return parse_owner(read_file(path))
    except OSError:
        return None


def parse_owner(data: bytes) -> Owner | None:
    """Return the owner that the bytes of a claim name; None where they name none."""
    try:
        record = json.loads(data)
        owner = Owner(Process(**record["process"]), float(record["since_s"]), record["token"])
        # A date that no calendar holds could not be told later: such a claim names no one.
        time.localtime(owner.since_s)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    # The tag is built from the process: one that does not lead back to it is damaged.
    return owner if Process.from_tag(owner.process.tag) == owner.process else None


def is_stale(path: Path) -> bool:
    """Return whether a claim's owner is gone: known at once where one can see it, after EXPIRY_S
    without a touch elsewhere.
    """
    owner = read_owner(path)
    # What the system says of the process counts at once; else the heartbeat decides.
    dead = None if owner is None else is_dead(owner.process)
    if dead is not None:
        return dead
    idle_s = untouched_s(path)
    return idle_s is not None and idle_s > EXPIRY_S


def is_held(path: Path) -> bool:
    """Return whether someone who is alive holds a claim now."""
    if mirror_of(path) is not None:
        return path.stem in live_claims(path.parent)
    return path.exists() and not is_stale(path)


def live_claims(folder: Path) -> dict[str, Owner | None]:
    """Return the owners of the claims in a folder that are not stale, by what they claim (None:
    owner unknown).
    """
    if (mirror := mirror_of(folder)) is not None:
        return mirror.leases(folder)
    claims = (path for path in layout.entries(folder) if path.suffix == SUFFIX)
    return {path.stem: read_owner(path) for path in claims if not is_stale(path)}


def release(folder: Path, processes: Collection[str]) -> None:
    """Remove the claims in a run's folder of locks whose owners are among processes, by their tags,
    that are known to be gone, though this system cannot see it.
    """
    if mirror_of(folder) is not None:  # a lease lapses by itself
        return
    for path in layout.entries(folder):
        owner = read_owner(path) if path.suffix == SUFFIX else None
        # Under a claim of the name there may be another owner by now: only the lost ones go.
        if owner is not None and owner.process.tag in processes:
            with suppress(OSError):  # another is about to take it over
                _drop(folder.parents[2], path, owner)


def sweep(folder: Path) -> None:
    """Delete the stale claims of a run's folder of locks, where it can be written, and what those
    left that dropped one with an earlier kvtool.
    """
    if mirror_of(folder) is not None:  # a lease that has lapsed is taken over by whoever needs it
        return
    paths: list[Path] = []
    with suppress(OSError):  # a folder that cannot be listed is not swept this time
        paths = layout.entries(folder)
    for path in paths:
        with suppress(OSError):
            if path.suffix == SUFFIX:
                _drop_if_stale(folder.parents[2], path)
            elif f"{SUFFIX}." in path.name and (untouched_s(path) or 0) > EXPIRY_S:
                path.unlink(missing_ok=True)


def _create(store: Path, path: Path, owner: Owner) -> bool:
    if path.exists():
        return False
    # Written aside and linked, the claim is never seen half written.
    data = json.dumps(asdict(owner)).encode()
    with scratch_folder(store) as tmp:
        write_file(tmp / path.name, data)
        try:
            os.link(tmp / path.name, path)
        except FileExistsError:
            return (
                read_owner(path) == owner
            )  # over NFS a link that was made may be reported as taken
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            return True
    # Without hard links, O_EXCL decides who makes the file.
    try:
        write_file(path, data)
    except FileExistsError:
        return False
    except OSError:
        path.unlink()
        raise
    return True


def _drop_if_stale(store: Path, path: Path) -> bool:
    """Remove a stale claim. True: try again now."""
    # The owner is read before the claim is judged, so that a newer one is not dropped in its place.
    seen = read_owner(path)
    if not is_stale(path):
        return False
    _drop(store, path, seen)
    return True


def _drop(store: Path, path: Path, seen: Owner | None) -> None:
    """Remove the claim of the owner that was seen, and no other.

    It is renamed before it is deleted, so that two who find the same stale claim do not delete each
    other's new one; into a scratch folder, which others sweep if this process is killed meanwhile.
    """
    with scratch_folder(store) as tmp:
        grave = tmp / path.name
        try:
            path.rename(grave)
        except FileNotFoundError:
            return
        if (
            read_owner(grave) != seen
        ):  # someone was quicker, and this is the new claim: give it back
            with suppress(
                OSError
            ):  # a still newer one, or no hard links: a claim is lost, no image
                os.link(grave, path)

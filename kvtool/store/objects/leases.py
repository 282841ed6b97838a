"""Claims on an object store: a lease in an object that names its owner and the time.

It is made by a PUT on the condition that there is none, touched every HEARTBEAT_S by a PUT on the
condition that it is still its owner's, and taken over by one on the condition that nobody touched
it meanwhile. Who holds it and when it has lapsed is told as for claims in folders, by the clock of
the service; see kvtool.store.locks.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import PurePosixPath

from kvtool.errors import BusyError, StoreError
from kvtool.store import locks, owners
from kvtool.store.locks import Owner
from kvtool.store.objects.bucket import Bucket, ObjectEntry, Version
from kvtool.store.owners import is_dead, this_process

_REQUESTS = 8


@contextmanager
def lease(bucket: Bucket, key: str, what: str, wait_s: float) -> Iterator[Owner]:
    """Hold the claim `key`. Raises BusyError, naming the owner, where another holds it."""
    owner = Owner(this_process(), time.time(), uuid.uuid4().hex)
    deadline = time.monotonic() + wait_s
    while (version := _take(bucket, key, owner)) is None:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise BusyError(locks.held(what, _owner(bucket.get(key))))
        time.sleep(min(locks.POLL_S, left_s))
    beat = _Beat(bucket, key, owner, version)
    try:
        yield owner
    finally:
        with suppress(StoreError):  # never over the error of the work; left behind, it lapses
            beat.end()


def live_leases(bucket: Bucket, folder: str) -> dict[str, Owner | None]:
    """Return the owners of the claims below a key that have not lapsed, by what they claim."""
    keys = [entry.key for entry in bucket.list(folder) if entry.key.endswith(locks.SUFFIX)]
    if not keys:
        return {}
    with ThreadPoolExecutor(_REQUESTS) as pool:
        fetched = list(pool.map(bucket.fetch, keys))
    owners_by_name = {}
    for key, lease_read in zip(keys, fetched, strict=True):
        if lease_read is not None and not _has_lapsed(bucket, *lease_read):
            owners_by_name[PurePosixPath(key).stem] = _owner(lease_read[0])
    return owners_by_name


class _Beat:
    """The heartbeat of a lease, and its end."""

    def __init__(self, bucket: Bucket, key: str, owner: Owner, version: Version) -> None:
        self._bucket, self._key, self._owner, self._version = bucket, key, owner, version
        self._touched_s = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="kvtool lease")
        self._thread.start()

    def _run(self) -> None:
        count = 0
        while not self._ended.wait(owners.HEARTBEAT_S):
            count += 1
            # A service that does not answer for a moment costs the lease nothing.
            with suppress(StoreError):
                data = _lease_json(self._owner, count)
                version = self._bucket.swap(self._key, data, self._version)
                if version is None:
                    version = _version_of_owner(self._bucket, self._key, self._owner)
                if version is None:  # it lapsed, and another took it: the commit decides
                    return
                self._version, self._touched_s = version, time.monotonic()

    def end(self) -> None:
        """Give the lease back: it is deleted where it is surely still its owner's.

        A DELETE has no condition, but nobody takes a lease over before it has lapsed.
        """
        self._ended.set()
        self._thread.join()
        # A lease that was silent for long may be another's by now: it is left to lapse.
        is_recent = time.monotonic() - self._touched_s < locks.EXPIRY_S / 2
        if is_recent and _owner(self._bucket.get(self._key)) == self._owner:
            self._bucket.delete([self._key])


def _take(bucket: Bucket, key: str, owner: Owner) -> Version | None:
    """Make the lease, or take over one that has lapsed; None where another holds it."""
    data = _lease_json(owner, 0)
    version = bucket.create(key, data)
    if version is not None:
        return version
    lease_read = bucket.fetch(key)
    if lease_read is None:  # given back in this moment
        version = bucket.create(key, data)
    elif _owner(lease_read[0]) == owner:  # made, and the answer was lost
        return lease_read[1].version
    elif _has_lapsed(bucket, *lease_read):
        version = bucket.swap(key, data, lease_read[1].version)
    else:
        return None
    return version or _version_of_owner(bucket, key, owner)


def _version_of_owner(bucket: Bucket, key: str, owner: Owner) -> Version | None:
    """Return the version of a lease that still names its owner; None of another's, and of none.

    A PUT whose answer was lost has changed the version, so that the next one, or the same as it is
    sent again, meets its own lease and seems to be too late.
    """
    lease_read = bucket.fetch(key)
    if lease_read is None or _owner(lease_read[0]) != owner:
        return None
    return lease_read[1].version


def _has_lapsed(bucket: Bucket, data: bytes, entry: ObjectEntry) -> bool:
    """Return whether a lease's owner is dead, or has not touched it for EXPIRY_S."""
    owner = _owner(data)
    # A process of this machine is judged at once, any other by the time of its last touch.
    dead = None if owner is None else is_dead(owner.process)
    if dead is not None:
        return dead
    return _now_s(bucket) - entry.modified_s > locks.EXPIRY_S


def _now_s(bucket: Bucket) -> float:
    """Return the clock of the service, which also stamps what is touched."""
    key = f"tmp/.now-{this_process().token}"
    bucket.put(key, b"")
    fetched = bucket.fetch(key)
    bucket.delete([key])
    return fetched[1].modified_s if fetched else 0.0


def _lease_json(owner: Owner, beat: int) -> bytes:
    """Return the bytes of a lease; each beat has others, since a service may tell versions apart
    by them.
    """
    return json.dumps({**asdict(owner), "beat": beat}).encode()


def _owner(data: bytes | None) -> Owner | None:
    return None if data is None else locks.parse_owner(data)

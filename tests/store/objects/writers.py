"""Writers of a store on an object store, each a process of its own, that end or are killed."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from kvtool.errors import BusyError
from kvtool.store import open_store, part_name
from kvtool.store.objects.bucket import Bucket
from tests.support.runs import commit, config, create_run, sample

N_PARTS, PART_SIZE = 12, 2
CONFIG = config(kinds=("key", "value"), part_size=PART_SIZE)
IMAGES = [sample(index, n_tokens=20) for index in range(N_PARTS * PART_SIZE)]


def work(address: str) -> list[str]:
    """Commit each part that nobody has committed or holds; return the names of those."""
    run = create_run(open_store(address, create=True), CONFIG)
    run.enroll([image.id for image in IMAGES], None)
    names = []
    for start in range(0, len(IMAGES), PART_SIZE):
        name = part_name(start, start + PART_SIZE)
        try:
            with run.claim(name):
                is_new = start not in run.covered_indices()
                if is_new and commit(run, IMAGES[start : start + PART_SIZE], name):
                    names.append(name)
        except BusyError:
            continue
    return names


def die(*_: Any) -> None:
    """End this process as nothing can be ended more suddenly."""
    os.kill(os.getpid(), signal.SIGKILL)


def work_until(address: str, moment: str) -> None:
    """Work, and be killed at a moment of the third part: see MOMENTS."""
    create, put = Bucket.create, Bucket.put
    counts = {"objects": 0, "commits": 0}

    def put_or_die(self: Bucket, key: str, data: Any) -> None:
        if "/parts/" in key and counts["commits"] == 2:
            counts["objects"] += 1
            # The tenth of eleven: eight are put at once, so two are there by now.
            if moment == "upload" and counts["objects"] == 10:
                die()
        put(self, key, data)

    def create_or_die(self: Bucket, key: str, data: bytes) -> Any:
        is_part = key.startswith("commits/") and "/parts/" in key
        counts["commits"] += is_part
        if moment == "before commit" and counts["commits"] == 3:
            die()
        version = create(self, key, data)
        if moment == "after commit" and counts["commits"] == 3:
            die()
        return version

    Bucket.put, Bucket.create = put_or_die, create_or_die  # type: ignore[method-assign]
    work(address)


MOMENTS = ("upload", "before commit", "after commit")

if __name__ == "__main__":
    if len(sys.argv) > 2:
        work_until(*sys.argv[1:])
    else:
        print(*work(sys.argv[1]))

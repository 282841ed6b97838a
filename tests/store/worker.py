"""A worker of the crash tests, apart from them so that its process starts quickly."""

from __future__ import annotations

from kvtool.errors import BusyError
from kvtool.store import open_store, part_name
from tests.support.runs import commit, config, create_run, sample

N_PARTS, PART_SIZE = 60, 4
CONFIG = config(kinds=("value",))
IMAGES = [sample(index, n_tokens=60) for index in range(N_PARTS * PART_SIZE)]


def work(path: str) -> None:
    """What a worker does: for each part, see that nobody did it, claim it, write it."""
    run = create_run(open_store(path, create=True), CONFIG)
    for start in range(0, len(IMAGES), PART_SIZE):
        name = part_name(start, start + PART_SIZE)
        if start in run.covered_indices():
            continue
        try:
            with run.claim(name):
                commit(run, IMAGES[start : start + PART_SIZE], name)
        except BusyError:
            continue


def work_to_the_end(path: str) -> None:
    """Work, sweeping all the time, until every image is there."""
    store = open_store(path, create=True)
    while create_run(store, CONFIG).covered_indices() != set(range(len(IMAGES))):
        store.sweep_tmp()
        work(path)

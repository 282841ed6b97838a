"""What a picture costs in opening, resuming and reading a store, as it grows: pictures of tiny
parts, in a folder, and on an object store (SeaweedFS, where it is installed).

`python -m tests.bench.bench_store_scale [SIZE ...]`; 10,000 pictures take a quarter of an hour to
write on an object store, and are measured where they are asked for. A row's ratio is the cost of a
picture of the largest store over that of the one before it; flat is 1, and 1.2 the bound. Each
part holds one picture of 16 tokens, so 10,000 pictures are as many parts as 320,000 pictures are of
a real run.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from kvtool.store import Run, mirrors, open_store
from tests.bench.rows import Row, row
from tests.support.object_server import BUCKET, object_server, server_program
from tests.support.runs import commit, config, create_run, sample

SIZES = (100, 1000)
REPEATS = 3
FLAT = 1.2


def bench(folder: Path | None = None, sizes: tuple[int, ...] = SIZES) -> list[Row]:
    """All rows. The files go into a temporary folder in `folder`."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-scale-") as path, ExitStack() as end:
        os.environ["KVTOOL_CACHE"] = f"{path}/cache"
        rows = _rows("folder", lambda size: f"{path}/{size}.kv", sizes)
        if server_program() is not None:
            os.environ |= end.enter_context(object_server(Path(path) / "server"))
            rows += _rows("object store", lambda size: f"s3://{BUCKET}/{size}.kv", sizes)
        return rows


def _rows(kind: str, address: Callable[[int], str], sizes: tuple[int, ...]) -> list[Row]:
    """Measure stores of each size; print a line of each, and return the rows of the largest."""
    costs = {size: _costs(address(size), size) for size in sizes}
    for size, by_step in costs.items():
        figures = ", ".join(f"{step} {1e6 * cost:.0f}" for step, cost in by_step.items())
        print(f"{kind}, {size} pictures, microseconds a picture: {figures}", flush=True)
    base, largest = sizes[-2], sizes[-1]
    return [
        row(
            f"store, {kind}: {step} a picture, {largest} / {base} pictures",
            "us",
            1e6 * costs[largest][step],
            1e6 * costs[base][step],
            FLAT,
            "lower",
        )
        for step in costs[largest]
    ]


def _costs(address: str, size: int) -> dict[str, float]:
    """Return the seconds a picture of each step, the best of several tries."""
    images = [sample(index, n_tokens=16) for index in range(size)]
    run = create_run(open_store(address, create=True), config(kinds=("value",), layers=(1,)))
    run.enroll([image.id for image in images], None)
    started = time.perf_counter()
    for image in images:
        commit(run, [image])
    writing_s = time.perf_counter() - started
    if (mirror := mirrors.mirror_of(run.store)) is not None:
        shutil.rmtree(run.store.parent)  # as on a machine that has not seen the store
        mirrors._mirrors.pop(run.store)
        first_s = _timed(lambda: open_store(address))
        assert mirror.address == address
    opened = open_store(address).run()
    assert len(opened) == size
    steps: dict[str, Callable[[], object]] = {
        "opening": lambda: open_store(address).run().ids,
        "resuming": lambda: _resume(open_store(address).run()),
        "reading": lambda: opened.read("value", 1, 0),
    }
    best = {step: min(_timed(act) for _ in range(REPEATS)) / size for step, act in steps.items()}
    first = {} if mirror is None else {"opening for the first time": first_s / size}
    return {"writing": writing_s / size, **first, **best}


def _resume(run: Run) -> int:
    """What an extraction does before it goes on: which images are there, and their files."""
    run.check_files()
    return len(run.covered_indices())


def _timed(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


if __name__ == "__main__":
    chosen_sizes = tuple(map(int, sys.argv[1:])) or SIZES
    for entry in bench(sizes=chosen_sizes):
        print(f"{entry['name']}: {entry['ratio']:.2f} (bound {entry['target']})")

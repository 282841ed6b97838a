"""How long the report page takes, and its size: 28 x 4 blocks, six tasks, three models, 20
categories each.

`python -m tests.bench.bench_report` prints the rows; bench() returns them. The results are made up;
a small real store over pairs of SPair-71k's layout gives the pictures of one more probe.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import kvtool
from kvtool.store import open_store
from tests.bench.rows import Row, row
from tests.support import studies
from tests.support.tasks import semantic_correspondence as spair

LAYERS, HEADS = 28, 4
CATEGORIES = tuple(f"category {number}" for number in range(20))
MODELS = ("one", "two", "three")
MOST_S, MOST_MB = 20.0, 15.0


def bench() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="bench-report-") as folder:
        return _bench(Path(folder))


def _bench(folder: Path) -> list[Row]:
    run = spair.make_run(folder, "s.kv", kinds=("key", "value", "projected", "vision"))
    kvtool.probe(run, spair.TASK)
    store = open_store(run.store)
    for model in MODELS:
        for task in studies.METRICS:
            result = studies.probe_result(task, LAYERS, HEADS, CATEGORIES, model)
            store.save_result(f"{model}-{task}", result.to_json())
    store.save_result("variance", studies.variance_result().to_json())
    started = time.perf_counter()
    page = kvtool.report(store, folder / "page.html")
    seconds = time.perf_counter() - started
    assert page.n_results == len(MODELS) * len(studies.METRICS) + 2
    assert page.n_pictures > 0
    name = f"report: {LAYERS * HEADS} blocks, {len(studies.METRICS)} tasks, {len(MODELS)} models"
    return [
        row(f"{name} / {MOST_S:.0f} s", "s", seconds, MOST_S, 1.0, "lower"),
        row(f"{name}, size / {MOST_MB:.0f} MB", "MB", page.n_bytes / 1e6, MOST_MB, 1.0, "lower"),
    ]


if __name__ == "__main__":
    sys.stdout.writelines(f"{row}\n" for row in bench())

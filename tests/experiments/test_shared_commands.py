"""paired, correlate, prefix and variance in two processes at once over the same stores, and in one
call with two workers: nothing is asked, probed or measured twice, and all give what one process
alone gives.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import kvtool
from kvtool.datasets.cvbench import CvBench
from kvtool.store.verify import verify
from tests.experiments.workers import Worker, counts
from tests.support.correlations import answered, right_for, segmented, write_cvbench
from tests.support.keys import planted
from tests.support.scenes import World
from tests.support.tasks.language import imagenet

pytestmark = pytest.mark.slow

Command = Callable[[Path], tuple[object, ...]]
"""The arguments of a command over a folder of stores."""
CLAIMED = "held by others: "


def extracted(folder: Path, model: Path, name: str, data: Path, limit: int | None = None) -> Path:
    """A folder with the store s.kv over some of the embedded world."""
    dataset = f"{name}:{data}"
    (folder / "stores").mkdir()
    kvtool.extract(folder / "stores/s.kv", model=str(model), dataset=dataset, limit=limit)
    return folder / "stores"


def two_share(stores: Path, what: str, command: Command, n_done_by_second: int) -> None:
    """One process stops in its first piece of work while another one does all others.

    n_done_by_second: how many those are.
    """
    lone = Path(shutil.copytree(stores, stores.parent / "lone"))
    by_crew = Path(shutil.copytree(stores, stores.parent / "crew"))
    log, lone_log = stores.parent / "log", stores.parent / "lone-log"
    code, rows, _ = Worker(lone_log, what, *command(lone)).end()
    assert code == 0
    assert rows
    first = Worker(log, what, *command(stores), stop_at=1).holding()
    code, out, err = Worker(log, what, *command(stores)).end()
    assert (code, out) == (0, ""), err
    assert CLAIMED in err.splitlines()[-1]
    assert f"process {first.process.pid} on " in err
    assert len(counts(log)) == 1 + n_done_by_second
    assert first.end()[:2] == (0, rows)
    # Whoever comes later is given the stored result.
    assert Worker(log, what, *command(stores)).end()[:2] == (0, rows)
    assert sorted(counts(log)) == sorted(counts(lone_log))
    # One call with two workers does the same.
    crew_log = stores.parent / "crew-log"
    code, out, err = Worker(crew_log, what, *command(by_crew), "--devices", "cpu,cpu").end()
    assert (code, out) == (0, rows), err
    assert sorted(counts(crew_log)) == sorted(counts(lone_log))
    for path in (*stores.iterdir(), *by_crew.iterdir()):
        assert verify(kvtool.open(path)) == []


def test_paired(tmp_path: Path, tiny_model: Path, embedded_world: World) -> None:
    stores = extracted(
        tmp_path, tiny_model, "blink", embedded_world("blink") / "blink/Relative_Depth@val"
    )
    n_images = len(kvtool.open(stores / "s.kv").run().ids)
    options = ("relative-depth", "--max-new-tokens", 1, "--layers", 1, "--format", "jsonl")
    two_share(stores, "answers", lambda folder: ("paired", folder / "s.kv", *options), n_images - 1)


def test_prefix(tmp_path: Path, tiny_model: Path, embedded_world: World) -> None:
    stores = extracted(
        tmp_path, tiny_model, "refcoco", embedded_world("refcoco") / "refcoco", limit=3
    )
    options = ("referring-expression", "--layers", 2, "--cutoff", "otsu", "--format", "jsonl")
    two_share(stores, "probes", lambda folder: ("prefix", folder / "s.kv", *options), 2)


def test_correlate(tmp_path: Path) -> None:
    imagenet(tmp_path / "data/imagenet-s")
    write_cvbench(tmp_path / "data/cvbench")
    stores, names = tmp_path / "stores", ("0.kv", "1.kv", "2.kv")
    for number, name in enumerate(names):
        segmented(stores / name, tmp_path / "data", f"model-{number}", number)
        right = right_for((20, 12, 16)[number])
        answered(stores / name, CvBench(tmp_path / "data/cvbench"), f"model-{number}", right)
    narrow = ("--tasks", "semantic-segmentation", "--benchmarks", "cvbench", "--format", "jsonl")

    def command(folder: Path) -> tuple[object, ...]:
        return ("correlate", *(folder / name for name in names), *narrow)

    two_share(stores, "probes", command, 2)


def test_variance(tmp_path: Path) -> None:
    """One piece of work: the second process does nothing, or waits for the first."""
    store = planted(tmp_path / "s.kv", constant=[(0, 0), (1, 1)], layers=4, heads=2).store
    lone = shutil.copytree(store, tmp_path / "lone.kv")
    _, rows, _ = Worker(tmp_path / "lone-log", "variance", "variance", lone).end()
    log, command = tmp_path / "log", ("variance", store)
    first = Worker(log, "variance", *command, stop_at=1).holding()
    code, out, err = Worker(log, "variance", *command).end()
    assert (code, out) == (3, "")
    assert f"process {first.process.pid} on " in err
    waiting = Worker(log, "variance", *command, "--wait", 600)
    assert first.end()[:2] == (0, rows)
    assert waiting.end()[:2] == (0, rows)
    assert counts(log) == [1]
    assert verify(kvtool.open(store)) == []

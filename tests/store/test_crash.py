"""Writers that are killed, and writers that work at once: nothing lost, nothing twice, the bytes of
an unbroken run.
"""

from __future__ import annotations

import multiprocessing
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from kvtool.store import Run, open_store
from kvtool.store.verify import verify
from tests.store.worker import CONFIG, IMAGES, N_PARTS, PART_SIZE, work
from tests.support.runs import assert_holds, commit, create_run, new_store


def files_of(run: Run) -> dict[str, bytes]:
    return {
        str(path.relative_to(run.folder)): path.read_bytes()
        for path in run.folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def part_s() -> list[float]:
    """Seconds a part takes, as `unbroken` finds."""
    return []


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, part_s: list[float]) -> dict[str, bytes]:
    run = create_run(new_store(tmp_path_factory.mktemp("unbroken")), CONFIG)
    started = time.perf_counter()
    work(str(run.store))
    part_s.append((time.perf_counter() - started) / N_PARTS)
    return files_of(run)


def assert_as_unbroken(path: Path, unbroken: dict[str, bytes]) -> None:
    store = open_store(path)
    assert verify(store) == []
    run = store.run()
    assert_holds(run, IMAGES)
    assert files_of(run) == unbroken
    assert [path.name for path in (path / "tmp").iterdir()] == ["zarr.json"]


@pytest.mark.slow
def test_killed_twenty_times_at_random_moments(
    tmp_path: Path, unbroken: dict[str, bytes], part_s: list[float]
) -> None:
    path = tmp_path / "tiny.kv"
    chance = random.Random(0)
    amid_writing = 0
    command = [sys.executable, "-c", f"from tests.store.worker import work; work({str(path)!r})"]
    for _ in range(20):
        before = _n_parts(path)
        with subprocess.Popen(command) as worker:
            while (
                worker.poll() is None and not _writes(path, worker.pid) and _n_parts(path) == before
            ):
                time.sleep(0.001)
            moment = time.monotonic() + chance.uniform(0, 2 * part_s[0])
            while time.monotonic() < moment and _n_parts(path) < before + 2:
                time.sleep(0.001)
            worker.kill()
        assert worker.returncode == -signal.SIGKILL, (
            "it finished before it was killed: the test shows nothing"
        )
        amid_writing += _writes(path, worker.pid)
        problems = [problem.what for problem in verify(open_store(path))]
        assert all("left by a process that is gone" in what for what in problems)
    assert amid_writing >= 3, "it was hardly ever killed while it wrote: the test shows little"
    work(str(path))
    assert_as_unbroken(path, unbroken)


def _n_parts(path: Path) -> int:
    return len(list(path.glob("runs/tiny/parts/*-*")))


def _writes(path: Path, pid: int) -> bool:
    """Whether a process has an unfinished part, as far as one can see while it works."""
    with suppress(FileNotFoundError):
        return any(path.glob(f"tmp/*-{pid}-*/0*/value"))
    return False


@pytest.mark.slow
@pytest.mark.parametrize("claims", [True, False])
def test_writers_at_once(tmp_path: Path, unbroken: dict[str, bytes], claims: bool) -> None:
    """With claims they share the work; without them they race, and every race has one winner."""
    path = tmp_path / "tiny.kv"
    target = _work_with_claims if claims else _work_without_claims
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    workers = [context.Process(target=target, args=(str(path), start)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert_as_unbroken(path, unbroken)


def _work_with_claims(path: str, start: multiprocessing.synchronize.Barrier) -> None:
    start.wait()
    run = create_run(open_store(path, create=True), CONFIG)
    while run.covered_indices() != set(range(len(IMAGES))):
        work(path)


def _work_without_claims(path: str, start: multiprocessing.synchronize.Barrier) -> None:
    start.wait()
    run = create_run(open_store(path, create=True), CONFIG)
    for part in range(N_PARTS):
        commit(run, IMAGES[part * PART_SIZE : (part + 1) * PART_SIZE])

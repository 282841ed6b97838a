"""Writers that are killed, and writers that work at once: nothing lost, nothing twice, the bytes of an unbroken run."""

from __future__ import annotations

import multiprocessing
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvtool.errors import BusyError
from kvtool.store import Run, open_store, part_name
from kvtool.store.verify import verify
from tests.store.making import assert_holds, commit, config, new_run, sample

N_PARTS, PART_SIZE = 60, 4
IMAGES = [sample(index, n_tokens=60, n_vision_tokens=30) for index in range(N_PARTS * PART_SIZE)]


def work(path: str, parts: range = range(N_PARTS)) -> None:
    """What a worker does: claim a part, see that nobody did it, write it."""
    run = open_store(path, create=True).create_run(config())
    for part in parts:
        images = IMAGES[part * PART_SIZE : (part + 1) * PART_SIZE]
        name = part_name(images[0].index, images[-1].index + 1)
        if images[0].index in run.covered_indices():
            continue
        try:
            with run.claim(name):
                commit(run, images, name)
        except BusyError:
            continue


def files_of(run: Run) -> dict[str, bytes]:
    return {str(path.relative_to(run.folder)): path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def part_s() -> list[float]:
    """Seconds a part takes, as `unbroken` finds."""
    return []


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, part_s: list[float]) -> dict[str, bytes]:
    run = new_run(tmp_path_factory.mktemp("unbroken"))
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
    assert list((path / "tmp").iterdir()) == []


def test_killed_twenty_times_at_random_moments(tmp_path: Path, unbroken: dict[str, bytes], part_s: list[float]) -> None:
    path = tmp_path / "tiny.kv"
    chance = random.Random(0)
    amid_writing = 0
    command = [sys.executable, "-c", f"from tests.store.test_crash import work; work({str(path)!r})"]
    for _ in range(20):
        worker = subprocess.Popen(command)
        while worker.poll() is None and not any(path.glob(f"tmp/*-{worker.pid}-*/0*")):
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 2 * part_s[0]))
        worker.kill()
        assert worker.wait() == -signal.SIGKILL, "it finished before it was killed: the test shows nothing"
        problems = [problem.what for problem in verify(open_store(path))]
        assert all("left by a process that is gone" in what for what in problems)
        amid_writing += any(path.glob(f"tmp/*-{worker.pid}-*/0*/key"))
    assert amid_writing >= 3, "it was hardly ever killed while it wrote: the test shows little"
    work(str(path))
    assert_as_unbroken(path, unbroken)


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
    run = open_store(path, create=True).create_run(config())
    while run.covered_indices() != set(range(len(IMAGES))):
        work(path)


def _work_without_claims(path: str, start: multiprocessing.synchronize.Barrier) -> None:
    start.wait()
    run = open_store(path, create=True).create_run(config())
    for part in range(N_PARTS):
        commit(run, IMAGES[part * PART_SIZE : (part + 1) * PART_SIZE])

"""Killed at any moment, started twice: every image is there once, with the bytes of an unbroken
run.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.store.verify import verify
from tests.engine.forks import Forks

KILLS = 20


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    server = Forks()
    yield server
    server.close()


def job(store: Path, model: Path, pictures: Path) -> dict[str, Any]:
    return {
        "store": str(store),
        "model": str(model),
        "dataset": f"folder:{pictures}",
        "batch_size": 4,
    }


@pytest.fixture(scope="module")
def unbroken(
    tmp_path_factory: pytest.TempPathFactory, forks: Forks, tiny_model: Path, pictures: Path
) -> tuple[Path, float]:
    """A run that nothing disturbed, and the seconds it took once the server was up."""
    folder = tmp_path_factory.mktemp("unbroken")
    for name in ("first.kv", "second.kv"):
        started = time.monotonic()
        forks.start(job(folder / name, tiny_model, pictures))
        assert forks.wait().endswith(" 0\n")
    assert contents(folder / "first.kv") == contents(folder / "second.kv")
    return folder / "second.kv", time.monotonic() - started


def contents(store: Path) -> dict[str, bytes]:
    """Every file of a store's runs: shards, metadata, attributes.

    Not the claims: a killed process leaves its own, which is void since the process is dead.
    """
    files = (
        path
        for path in (store / "runs").rglob("*")
        if path.is_file() and path.parent.name != "locks"
    )
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def assert_whole(store: Path, expected: Path) -> None:
    opened = kvtool.open(store)
    assert verify(opened) == []
    run = opened.run()
    assert run.ids == [f"{i:03d}.png" for i in range(70)]
    assert [sample.index for sample in run.samples] == list(range(70))
    assert contents(store) == contents(expected)


@pytest.mark.slow
def test_kill_at_random_moments(
    tmp_path: Path, forks: Forks, unbroken: tuple[Path, float], tiny_model: Path, pictures: Path
) -> None:
    contents, seconds = unbroken
    rng = random.Random(0)
    store = tmp_path / "s.kv"
    killed = 0
    while killed < KILLS:
        pid = forks.start(job(store, tiny_model, pictures))
        time.sleep(rng.uniform(0, seconds))
        os.kill(pid, signal.SIGKILL)
        if forks.wait().endswith(" -9\n"):
            killed += 1
        # it was quicker than the kill: begin another store, so that kills fall on unfinished runs
        else:
            assert_whole(store, contents)
            store = tmp_path / f"s{killed}.kv"
    forks.start(job(store, tiny_model, pictures))
    assert forks.wait().endswith(" 0\n")
    assert_whole(store, contents)


@pytest.mark.slow
def test_two_at_once(
    tmp_path: Path, forks: Forks, unbroken: tuple[Path, float], tiny_model: Path, pictures: Path
) -> None:
    store = tmp_path / "s.kv"
    for _ in range(2):
        forks.start(job(store, tiny_model, pictures) | {"wait_s": 60})
    assert forks.wait().endswith(" 0\n")
    assert forks.wait().endswith(" 0\n")
    assert_whole(store, unbroken[0])

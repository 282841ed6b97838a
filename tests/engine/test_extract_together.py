"""kvtool.extract by several processes: workers that share a run, wait, die or stop."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.engine import processes
from kvtool.engine.events import Event
from kvtool.engine.outcome import Report
from kvtool.engine.plan import Job, Plan
from kvtool.engine.worker import work
from kvtool.errors import ImageError, KvtoolError
from kvtool.store import open_store
from kvtool.store.verify import verify


@pytest.mark.slow
def test_a_worker_that_dies_is_an_error(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    open_store(tmp_path / "s.kv", create=True)
    job = Job(str(tmp_path / "s.kv"), str(tiny_model), f"folder:{tmp_path}")
    no_plan: Any = None
    with pytest.raises(KvtoolError, match="found it dead"):
        processes.run_processes(partial(work, job, no_plan), ("cpu",), lambda *_: None)
    assert "AttributeError" in capfd.readouterr().err


def work_or_die(job: Job, plan: Plan, device: str, tell: Callable[[Event], None]) -> None:
    """Work as workers do; the first to have done a part is killed then, as by a system that is
    short of memory. Where there is the file "all", each is killed before it does anything.
    """
    mark = Path(job.store).with_name("dead")

    def die(event: Event) -> None:
        tell(event)
        if event.what == "done":
            with suppress(FileExistsError):
                mark.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)

    if mark.with_name("all").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    work(job, plan, device, die)


@pytest.mark.slow
def test_a_worker_that_is_killed_leaves_its_pictures_to_the_other(
    tmp_path: Path,
    tiny_model: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("kvtool.engine.local.work", work_or_die)
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"folder:{pictures}"}
    with caplog.at_level("WARNING", logger="kvtool"):
        report = kvtool.extract(tmp_path / "s.kv", devices=("cpu", "cpu"), wait_s=60, **options)
    assert report.n_missing == 0
    assert len(kvtool.open(tmp_path / "s.kv").run().samples) == 70
    assert verify(kvtool.open(tmp_path / "s.kv")) == []
    assert "the others go on with its work" in caplog.text
    # Where all are killed there is nobody to go on.
    (tmp_path / "all").touch()
    with pytest.raises(KvtoolError, match="run the same command again"):
        kvtool.extract(tmp_path / "all.kv", devices=("cpu", "cpu"), **options)


@pytest.mark.slow
def test_workers_that_die_before_anything_is_done_do_not_begin_for_ever(
    tmp_path: Path, tiny_model: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One dies of a part that the other finds held, time after time."""
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"folder:{few}"}
    kvtool.extract(tmp_path / "s.kv", limit=1, **options)
    calls: list[object] = []

    def die(*arguments: Any) -> tuple[int, Any]:
        calls.append(arguments)
        assert len(calls) < 3
        arguments[3](Event("busy", message="held by one that is dead by now"))
        return 1, arguments[1]

    monkeypatch.setattr("kvtool.engine.local.run_hands", die)
    with pytest.raises(KvtoolError, match="found them dead, and nothing done of 5 images"):
        kvtool.extract(tmp_path / "s.kv", devices=("cpu", "cpu"), wait_s=60, **options)
    assert len(calls) == 1


@pytest.mark.slow
def test_strict_stops_and_keeps_what_was_stored(
    tmp_path: Path, tiny_model: Path, pictures: Path
) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    (folder / "069.png").write_bytes(b"no picture")
    store = tmp_path / "s.kv"
    with pytest.raises(ImageError, match=r"069\.png"):
        kvtool.extract(store, model=str(tiny_model), dataset=f"folder:{folder}", strict=True)
    assert verify(kvtool.open(store)) == []
    run = kvtool.open(store).run()
    assert len(run.samples) % 32 == 0
    with run.claim("0000064-0000096"):
        """Nothing is left claimed."""


@pytest.mark.slow
def test_several_processes_share_a_run(tmp_path: Path, tiny_model: Path, pictures: Path) -> None:
    events: list[Event] = []
    report = kvtool.extract(
        tmp_path / "s.kv",
        model=str(tiny_model),
        dataset=f"folder:{pictures}",
        devices=("cpu", "cpu"),
        wait_s=60,
        tell=events.append,
    )
    assert (report.n_done, report.n_missing) == (70, 0)
    assert sum(event.n for event in events if event.what == "done") == 70
    assert verify(kvtool.open(tmp_path / "s.kv")) == []


@pytest.mark.slow
def test_two_calls_count_what_each_of_them_did(
    tmp_path: Path, tiny_model: Path, pictures: Path
) -> None:
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"folder:{pictures}"}
    reports: list[Report] = []

    def meanwhile(event: Event) -> None:
        if event.what == "done" and not reports:
            reports.append(kvtool.extract(tmp_path / "s.kv", **options))

    report = kvtool.extract(tmp_path / "s.kv", tell=meanwhile, wait_s=60, **options)
    assert report.n_done + report.n_by_others == 70
    assert report.n_done + reports[0].n_done == 70
    assert report.n_missing == 0


@pytest.mark.slow
def test_a_part_held_by_another_is_busy_and_named(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    store = tmp_path / "s.kv"
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"folder:{few}"}
    kvtool.extract(store, limit=1, **options)
    run = kvtool.open(store).run()
    with run.claim("0000000-0000032"):
        report = kvtool.extract(store, **options)
    assert report.n_missing == 5
    assert f"process {os.getpid()}" in report.busy[0]
    assert kvtool.extract(store, **options).n_done == 5


@pytest.mark.slow
def test_wait_takes_over_when_the_other_ends(
    tmp_path: Path, tiny_model: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "s.kv"
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"folder:{few}"}
    kvtool.extract(store, limit=1, **options)
    claim = kvtool.open(store).run().claim("0000000-0000032")
    claim.__enter__()
    monkeypatch.setattr(time, "sleep", lambda _: claim.__exit__(None, None, None))
    assert kvtool.extract(store, wait_s=60, **options).n_done == 5

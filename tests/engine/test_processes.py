"""Worker processes that do one work after another, and those that end with their work."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import psutil
import pytest

from kvtool.engine.processes import run_processes, standing
from kvtool.errors import KvtoolError

pytestmark = pytest.mark.slow

TWO = ("cpu", "cpu")


def tell_process(device: str, tell: Callable[[Any], None]) -> None:
    """Tell the device and the number of the process."""
    tell((device, os.getpid()))


def refuse(device: str, _: Callable[[Any], None]) -> None:
    """Refuse any work."""
    raise KvtoolError(f"{device}: expected other work")


def workers() -> list[int]:
    """The numbers of the processes that do a work, in the order of the devices."""
    told: dict[int, Any] = {}
    run_processes(tell_process, TWO, told.__setitem__)
    assert sorted(told) == [0, 1]
    assert {device for device, _ in told.values()} == {"cpu"}
    return [told[number][1] for number in sorted(told)]


def test_processes_begin_once_for_several_works_and_end_with_the_last() -> None:
    with standing():
        first, second = workers(), workers()
        assert first == second
        assert all(map(psutil.pid_exists, first))
    assert not any(map(psutil.pid_exists, first))


def test_without_others_to_come_processes_end_with_their_work() -> None:
    processes = workers()
    assert not any(map(psutil.pid_exists, processes))
    assert set(workers()).isdisjoint(processes)


def test_after_an_error_others_begin_anew() -> None:
    with standing():
        processes = workers()
        with pytest.raises(KvtoolError, match="expected other work"):
            run_processes(refuse, TWO, lambda *_: None)
        assert not any(map(psutil.pid_exists, processes))
        assert set(workers()).isdisjoint(processes)


@pytest.mark.parametrize("reaches_parent", [True, False])
def test_interrupts_while_processes_begin(
    monkeypatch: pytest.MonkeyPatch, reaches_parent: bool
) -> None:
    """The parent takes one once all have begun; in their first moments they ignore theirs."""
    begun: list[int] = []
    start = SpawnProcess.start

    def interrupted(process: SpawnProcess) -> None:
        start(process)
        assert process.pid is not None
        begun.append(process.pid)
        for number in (process.pid, *([os.getpid()] if reaches_parent else [])):
            os.kill(number, signal.SIGINT)

    monkeypatch.setattr(SpawnProcess, "start", interrupted)
    if reaches_parent:
        with pytest.raises(KeyboardInterrupt):
            workers()
    else:
        assert workers() == begun
    assert len(begun) == len(TWO)
    assert not any(map(psutil.pid_exists, begun))


def tell_blocked(_: str, tell: Callable[[Any], None]) -> None:
    """Tell which signals are held back."""
    tell(signal.pthread_sigmask(signal.SIG_BLOCK, set()))


def test_what_workers_start_may_be_interrupted() -> None:
    """No worker passes on that interrupts were held back while it began."""
    told: list[set[signal.Signals]] = []
    run_processes(tell_blocked, TWO, lambda _, blocked: told.append(blocked))
    assert told == [set(), set()]


def die(first: Path, _: str, tell: Callable[[Any], None]) -> None:
    """The first of all processes dies in the middle of what it tells; the others wait for that."""
    try:
        first.touch(exist_ok=False)
    except FileExistsError:
        while first.read_text() != "dead":
            time.sleep(0.05)
        tell("went on")
        return
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
    while True:
        tell("x" * 10_000)


def test_others_go_on_after_one_that_is_killed_while_it_tells(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: dict[int, Any] = {}

    def hear(number: int, message: str) -> None:
        told[number] = message

    def is_over(alive: Any) -> bool:
        if len(alive) == 1:
            (tmp_path / "first").write_text("dead")
        return False

    with standing(), caplog.at_level(logging.WARNING, logger="kvtool"):
        assert run_processes(partial(die, tmp_path / "first"), TWO, hear, is_over) == 1
        assert sorted(told.values()) == ["went on", "x" * 10_000]
        # Dead ones do no other work.
        assert len(set(workers())) == 2
    (line,) = caplog.messages
    assert "found it dead (SIGKILL, as a machine short of memory ends it)" in line
    assert line.endswith("the others go on with its work")


def kill_itself(_: str, __: Callable[[Any], None]) -> None:
    """End without a word."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_where_all_die_the_last_is_an_error() -> None:
    with pytest.raises(KvtoolError, match=r"found it dead \(SIGKILL.*run the same command again"):
        run_processes(kill_itself, TWO, lambda *_: None)


def tell_for_ever(_: str, tell: Callable[[Any], None]) -> None:
    """Tell more than a pipe holds, from a thread that the process waits for."""

    def flood() -> None:
        for _ in range(1000):
            tell("x" * 10_000)

    threading.Thread(target=flood).start()
    time.sleep(0.5)
    tell("begun")
    time.sleep(60)


def test_workers_that_nobody_hears_any_more_still_end() -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_processes(tell_for_ever, TWO, stop)


def sleep_in_c(_: str, tell: Callable[[Any], None]) -> None:
    """Hear no signal, as code in C that runs for long."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell(os.getpid())
    time.sleep(60)


@pytest.mark.parametrize("is_stopped", [True, False])
def test_workers_that_hear_no_signal_are_killed_after_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_stopped: bool
) -> None:
    monkeypatch.setattr("kvtool.engine.stopping.PATIENCE_S", 0.5)
    caplog.set_level(logging.WARNING, "kvtool")
    numbers: dict[int, int] = {}

    def hear(number: int, process: int) -> None:
        numbers[number] = process
        if is_stopped and len(numbers) == len(TWO):
            raise KeyboardInterrupt

    started = time.monotonic()
    if is_stopped:
        with pytest.raises(KeyboardInterrupt):
            run_processes(sleep_in_c, TWO, hear)
    else:
        run_processes(sleep_in_c, TWO, hear, lambda _: len(numbers) == len(TWO))
    assert time.monotonic() - started < 40
    assert len(numbers) == len(TWO)
    assert not any(map(psutil.pid_exists, numbers.values()))
    assert len(caplog.messages) == len(TWO)
    assert "expected it to stop within 0.5 s, found it still running" in caplog.messages[0]

"""Worker processes that do one work after another, and those that end with their work."""

from __future__ import annotations

import os
from collections.abc import Callable
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

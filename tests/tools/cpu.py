"""What tests cost by CPU time, which a busy machine does not change: `pytest -p tests.tools.cpu`.

Prints the sum, and the tests of LIMIT_S seconds or more: those that are to be marked slow where
`make check` is to stay short. A fixture's time is that of the first test that asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

LIMIT_S = 0.35
SECONDS: dict[str, float] = {}


def cpu_s() -> float:
    """CPU time of this process, of its children, and of theirs that have ended."""
    return sum(process_s(pid) for pid in (os.getpid(), *living_children()))


def process_s(pid: int) -> float:
    """CPU time of a process and of its children that have ended; 0 where it has ended itself."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def living_children() -> list[int]:
    """Children of this process that run, such as the server of tests.support.forked; none where
    the system does not list them.
    """
    try:
        pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    except OSError:
        return []
    return [int(pid) for pid in pids]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    start = cpu_s()
    try:
        return (yield)
    finally:
        SECONDS[item.nodeid] = cpu_s() - start


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    total = sum(SECONDS.values())
    terminalreporter.section(f"{total:.0f} s of CPU in {len(SECONDS)} tests")
    for test, seconds in sorted(SECONDS.items(), key=lambda entry: -entry[1]):
        if seconds >= LIMIT_S:
            terminalreporter.write_line(f"{seconds:6.1f} {test}")

"""Processes told apart: by others of their namespaces at once, by all others through their
heartbeat.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kvtool.store import owners, process
from tests.support.runs import dead_process


def other(**changes: object) -> owners.Process:
    """This process under another token, as another of its id would see it."""
    return replace(owners.this_process(), token="00000000", **changes)  # type: ignore[arg-type]


def test_a_process_survives_its_tag() -> None:
    ours = owners.this_process()
    assert ours == owners.this_process()
    assert ours.pid == os.getpid()
    assert owners.Process.from_tag(ours.tag) == ours
    assert owners.Process.from_tag(replace(ours, host="a-b.c", boot="x", space="x").tag) is not None
    assert owners.Process.from_tag("elsewhere-12-0") is None
    assert owners.Process.from_tag(ours.tag.replace(str(ours.pid), "9" * 30)) is None


def test_the_dead_are_dead_and_the_living_alive() -> None:
    assert owners.is_dead(owners.this_process()) is False
    assert owners.is_dead(other()) is False
    assert owners.is_dead(dead_process()) is True


def test_an_id_used_again_by_a_younger_process_counts_as_dead() -> None:
    assert owners.is_dead(other(started=owners.this_process().started + 1)) is True
    assert owners.is_dead(other(started=0)) is False


@pytest.mark.parametrize(
    "changes", [{"host": "elsewhere"}, {"boot": "0" * 12}, {"space": "1"}, {"space": "x"}]
)
def test_across_hosts_boots_and_namespaces_nobody_can_say(changes: dict[str, str]) -> None:
    assert owners.is_dead(other(**changes)) is None
    assert owners.is_dead(dead_process(**changes)) is None


def test_a_namespace_that_is_not_told_is_equal_to_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = replace(owners.this_process(), space=owners.UNKNOWN)
    monkeypatch.setattr(owners, "this_process", lambda: ours)
    assert owners.is_dead(replace(ours, token="00000000")) is None


def test_a_process_that_may_not_be_signalled_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """hidepid: /proc shows nothing of another user's process; a signal still tells that it is
    there.
    """

    def refused(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refused)
    monkeypatch.setattr(process, "_look_in_proc", lambda _pid: ("", 0))
    assert owners.is_dead(other(pid=1, started=5)) is False


def test_a_zombie_counts_as_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    process = other(pid=child.pid, started=0)
    deadline = time.monotonic() + 30
    while not owners.is_dead(process) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert owners.is_dead(process)
    child.wait()


def test_a_fork_is_another_process() -> None:
    ours = owners.this_process()
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, owners.this_process().tag.encode())
        os._exit(0)
    os.wait()
    child = owners.Process.from_tag(os.read(reader, 1000).decode())
    assert child is not None
    assert (child.pid, child.token) != (ours.pid, ours.token)
    assert owners.is_dead(child) is True


def test_what_is_held_is_touched_until_it_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "HEARTBEAT_S", 0.01)
    monkeypatch.setattr(owners, "_pulses", {})
    with owners.beating(tmp_path), owners.beating(tmp_path):
        os.utime(tmp_path, (0, 0))
        deadline = time.monotonic() + 30
        while tmp_path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert tmp_path.stat().st_mtime > 0
    assert owners._pulse()._paths == {}


def test_the_clock_is_that_of_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.utime(path, (time.time() - 100,) * 2)
    idle_s = owners.untouched_s(path)
    assert idle_s is not None
    assert 99 < idle_s < 130
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert owners.untouched_s(tmp_path / "gone") is None

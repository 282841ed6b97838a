"""Claims: one holder at a time, named; dead holders do not block."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kvtool.errors import BusyError, SpaceError
from kvtool.store import locks
from kvtool.store.locks import Owner
from kvtool.store.owners import Process, host_name, this_process
from tests.support.runs import dead_process


def place(store: Path) -> Path:
    """Where the claims of these tests lie."""
    folder = store / "locks"
    folder.mkdir(exist_ok=True)
    return folder


def write_claim(path: Path, process: Process, age_s: float = 0.0) -> Owner:
    owner = Owner(process, time.time() - age_s, "token")
    path.write_text(json.dumps(asdict(owner)))
    os.utime(path, (time.time() - age_s, time.time() - age_s))
    return owner


def elsewhere() -> Process:
    """A process of another host."""
    return replace(this_process(), host="elsewhere", pid=1, token="00000000")


def test_a_claim_is_a_file_that_names_its_owner_and_is_gone_after(tmp_path: Path) -> None:
    path = place(tmp_path) / "p.claim"
    with locks.claim(tmp_path, path, "part p") as mine:
        assert json.loads(path.read_text()) == asdict(mine)
        assert mine.process == this_process()
        assert locks.live_claims(place(tmp_path)) == {"p": mine}
    assert list(place(tmp_path).iterdir()) == []


def test_a_held_claim_is_busy_and_says_who_holds_it_and_what_to_do(tmp_path: Path) -> None:
    with (
        locks.claim(tmp_path, place(tmp_path) / "p.claim", "part p of run r"),
        pytest.raises(BusyError) as caught,
        locks.claim(tmp_path, place(tmp_path) / "p.claim", "part p of run r"),
    ):
        raise AssertionError("two holders")
    message = str(caught.value)
    assert message.startswith(
        f"part p of run r is held by process {os.getpid()} on {host_name()} since 2"
    )
    assert message.endswith(": wait for it, or use --wait SECONDS")
    assert caught.value.exit_code == 3


def test_the_claim_ends_with_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locks.claim(tmp_path, place(tmp_path) / "p.claim", "part p"):
        raise RuntimeError
    with locks.claim(tmp_path, place(tmp_path) / "p.claim", "part p"):
        pass


def test_waiting_gets_the_claim_once_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "POLL_S", 0.01)
    claimed, release = threading.Event(), threading.Event()

    def hold() -> None:
        with locks.claim(tmp_path, place(tmp_path) / "p.claim", "part p"):
            claimed.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    claimed.wait()
    with (
        pytest.raises(BusyError),
        locks.claim(tmp_path, place(tmp_path) / "p.claim", "part p", wait_s=0.05),
    ):
        raise AssertionError("two holders")
    threading.Timer(0.1, release.set).start()
    with locks.claim(tmp_path, place(tmp_path) / "p.claim", "part p", wait_s=30):
        thread.join()


def test_a_claim_of_a_dead_local_process_is_stale_at_once(tmp_path: Path) -> None:
    write_claim(place(tmp_path) / "p.claim", dead_process())
    assert locks.live_claims(place(tmp_path)) == {}
    with locks.claim(tmp_path, place(tmp_path) / "p.claim", "part p") as mine:
        assert locks.read_owner(place(tmp_path) / "p.claim") == mine


def test_a_claim_of_another_host_holds_until_it_was_not_touched_for_long(tmp_path: Path) -> None:
    path = place(tmp_path) / "p.claim"
    owner = write_claim(path, elsewhere(), age_s=locks.EXPIRY_S - 60)
    assert locks.live_claims(place(tmp_path)) == {"p": owner}
    with (
        pytest.raises(BusyError, match="process 1 on elsewhere"),
        locks.claim(tmp_path, path, "part p"),
    ):
        raise AssertionError("two holders")
    write_claim(path, elsewhere(), age_s=locks.EXPIRY_S + 60)
    with locks.claim(tmp_path, path, "part p"):
        pass


def test_a_claim_without_a_name_yet_is_held_by_someone_unknown(tmp_path: Path) -> None:
    (place(tmp_path) / "p.claim").touch()
    with (
        pytest.raises(BusyError, match="held by an unknown process"),
        locks.claim(tmp_path, place(tmp_path) / "p.claim", "part p"),
    ):
        raise AssertionError("two holders")


def test_a_claim_taken_over_meanwhile_is_left_to_its_new_owner(tmp_path: Path) -> None:
    path = place(tmp_path) / "p.claim"
    with locks.claim(tmp_path, path, "part p"):
        owner = write_claim(path, elsewhere())
    assert locks.read_owner(path) == owner


def test_a_new_claim_renamed_by_mistake_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two find the same stale claim; the slower must not delete the claim that the quicker made."""
    path = place(tmp_path) / "p.claim"
    write_claim(path, dead_process())
    really_stale = locks.is_stale
    quicker = Owner(elsewhere(), time.time(), "new")

    def stale_then_taken(claim: Path) -> bool:
        stale = really_stale(claim)
        path.write_text(json.dumps(asdict(quicker)))
        return stale

    monkeypatch.setattr(locks, "is_stale", stale_then_taken)
    assert locks._drop_if_stale(tmp_path, path)
    assert locks.read_owner(path) == quicker
    assert [entry.name for entry in place(tmp_path).iterdir()] == ["p.claim"]


def test_no_space_for_a_claim_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with (
        pytest.raises(SpaceError, match="part p: cannot be claimed"),
        locks.claim(tmp_path, place(tmp_path) / "p.claim", "part p"),
    ):
        raise AssertionError("claimed")
    assert list(place(tmp_path).iterdir()) == []


def test_without_hard_links_a_claim_is_made_with_o_excl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(_source: Path, _target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = place(tmp_path) / "p.claim"
    with locks.claim(tmp_path, path, "part p") as mine:
        assert locks.read_owner(path) == mine
        assert not locks._create(tmp_path, path, mine)
    assert list(place(tmp_path).iterdir()) == []


def test_sweeping_deletes_stale_claims_only(tmp_path: Path) -> None:
    folder = place(tmp_path)
    write_claim(folder / "dead.claim", dead_process())
    write_claim(folder / "elsewhere.claim", elsewhere())
    with locks.claim(tmp_path, folder / "mine.claim", "mine"):
        locks.sweep(folder)
        assert sorted(path.name for path in folder.iterdir()) == ["elsewhere.claim", "mine.claim"]


def test_of_many_threads_one_holds_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "POLL_S", 0.001)
    inside, peak = 0, 0
    write_claim(place(tmp_path) / "p.claim", dead_process())

    def work() -> None:
        nonlocal inside, peak
        for _ in range(5):
            with locks.claim(tmp_path, place(tmp_path) / "p.claim", "part p", wait_s=60):
                inside += 1
                peak = max(peak, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert peak == 1


def test_a_folder_that_cannot_be_listed_is_not_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> list[Path]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("kvtool.store.layout.entries", fail)
    locks.sweep(tmp_path)

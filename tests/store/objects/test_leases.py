"""Claims on an object store: held, given back, taken over when dead or lapsed, and beaten."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from typing import Any

import pytest

from kvtool.errors import BusyError, StoreError
from kvtool.store import Run, locks, open_store, owners
from kvtool.store.locks import Owner
from kvtool.store.objects.bucket import Bucket
from tests.support.object_stores import ADDRESS, keys_of, mirror_of
from tests.support.runs import config, create_run, dead_process

obstore = pytest.importorskip("obstore")
NAME = "0000000-0000004"
KEY = f"runs/tiny/locks/{NAME}.claim"


@pytest.fixture
def run(objects: Any) -> Run:
    assert objects is not None
    return create_run(open_store(ADDRESS, create=True), config())


def stranger(**changes: Any) -> Owner:
    """An owner of another machine, of whom nobody can say whether it is alive."""
    process = replace(owners.this_process(), host="far", boot="0" * 12, token="0123abcd", **changes)
    return Owner(process, time.time(), "theirs")


def leave(objects: Any, owner: Owner) -> None:
    """Put the lease of an owner that does nothing more."""
    obstore.put(objects, KEY, json.dumps({**asdict(owner), "beat": 0}).encode())


def test_a_claim_is_held_by_one_and_given_back(run: Run) -> None:
    with run.claim(NAME) as owner:
        assert run.claimed(NAME)
        assert run.holders() == {NAME: owner}
        with pytest.raises(BusyError, match=f"part {NAME} of run tiny is held by process"):
            run.claim(NAME).__enter__()
        with run.claim("0000004-0000008"):
            assert set(run.holders()) == {NAME, "0000004-0000008"}
    assert run.holders() == {}
    assert not run.claimed(NAME)
    with run.claim(NAME):
        pass


def test_the_claim_of_a_dead_process_is_taken_over_at_once(run: Run, objects: Any) -> None:
    leave(objects, Owner(dead_process(), time.time(), "dead"))
    assert not run.claimed(NAME)
    with run.claim(NAME) as owner:
        assert run.holders() == {NAME: owner}


def test_the_claim_of_another_machine_is_taken_over_once_it_has_lapsed(
    run: Run, objects: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(objects, stranger())
    with pytest.raises(BusyError, match="on far since"):
        run.claim(NAME).__enter__()
    assert run.claimed(NAME)
    monkeypatch.setattr(locks, "EXPIRY_S", 0.05)
    time.sleep(0.1)
    assert not run.claimed(NAME)
    monkeypatch.setattr(owners, "HEARTBEAT_S", 0.01)
    with run.claim(NAME) as owner:
        assert run.holders() == {NAME: owner}


def test_of_two_who_take_a_lapsed_claim_over_one_gets_it(
    run: Run, objects: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(objects, Owner(dead_process(), time.time(), "dead"))
    swap = Bucket.swap

    def second(self: Bucket, key: str, data: bytes, version: Any) -> Any:
        """Another one is quicker."""
        swap(self, key, json.dumps({**asdict(stranger()), "beat": 0}).encode(), version)
        return swap(self, key, data, version)

    monkeypatch.setattr(Bucket, "swap", second)
    monkeypatch.setattr(
        "kvtool.store.objects.mirror.BucketMirror._check_conditions", lambda _: None
    )
    with pytest.raises(BusyError, match="on far since"):
        run.claim(NAME).__enter__()


def test_a_heartbeat_keeps_a_claim_for_longer_than_it_takes_to_lapse(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "HEARTBEAT_S", 0.02)
    with run.claim(NAME):
        bucket = mirror_of(open_store(ADDRESS))._bucket
        first = bucket.fetch(KEY)
        deadline = time.monotonic() + 20
        while bucket.fetch(KEY)[1].version == first[1].version:  # type: ignore[index]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        beaten = bucket.fetch(KEY)
        assert beaten is not None
        assert beaten[1].modified_s >= first[1].modified_s  # type: ignore[index]
        assert run.claimed(NAME)
    assert bucket.get(KEY) is None


def test_a_claim_that_another_took_over_is_not_deleted_by_its_first_owner(
    run: Run, objects: Any
) -> None:
    with run.claim(NAME):
        leave(objects, stranger())
    assert keys_of(open_store(ADDRESS), "runs/tiny/locks/") == [KEY]


def lose_answers(monkeypatch: pytest.MonkeyPatch, numbers: set[int], is_told: bool) -> list[int]:
    """Let the swaps of these numbers apply and their answers be lost: with an error, or without a
    word where the request is sent again. Return a list that grows with each swap.
    """
    swap = Bucket.swap
    calls: list[int] = []

    def lost(self: Bucket, key: str, data: bytes, version: Any) -> Any:
        calls.append(len(calls))
        answer = swap(self, key, data, version)
        if calls[-1] not in numbers:
            return answer
        if is_told:
            raise StoreError("the service is gone")
        return None

    monkeypatch.setattr(Bucket, "swap", lost)
    monkeypatch.setattr(
        "kvtool.store.objects.mirror.BucketMirror._check_conditions", lambda _: None
    )
    return calls


def wait_for(calls: list[int], count: int) -> None:
    deadline = time.monotonic() + 20
    while len(calls) < count:
        assert time.monotonic() < deadline, f"{len(calls)} of {count} heartbeats"
        time.sleep(0.01)


@pytest.mark.parametrize("is_told", [True, False])
def test_a_heartbeat_whose_answer_was_lost_is_not_the_last_one(
    run: Run, monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    monkeypatch.setattr(owners, "HEARTBEAT_S", 0.02)
    calls = lose_answers(monkeypatch, {1, 3, 4}, is_told)
    with run.claim(NAME) as owner:
        wait_for(calls, 9)
        assert run.holders() == {NAME: owner}
    assert run.holders() == {}
    assert keys_of(open_store(ADDRESS), "runs/tiny/locks/") == []


def test_the_heartbeat_ends_where_another_stands_in_the_lease(
    run: Run, objects: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "HEARTBEAT_S", 0.02)
    calls = lose_answers(monkeypatch, set(), True)
    with run.claim(NAME):
        wait_for(calls, 1)
        leave(objects, stranger())
        wait_for(calls, len(calls) + 1)
        time.sleep(0.2)
        count = len(calls)
        time.sleep(0.2)
        assert len(calls) == count
        assert json.loads(bytes(obstore.get(objects, KEY).bytes()))["token"] == "theirs"


def test_a_dead_claim_is_taken_over_though_the_answer_was_lost(
    run: Run, objects: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(objects, Owner(dead_process(), time.time(), "dead"))
    lose_answers(monkeypatch, {0}, False)
    with run.claim(NAME) as owner:
        assert run.holders() == {NAME: owner}

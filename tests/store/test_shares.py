"""Shares of work: what others hold is left for later, what they kept is not made again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kvtool.errors import BusyError, UnfinishedError
from kvtool.store import open_store
from kvtool.store.run import Run
from kvtool.store.shares import Share, chunk_name, sharing
from tests.support.runs import config, create_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create_run(open_store(tmp_path / "s.kv", create=True), config(kinds=("value",)))


def test_a_share_without_the_held_chunk_is_done_with_exit_0(run: Run) -> None:
    results: dict[str, str] = {}

    def work(share: Share, names: list[str]) -> None:
        share.each(
            names,
            lambda n: share.once(run, n, lambda: results.get(n), lambda: results.setdefault(n, n)),
            "chunks",
        )

    with run.claim("b"):
        message = "1 of 3 chunks are held by others: b of run"
        with (
            pytest.raises(UnfinishedError, match=f"did its share, .*; {message}") as did,
            sharing(0) as share,
        ):
            work(share, ["a", "b", "c"])
        assert (did.value.exit_code, list(results)) == (0, ["a", "c"])
        with (
            pytest.raises(BusyError, match=f"^{message}") as idle,
            sharing(0) as share,
        ):
            work(share, ["a", "b", "c"])
        assert idle.value.exit_code == 3
    with sharing(0) as share:
        work(share, ["a", "b", "c"])
    assert share.done == ["b"]


def test_what_another_kept_while_one_waited_is_not_made(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    results: list[str] = []
    claim = run.claim("a")
    claim.__enter__()

    def sleep(_: float) -> None:
        results.append("theirs")
        claim.__exit__(None, None, None)

    monkeypatch.setattr(time, "sleep", sleep)
    share = Share(600)
    assert (
        share.result(run, "a", lambda: results[0] if results else None, lambda: "ours") == "theirs"
    )
    assert share.done == []


def test_names_of_chunks_are_file_names() -> None:
    assert (
        chunk_name("answers", "a/b c.png", "0123456789abcdef0")
        == "answers-a_b_c.png-0123456789abcdef"
    )
    assert chunk_name("answers", "", "01") == "answers-01"

"""Shares of work: what others hold is left for later, what they kept is not made again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kvtool.errors import BusyError, UnfinishedError
from kvtool.store import open_store
from kvtool.store.run import Run
from kvtool.store.shares import Share, chunk_name, sharing
from tests.support.runs import config


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_store(tmp_path / "s.kv", create=True).create_run(config(kinds=("value",)))


def test_a_share_without_the_held_chunk_is_done_with_exit_0(run: Run) -> None:
    kept: dict[str, str] = {}

    def work(share: Share, names: list[str]) -> None:
        share.each(
            names,
            lambda n: share.once(run, n, lambda: kept.get(n), lambda: kept.setdefault(n, n)),
            "chunks",
        )

    with run.claim("b"):
        said = "1 of 3 chunks are held by others: b of run"
        with (
            pytest.raises(UnfinishedError, match=f"did its share, .*; {said}") as did,
            sharing(0) as share,
        ):
            work(share, ["a", "b", "c"])
        assert (did.value.exit_code, list(kept)) == (0, ["a", "c"])
        with (
            pytest.raises(BusyError, match=f"^{said}") as idle,
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
    kept: list[str] = []
    other = run.claim("a")
    other.__enter__()

    def sleep(_: float) -> None:
        kept.append("theirs")
        other.__exit__(None, None, None)

    monkeypatch.setattr(time, "sleep", sleep)
    share = Share(600)
    assert share.result(run, "a", lambda: kept[0] if kept else None, lambda: "ours") == "theirs"
    assert share.done == []


def test_names_of_chunks_are_file_names() -> None:
    assert (
        chunk_name("answers", "a/b c.png", "0123456789abcdef0")
        == "answers-a_b_c.png-0123456789abcdef"
    )
    assert chunk_name("answers", "", "01") == "answers-01"

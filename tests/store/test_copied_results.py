"""Results, answers and pictures on their way to another store: none is lost without a word."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvtool.errors import StoreError
from kvtool.store import Store, layout, open_store
from kvtool.store.copying import copy
from kvtool.store.hub import pull, push
from kvtool.store.repair import repair
from kvtool.store.verify import verify
from tests.support.damage import flip
from tests.support.hub_data import fake_hub
from tests.support.object_stores import filled
from tests.support.shell import Shell

HUB = "hf://datasets/acme/study"
_AGAIN = "then it is computed again"


@pytest.fixture
def source(tmp_path: Path) -> Store:
    return filled(tmp_path / "source.kv")


@pytest.fixture
def target(tmp_path: Path) -> Store:
    return open_store(tmp_path / "target.kv", create=True)


@contextmanager
def small_files(nbytes: int) -> Iterator[None]:
    """Let this process write no file of more bytes, as `ulimit -f` does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_result_that_cannot_be_written_ends_the_copy_with_its_error(
    source: Store, target: Store, shell: Shell
) -> None:
    copy(source, target)
    source.save_result("large", {"run": "tiny", "text": "x" * 9000})
    command = ("store", "copy", source.path, target.path)
    with small_files(8192):
        code, _, err = shell(*command)
    assert code == 1
    assert "result large: cannot be written" in err[-1]
    assert shell(*command)[2][-1] == f"{target.path}: 1 results and answers copied"
    assert len(list(target.results())) == 3


def test_pictures_that_cannot_be_written_end_the_copy_with_their_error(
    source: Store, target: Store
) -> None:
    copy(source, target)
    source.keep_pictures("large", [("1.png", b"x" * 9000)])
    source.save_result("pictured", {"run": "tiny", "pictures": "large"})
    with small_files(8192), pytest.raises(StoreError, match="pictures large: cannot be written"):
        copy(source, target)
    assert copy(source, target).results == 1
    assert (target.pictures_dir("large") / "1.png").read_bytes() == b"x" * 9000


def test_damaged_results_and_pictures_are_left_out_and_named(
    source: Store, target: Store, shell: Shell
) -> None:
    source.save_result("abe", {"command": "variance", "run": "tiny", "pictures": "drawn"})
    flip(source.results_dir / "abd.json")
    flip(source.pictures_dir("drawn") / "1.png")
    code, _, err = shell("store", "copy", source.path, target.path)
    assert code == 4
    assert "2 parts, runs or results left out" in err[-1]
    assert f"{target.path}: 2 results and answers copied" in err
    assert [path.stem for path in layout.entries(target.results_dir)] == ["abc", "abe"]
    failed = copy(source, target).failed
    assert [line.partition(": ")[0] for line in failed] == ["result abd"]
    assert _AGAIN in failed[0]
    assert any("pictures drawn: file 1.png: expected 3 bytes" in line for line in err)
    assert verify(target) == []
    # What it says is what helps.
    assert len(list(repair(source))) == 2
    assert shell("store", "copy", source.path, target.path)[0] == 0


def test_results_that_the_ledger_lists_and_are_gone_are_named(source: Store, target: Store) -> None:
    (source.results_dir / "abd.json").unlink()
    copied = copy(source, target)
    assert copied.results == 1
    assert copied.failed == [
        "result abd: expected what was committed, found it in the ledger alone: `kvtool store "
        "repair` forgets it, then it is computed again"
    ]
    # Who names the runs to copy hears of those alone, and what the target has is not missed.
    assert copy(source, target, runs=["tiny"]).failed == []
    target.save_result("abd", {"run": "tiny"})
    assert copy(source, target).failed == []


def test_files_that_are_no_results_stay_behind(source: Store, target: Store) -> None:
    (source.results_dir / "notes.txt").write_text("mine")
    copied = copy(source, target)
    assert (copied.results, copied.failed) == (2, [])


def test_damaged_results_are_named_by_a_push_and_a_pull(
    source: Store, target: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: Shell
) -> None:
    hub = fake_hub(monkeypatch, tmp_path / "hub")
    push(source, HUB)
    flip(hub.head() / "results" / "abd.json")
    copied = pull(HUB, target)
    assert (copied.results, len(copied.failed)) == (1, 1)
    assert copied.failed[0].startswith("result abd: ")
    flip(source.results_dir / "abd.json")
    code, _, err = shell("store", "push", source.path, HUB)
    assert code == 4
    assert any("result abd: " in line for line in err)

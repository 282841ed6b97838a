"""An index that is damaged, shared or in the way never changes what a search finds."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.features import patch_index
from kvtool.result import Result
from kvtool.store import Run, indexes, open_store
from kvtool.store.verify import verify
from tests.experiments.search.patches import BLOCK, HEAD, LAYER, by_hand, centre, found, make_run
from tests.support.runs import dead_process


def damages(folder: Path) -> dict[str, Any]:
    """Ways to harm an index: the file, and what to do to it."""
    shards, attributes = sorted(folder.glob("*.faiss")), folder / "zarr.json"
    return {
        "attributes": (attributes, "flip 200"),
        "attributes gone": (attributes, "unlink"),
        "gone": (shards[-1], "unlink"),
        "short": (shards[-1], "cut"),
        "head": (shards[0], "flip 30"),
    }


def harm(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    if damage.startswith("flip"):
        data[int(damage.split()[1])] ^= 4
    elif damage == "cut":
        del data[-5:]
    else:
        path.unlink()
        return
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["attributes", "gone", "short", "head", "attributes gone"])
@pytest.mark.usefixtures("small")
def test_a_damaged_index_is_noticed_and_built_again(tmp_path: Path, which: str) -> None:
    run = make_run(tmp_path, layers=6)
    query: Any = (run, "img08", centre(run, "img08", 0, 0))
    good = kvtool.search(*query, **BLOCK)
    folder = indexes.folder_of(run) / indexes.names(run)[0]
    harm(*damages(folder)[which])
    (problem,) = verify(open_store(run.store))
    assert (problem.run, problem.part) == (run.name, f"indexes/{folder.name}")
    assert "it is built again" in problem.what
    again = kvtool.search(*query, **BLOCK)
    assert again.rows == good.rows
    assert any("not used" in note for note in again.config["notes"])
    assert "built" in again.config["notes"][-1]
    assert verify(open_store(run.store)) == []


@pytest.mark.usefixtures("small")
@pytest.mark.slow
def test_a_flipped_byte_anywhere_never_changes_an_answer(tmp_path: Path) -> None:
    """Lists that are not read may be damaged unseen; any that is read is checked."""
    run = make_run(tmp_path, layers=6)
    query: Any = (run, "img08", centre(run, "img08", 0, 0))
    good = kvtool.search(*query, **BLOCK)
    folder = indexes.folder_of(run) / indexes.names(run)[0]
    noticed = 0
    for file in sorted(folder.glob("*.faiss")):
        for position in range(7, file.stat().st_size, 1201):
            harm(file, f"flip {position}")
            again = kvtool.search(*query, **BLOCK)
            assert again.rows == good.rows
            if "kept" in again.config["notes"][-1]:
                harm(file, f"flip {position}")
            else:
                noticed += 1
    assert noticed > 2


@pytest.mark.usefixtures("small")
@pytest.mark.slow
def test_every_list_is_checked_when_all_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patch_index, "PROBED", 8)
    run = make_run(tmp_path, layers=6)
    query: Any = (run, "img08", centre(run, "img08", 0, 0))
    kvtool.search(*query, **BLOCK)
    folder = indexes.folder_of(run) / indexes.names(run)[0]
    for file in sorted(folder.glob("*.faiss")):
        for position in range(7, file.stat().st_size, 1999):
            harm(file, f"flip {position}")
            assert "built" in kvtool.search(*query, **BLOCK).config["notes"][-1], (file, position)


def test_verify_knows_an_index_and_removing_the_run_drops_it(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    kvtool.search(run, "img08", centre(run, "img08", 0, 0), **BLOCK)
    store = open_store(run.store)
    assert verify(store) == []
    folder = indexes.folder_of(run)
    (folder / "notes.txt").write_text("mine")
    (folder / indexes.names(run)[0] / "notes.txt").write_text("mine")
    assert sum("not a file of kvtool" in problem.what for problem in verify(store)) == 2
    store.remove_run(run.name)
    assert not folder.exists()
    assert [path.name for path in (store.path / "tmp").iterdir()] == ["zarr.json"]


def test_what_a_killed_builder_left_is_swept_by_the_next(tmp_path: Path) -> None:
    run = make_run(tmp_path, layers=6)
    left = run.store / "tmp" / f"{dead_process().tag}-0"
    left.mkdir()
    (left / "00000.faiss").write_bytes(b"half")
    kvtool.search(run, "img08", centre(run, "img08", 0, 0), **BLOCK)
    assert [path.name for path in (run.store / "tmp").iterdir()] == ["zarr.json"]


def test_two_builders_keep_one_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have written theirs before either is renamed into place."""
    run = make_run(tmp_path)
    barrier = threading.Barrier(2, timeout=60)
    write = patch_index._write

    def write_and_wait(*arguments: Any) -> Any:
        done = write(*arguments)
        barrier.wait()
        return done

    monkeypatch.setattr(patch_index, "_write", write_and_wait)
    results: list[Result] = []

    def build() -> None:
        mine = open_store(run.store).run()
        results.append(kvtool.search(mine, "img08", centre(run, "img08", 0, 0), **BLOCK))

    builders = [threading.Thread(target=build) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert len(results) == 2
    assert results[0].rows == results[1].rows
    assert len(indexes.names(run)) == 1
    assert verify(open_store(run.store)) == []
    assert [path.name for path in (run.store / "tmp").iterdir()] == ["zarr.json"]


def test_an_index_that_vanishes_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    keep, stored = indexes.keep, []

    def keep_and_lose(run: Run, name: str, write: Any) -> None:
        keep(run, name, write)
        stored.append(name)
        if len(stored) == 1:
            indexes.drop(run, name)

    monkeypatch.setattr(indexes, "keep", keep_and_lose)
    result = kvtool.search(run, "img08", centre(run, "img08", 0, 0), k=9, **BLOCK)
    assert len(stored) == 2
    assert found(result) == by_hand(run, "img08", (0, 0), 9, "cosine", "value", LAYER, HEAD)[0]


def test_a_store_that_cannot_be_written_is_searched_exactly(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    shutil.rmtree(run.store / "tmp")
    (run.store / "tmp").write_text("in the way")
    result = kvtool.search(run, "img08", centre(run, "img08", 0, 0), k=9, **BLOCK)
    assert found(result) == by_hand(run, "img08", (0, 0), 9, "cosine", "value", LAYER, HEAD)[0]
    assert "no index: " in result.config["notes"][-1]
    assert "Not a directory" in result.config["notes"][-1]
    assert not indexes.folder_of(run).exists()

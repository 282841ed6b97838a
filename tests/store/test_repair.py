"""Repair drops what is damaged and nothing else; prune what belongs to nothing; the ledger misses
what is gone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from kvtool.errors import CorruptError
from kvtool.store import Store, open_store
from kvtool.store.repair import prune, repair, restore_root
from kvtool.store.verify import in_share, units, verify
from tests.support.runs import (
    assert_holds,
    commit,
    config,
    create_run,
    dead_process,
    finite_bits,
    ragged,
)

FIRST, SECOND = "0000000-0000003", "0000003-0000005"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def every_file(store: Store) -> list[Path]:
    return sorted(path for path in store.path.rglob("*") if path.is_file() and path.stat().st_size)


@pytest.mark.slow
def test_a_flipped_byte_of_any_file_is_found_and_mended(store: Store) -> None:
    copy = store.path.with_suffix(".whole")
    shutil.copytree(store.path, copy)
    for path in every_file(store):
        if path == store.path / "zarr.json":
            continue
        relative = path.relative_to(store.path)
        flip(path)
        assert len(verify(store)) == 1, relative
        before = {file: file.read_bytes() for file in every_file(store) if file != path}
        (row,) = repair(store)
        assert row.did != "left as it is", relative
        assert verify(store) == [], relative
        # What is still there is as it was.
        assert all(file.read_bytes() == data for file, data in before.items() if file.exists()), (
            relative
        )
        shutil.rmtree(store.path)
        shutil.copytree(copy, store.path)


def test_a_dropped_part_is_filled_by_the_same_commit(store: Store) -> None:
    flip(store.path / "runs" / "tiny" / "parts" / FIRST / "key" / "c.0.0.0.0")
    assert [(row.part, row.did) for row in repair(store, dry_run=True)] == [(FIRST, "dropped")]
    assert len(verify(store)) == 1
    repair(store)
    run = store.run()
    assert run.covered_indices() == {3, 4}
    assert commit(run, [ragged(index) for index in range(3)]) > 0
    assert_holds(store.run(), [ragged(index) for index in range(5)])
    assert verify(store) == []


def test_texts_come_back_after_the_first_of_several_was_dropped(store: Store) -> None:
    run = store.run()
    values = finite_bits(np.random.default_rng(1), (2, 2, 2, 8), np.dtype("<u2"))
    run.commit_text(["cow", "pig"], values)
    flip(run.folder / "text" / "0000000" / "value" / "c.0.0.0.0")
    repair(store)
    store.run().commit_text(["cat", "dog"], values)
    assert store.run().text_names == ["cow", "pig", "cat", "dog"]


@pytest.mark.sampled
@pytest.mark.parametrize(
    "path",
    [f"runs/tiny/parts/{FIRST}", "runs/tiny/text/0000000", "results/abc.json",
     "results/abd.json", "pictures/drawn", "runs/tiny"],
)  # fmt: skip
def test_what_is_gone_as_a_whole_is_missed_until_it_is_forgotten(store: Store, path: str) -> None:
    target = store.path / path
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    (problem,) = verify(store)
    assert "it was committed and is gone" in problem.what
    assert [row.did for row in repair(store)] == ["forgotten"]
    assert verify(store) == []


def test_a_segment_of_the_roster_that_is_gone_comes_back_and_no_part_is_dropped(
    store: Store,
) -> None:
    shutil.rmtree(store.path / "runs" / "tiny" / "roster" / "0000001")
    assert len(verify(store)) > 1
    assert [(row.part, row.did.split()[0]) for row in repair(store)] == [
        ("roster/0000001", "restored")
    ]
    assert verify(store) == []
    assert_holds(store.run(), [ragged(index) for index in range(5)])


def test_what_is_removed_by_the_store_is_not_missed(store: Store) -> None:
    store.run().drop_part(FIRST)
    assert verify(store) == []
    store.remove_run("tiny")
    assert verify(store) == []


def test_results_and_parts_that_changed_places_are_found(store: Store) -> None:
    first, second = store.results_dir / "abc.json", store.results_dir / "abd.json"
    aside = store.path.parent / "aside"
    first.rename(aside), second.rename(first), aside.rename(second)
    assert len(verify(store)) == 2
    with pytest.raises(CorruptError, match="expected the result abc, found abd"):
        store.load_result("abc")
    parts = store.path / "runs" / "tiny" / "parts"
    (
        (parts / FIRST).rename(aside),
        (parts / SECOND).rename(parts / FIRST),
        aside.rename(parts / SECOND),
    )
    assert sum("it was moved here" in problem.what for problem in verify(store)) == 2


def test_shares_do_not_overlap_and_are_everything(store: Store) -> None:
    labels = [unit.label for unit in units(store)]
    shares = [[label for label in labels if in_share(label, (number, 3))] for number in (1, 2, 3)]
    assert sorted(label for share in shares for label in share) == sorted(labels)
    assert all(shares)
    for path in (
        store.path / "results" / "abc.json",
        store.path / "runs" / "tiny" / "parts" / FIRST / "zarr.json",
    ):
        flip(path)
    problem_lists = [verify(store, share=(number, 3)) for number in (1, 2, 3)]
    assert sorted(str(problem) for problems in problem_lists for problem in problems) == sorted(
        map(str, verify(store))
    )


@pytest.mark.parametrize("damage", ["flipped", "empty", "missing"])
def test_damage_of_one_run_stops_no_other_and_is_mended(
    store: Store, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    create_run(store, config(name="other", view="full"))
    path = store.path / "runs" / "other" / "zarr.json"
    if damage == "flipped":
        flip(path)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    assert store.run().name == "tiny"
    assert "run other: " in caplog.text
    assert [run.name for run in store.readable_runs()] == ["tiny"]
    assert store.info()["runs"] == 2
    assert create_run(store, config()).name == "tiny"
    with pytest.raises(CorruptError, match=r"run other: .*`kvtool store repair` mends it"):
        store.run("other")
    assert [(row.run, row.did) for row in repair(store)] == [
        ("other", "restored from its copy in the ledger")
    ]
    assert store.run("other").config.view == "full"
    path.unlink()
    store.remove_run("other")
    assert store.runs() == ["tiny"]


@pytest.mark.parametrize("name", ["notes.txt", "ti"])
def test_a_file_among_the_runs_is_told_and_hides_nothing(store: Store, name: str) -> None:
    """The beginning of a run's name, which users may give in its place, names no run here."""
    (store.path / "runs" / name).write_text("x")
    line = f"runs/{name}: not a file of kvtool"
    assert [(problem.run, problem.what) for problem in verify(store)] == [("", line)]
    flip(store.path / "runs" / "tiny" / "parts" / FIRST / "key" / "c.0.0.0.0")
    rows = {(row.run, row.part): row.did for row in repair(store)}
    assert rows == {("tiny", FIRST): "dropped", ("", ""): "left as it is"}
    assert [problem.what for problem in verify(store)] == [line]


@pytest.mark.slow
def test_files_in_the_place_of_folders_and_the_reverse_end_no_check(store: Store) -> None:
    copy = store.path.with_suffix(".whole")
    shutil.copytree(store.path, copy)
    for path in sorted(copy.rglob("*")):
        relative = path.relative_to(copy)
        # Without the store's own zarr.json it is none; without tmp/ nothing can be written.
        if str(relative) in ("zarr.json", "tmp"):
            continue
        target = store.path / relative
        if path.is_dir():
            shutil.rmtree(target)
            target.write_text("x")
        else:
            target.unlink()
            target.mkdir()
            (target / "notes.txt").write_text("x")
        assert verify(store), relative
        repair(store)
        shutil.rmtree(store.path)
        shutil.copytree(copy, store.path)


@pytest.mark.parametrize("path", ["roster", "roster/0000001", "roster/0000001/zarr.json"])
def test_a_segment_in_whose_place_something_else_lies_comes_back_once_that_is_gone(
    store: Store, path: str
) -> None:
    target = store.path / "runs" / "tiny" / path
    copy = shutil.copytree(store.path, store.path.with_suffix(".whole")) / "runs" / "tiny" / path
    if target.is_dir():
        shutil.rmtree(target)
        target.write_text("x")
    else:
        target.unlink()
        target.mkdir()
    flip(store.path / "results" / "abd.json")
    outcomes = [row.did for row in repair(store)]
    assert "dropped" in outcomes
    assert not any("restored" in outcome for outcome in outcomes)
    target.rmdir() if target.is_dir() else target.unlink()
    if path == "roster":
        shutil.copytree(copy, target)
    repair(store)
    assert verify(store) == []
    assert_holds(store.run(), [ragged(index) for index in range(5)])


def test_a_store_whose_own_file_is_damaged_is_restored(store: Store) -> None:
    assert not restore_root(store.path)
    flip(store.path / "zarr.json")
    with pytest.raises(CorruptError):
        open_store(store.path)
    assert restore_root(store.path)
    assert verify(open_store(store.path)) == []


def test_pruning_removes_what_belonged_to_a_run_that_is_gone(store: Store) -> None:
    create_run(store, config(name="other", view="full"))
    store.save_result(
        "of_other", {"config": {"run": "other", "run_hash": store.run("other").config.hash}}
    )
    (store.path / "tmp" / f"{dead_process().tag}-0").mkdir()
    assert [row.reason.split("/")[0] for row in prune(store)] == ["tmp"]
    store.remove_run("tiny")
    rows = prune(store, dry_run=True)
    assert sorted(row.reason.split(":")[0] for row in rows) == [
        "pictures/drawn",
        "results/abc.json",
        "results/abd.json",
    ]
    assert len(list(store.results())) == 3
    prune(store)
    assert sorted(path.name for path in store.results_dir.iterdir()) == [
        "of_other.json",
        "zarr.json",
    ]
    assert verify(store) == []


def test_info_counts_every_byte(store: Store) -> None:
    (store.path / "notes.txt").write_text("12345")
    info = store.info()
    total = sum(path.stat().st_size for path in store.path.rglob("*") if path.is_file())
    purposes = {
        name: size
        for name, size in info.items()
        if name.endswith("_bytes") and name != "free_bytes"
    }
    assert info["bytes"] == total == sum(purposes.values())
    assert purposes["other_bytes"] == 5
    assert all(
        purposes[f"{name}_bytes"]
        for name in ("parts", "texts", "results", "answers", "pictures", "metadata")
    )
    assert (info["results"], info["answers"]) == (1, 1)


def test_damaged_pictures_are_drawn_again(store: Store) -> None:
    flip(store.path / "pictures" / "drawn" / "1.png")
    folder = store.pictures("drawn", lambda: [("1.png", b"one"), ("questions.jsonl", b"{}\n")])
    assert (folder / "1.png").read_bytes() == b"one"
    assert verify(store) == []

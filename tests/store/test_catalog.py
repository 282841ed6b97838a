"""Stores, their runs and their results."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvtool.errors import (
    BusyError,
    CorruptError,
    ImageError,
    StoreError,
    UsageError,
)
from kvtool.store import existing_store, open_store, owners
from kvtool.store.sealed import group_json
from kvtool.store.verify import verify
from tests.support.runs import commit, config, create_run, dead_process, new_run, new_store, ragged


def error_of(path: Path, create: bool = False) -> str:
    with pytest.raises(StoreError) as caught:
        open_store(path, create=create)
    message = str(caught.value)
    assert message.startswith(f"store {path}")
    assert "\n" not in message
    return message


def test_a_store_is_made_once_and_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "new.kv"
    assert "expected a kvtool store, found nothing" in error_of(path)
    assert not path.exists()
    open_store(path, create=True)
    assert open_store(str(path)).runs() == []
    assert open_store(path, create=True).runs() == []


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "expected a folder, found a file" in error_of(tmp_path / "file")
    assert "expected a folder, found a file" in error_of(tmp_path / "file", create=True)


def test_a_folder_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("x")
    assert "found a folder without zarr.json" in error_of(tmp_path)
    assert "expected an empty folder for a new store, found 'holiday.jpg'" in error_of(
        tmp_path, create=True
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holiday.jpg"]


def test_a_store_of_another_version(tmp_path: Path) -> None:
    new_store(tmp_path)
    (tmp_path / "tiny.kv" / "zarr.json").write_bytes(group_json({"kvtool_store_version": 1}))
    assert "expected format version 2, found 1: use the kvtool that wrote it" in error_of(
        tmp_path / "tiny.kv"
    )


def test_a_folder_within_a_store(tmp_path: Path) -> None:
    store = new_store(tmp_path).path
    for name in ("runs", "ledger"):
        error = error_of(store / name)
        assert f"expected a kvtool store, found a folder within one: name {store}" in error


def test_a_sealed_group_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_bytes(group_json({}))
    assert "expected a kvtool store, found another Zarr group" in error_of(tmp_path)


def test_another_programs_zarr_group(tmp_path: Path) -> None:
    (tmp_path / "zarr.json").write_text(
        json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}})
    )
    assert "expected a checksum" in error_of(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_one_may_not_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "Permission denied" in error_of(tmp_path / "new.kv", create=True)
    tmp_path.chmod(0o700)


def test_runs_that_an_analysis_added_do_not_hide_the_one_they_belong_to(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    create_run(store, config())
    create_run(store, config(name="tiny+correct", prefix="correct"))
    assert [run.name for run in store.first_runs()] == ["tiny"]
    assert store.run().name == "tiny"
    assert store.run("tiny+correct").config.prefix == "correct"
    create_run(store, config(name="lone+correct", prefix="random"))
    with pytest.raises(UsageError, match=r"found runs: lone\+correct, tiny$"):
        store.run()


def test_a_run_by_name_or_the_only_one(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    with pytest.raises(UsageError, match="found runs: none"):
        store.run()
    create_run(store, config())
    assert store.run().name == "tiny"
    create_run(store, config(name="full", view="full"))
    with pytest.raises(
        UsageError, match=r"expected one run or a name \(--run, .*\), found runs: full, tiny"
    ):
        store.run()
    assert store.run("full").config.view == "full"
    with pytest.raises(UsageError, match="no run 'none'; it has: full, tiny"):
        store.run("none")


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "a b", "x" * 300, "-x"])
def test_names_that_are_no_file_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="run name"):
        new_store(tmp_path).new_run(config(name=name), [], None)


def _make(path: str, view: str) -> str | None:
    """Return the view of the run that this process made."""
    run = open_store(path, create=True).new_run(config(view=view), [], None)
    return None if run is None else run.config.view


@pytest.mark.slow
def test_processes_that_make_the_same_store_and_run_at_once(tmp_path: Path) -> None:
    """One makes it, and the others are told that they did not."""
    views = ["base", "full"] * 4
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        for attempt in range(5):
            path = str(tmp_path / f"{attempt}.kv")
            outcomes = pool.starmap(_make, [(path, view) for view in views])
            (stored,) = [view for view in outcomes if view is not None]
            assert open_store(path).run().config.view == stored
            assert [path.name for path in (tmp_path / f"{attempt}.kv" / "tmp").iterdir()] == [
                "zarr.json"
            ]


def test_a_damaged_configuration_is_named(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    path = run.folder / "zarr.json"
    path.write_bytes(path.read_bytes().replace(b'"base"', b'"full"'))
    with pytest.raises(CorruptError, match=r"run tiny: zarr\.json: expected crc32c"):
        open_store(run.store).run()


def test_removing_a_run(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    commit(run, [ragged(0)])
    store = open_store(run.store)
    create_run(store, config(name="other", view="full"))
    with (
        run.claim("0000001-0000002"),
        pytest.raises(BusyError, match="run tiny is being written by process"),
    ):
        store.remove_run("tiny")
    store.remove_run("tiny")
    assert store.runs() == ["other"]
    assert [path.name for path in (run.store / "tmp").iterdir()] == ["zarr.json"]
    with pytest.raises(UsageError, match="no run 'tiny'"):
        store.remove_run("tiny")


def test_claimed_says_whether_someone_holds_it(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    assert not run.claimed("0000000-0000004")
    with run.claim("0000000-0000004"):
        assert run.claimed("0000000-0000004")
        assert not run.claimed("0000004-0000008")
    assert not run.claimed("0000000-0000004")


def test_existing_store_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tiny.kv"
    assert existing_store(path) is None
    assert not path.exists()
    path.mkdir()
    assert existing_store(path) is None
    new_run(tmp_path)
    opened = existing_store(path)
    assert opened is not None
    assert opened.runs() == ["tiny"]


def test_results_are_kept_by_key_and_replaced(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    assert store.load_result("abc") is None
    path = store.save_result("abc", {"rows": [1, 2.5, None, "é"]})
    assert path.parent == store.results_dir
    assert store.load_result("abc") == {"rows": [1, 2.5, None, "é"]}
    store.save_result("abc", {"rows": []})
    assert store.load_result("abc") == {"rows": []}
    assert store.info()["results"] == 1
    assert [path.name for path in (store.path / "tmp").iterdir()] == ["zarr.json"]


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    path = store.save_result("abc", {"best": 0.5})
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.6"))
    with pytest.raises(
        CorruptError, match=r"abc\.json: expected crc32c.*drops it, then it is computed again"
    ):
        store.load_result("abc")
    with pytest.raises(UsageError, match="result key"):
        store.load_result("../abc")


def test_sweeping_drops_what_dead_processes_left_and_nothing_else(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    tmp = store.path / "tmp"
    dead, alive = f"{dead_process().tag}-0", f"{owners.this_process().tag}-999999"
    for name in (dead, alive, "elsewhere-1-0"):
        (tmp / name / "part").mkdir(parents=True)
    assert store.sweep_tmp() == [dead]
    names = [alive, "elsewhere-1-0", "zarr.json"]
    assert sorted(path.name for path in tmp.iterdir()) == sorted(names)


def test_results_are_listed_the_last_saved_first(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for age, key in enumerate(("c", "a", "b")):
        path = store.save_result(key, {"name": key})
        os.utime(path, ns=(10**18 - age, 10**18 - age))
    assert [result["name"] for result in store.results()] == ["c", "a", "b"]
    (store.results_dir / "a.json").write_text("{")
    assert [result["name"] for result in store.results()] == ["c", "b"]


def test_pictures_are_kept_whole_and_once(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    folder = store.keep_pictures("abc", [("1.png", b"one"), ("questions.jsonl", b"{}\n")])
    assert folder == store.pictures_dir("abc")
    assert sorted((path.name, path.read_bytes()) for path in folder.iterdir()) == [
        ("1.png", b"one"), ("manifest.json", (folder / "manifest.json").read_bytes()),
        ("questions.jsonl", b"{}\n"),
    ]  # fmt: skip
    assert store.keep_pictures("abc", [("1.png", b"another")]) == folder
    assert (folder / "1.png").read_bytes() == b"one"
    with pytest.raises(UsageError, match="key of pictures"):
        store.keep_pictures("../abc", [])

    def broken() -> Iterator[tuple[str, bytes]]:
        yield "1.png", b"one"
        raise ImageError("no such picture")

    with pytest.raises(ImageError, match="no such picture"):
        store.keep_pictures("def", broken())
    assert not store.pictures_dir("def").exists()
    assert [path.name for path in (store.path / "tmp").iterdir()] == ["zarr.json"]
    assert verify(store) == []
    (store.path / "pictures" / "stray.png").write_bytes(b"")
    assert [problem.what for problem in verify(store)] == [
        "pictures/stray.png: not a file of kvtool"
    ]

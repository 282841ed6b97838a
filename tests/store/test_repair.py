"""Repair drops what is damaged and nothing else; prune what belongs to nothing; the ledger misses
what is gone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kvtool.errors import BusyError, CorruptError, StoreError
from kvtool.store import Store, open_store
from kvtool.store.repair import prune, repair, restore_root
from kvtool.store.sealed import SEAL, UNSEALED, sealed, unsealed
from kvtool.store.verify import in_share, units, verify
from tests.support.runs import (
    assert_holds,
    commit,
    config,
    dead_process,
    finite_bits,
    new_store,
    ragged,
)

FIRST, SECOND = "0000000-0000003", "0000003-0000005"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A run of two parts and a text; two results, answers and pictures."""
    store = new_store(tmp_path)
    run = store.create_run(config())
    run.enroll([f"image{index}" for index in range(3)], "/data")
    run.enroll([f"image{index}" for index in range(5)], "/data")
    commit(run, [ragged(index) for index in range(3)])
    commit(run, [ragged(index) for index in range(3, 5)])
    run.commit_text(
        ["cat", "dog"], finite_bits(np.random.default_rng(0), (2, 2, 2, 8), np.dtype("<u2"))
    )
    about = {"run": "tiny", "run_hash": run.config.hash}
    store.save_result("abc", {"command": "probe", "config": {**about, "pictures": "drawn"}})
    store.save_result("abd", {"kind": "answers", "run": "tiny", "answers": {}})
    store.keep_pictures("drawn", [("1.png", b"one"), ("questions.jsonl", b"{}\n")])
    return store


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def every_file(store: Store) -> list[Path]:
    return sorted(path for path in store.path.rglob("*") if path.is_file() and path.stat().st_size)


def test_a_flipped_byte_of_any_file_is_found_and_mended(store: Store) -> None:
    whole = store.path.with_suffix(".whole")
    shutil.copytree(store.path, whole)
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
        shutil.copytree(whole, store.path)


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
    more = finite_bits(np.random.default_rng(1), (2, 2, 2, 8), np.dtype("<u2"))
    run.commit_text(["cow", "pig"], more)
    flip(run.folder / "text" / "0000000" / "value" / "c.0.0.0.0")
    repair(store)
    store.run().commit_text(["cat", "dog"], more)
    assert store.run().text_names == ["cow", "pig", "cat", "dog"]


@pytest.mark.parametrize(
    "path",
    [f"runs/tiny/parts/{FIRST}", "runs/tiny/text/0000000", "results/abc.json",
     "results/abd.json", "pictures/drawn", "runs/tiny"],
)  # fmt: skip
def test_what_is_gone_as_a_whole_is_missed_until_it_is_forgotten(store: Store, path: str) -> None:
    place = store.path / path
    shutil.rmtree(place) if place.is_dir() else place.unlink()
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
    one, other = store.results_dir / "abc.json", store.results_dir / "abd.json"
    aside = store.path.parent / "aside"
    one.rename(aside), other.rename(one), aside.rename(other)
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


def test_litter_of_file_managers_and_servers_is_ignored_everywhere(store: Store) -> None:
    folders = [path for path in store.path.rglob("*") if path.is_dir()]
    for folder in [store.path, *folders]:
        for name in (".DS_Store", "._x.json", ".nfs0001"):
            (folder / name).write_bytes(b"x")
        (folder / ".Trash-0").mkdir()
    assert verify(store) == []
    assert store.runs() == ["tiny"]
    assert len(list(store.results())) == 2
    assert store.count_parts() == 2
    assert_holds(store.run(), [ragged(index) for index in range(5)])


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
    found = [verify(store, share=(number, 3)) for number in (1, 2, 3)]
    assert sorted(str(problem) for problems in found for problem in problems) == sorted(
        map(str, verify(store))
    )


@pytest.mark.parametrize("damage", ["flipped", "empty", "missing"])
def test_damage_of_one_run_stops_no_other_and_is_mended(
    store: Store, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.create_run(config(name="other", view="full"))
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
    assert store.create_run(config()).name == "tiny"
    with pytest.raises(CorruptError, match=r"run other: .*`kvtool store repair` mends it"):
        store.run("other")
    assert [(row.run, row.did) for row in repair(store)] == [
        ("other", "restored from its copy in the ledger")
    ]
    assert store.run("other").config.view == "full"
    path.unlink()
    store.remove_run("other")
    assert store.runs() == ["tiny"]


def test_a_run_with_a_claim_that_nobody_can_judge_is_removed_by_force_alone(store: Store) -> None:
    (store.path / "runs" / "tiny" / "locks" / "p.claim").write_text("?")
    with pytest.raises(BusyError, match=r"an unknown process.*--force"):
        store.remove_run("tiny")
    store.remove_run("tiny", force=True)
    assert store.runs() == []


def test_a_store_whose_own_file_is_damaged_is_restored(store: Store) -> None:
    assert not restore_root(store.path)
    flip(store.path / "zarr.json")
    with pytest.raises(CorruptError):
        open_store(store.path)
    assert restore_root(store.path)
    assert verify(open_store(store.path)) == []


def test_pruning_removes_what_belonged_to_a_run_that_is_gone(store: Store) -> None:
    store.create_run(config(name="other", view="full"))
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


def test_a_store_that_cannot_be_written_costs_nobody_the_result(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def closed(*_: object) -> None:
        raise StoreError("result x: cannot be written: Read-only file system")

    monkeypatch.setattr(Store, "save_result", closed)
    assert not store.keep("x", {"best": 1})
    assert not store.keep("y", {"kind": "answers"})
    assert not store.keep("z", {"kind": "answers"})
    assert caplog.text.count("the result is given all the same") == 2


def test_damaged_pictures_are_drawn_again(store: Store) -> None:
    flip(store.path / "pictures" / "drawn" / "1.png")
    folder = store.pictures("drawn", lambda: [("1.png", b"one"), ("questions.jsonl", b"{}\n")])
    assert (folder / "1.png").read_bytes() == b"one"
    assert verify(store) == []


def mutations(value: object) -> list[object]:
    """A JSON value with one member of another type, or without it, at every place."""
    found: list[object] = [None, "x", -1, [], {}]
    if isinstance(value, dict):
        for name in value:
            found.append({key: member for key, member in value.items() if key != name})
            found += [{**value, name: changed} for changed in mutations(value[name])]
    elif isinstance(value, list) and value:
        found += [[changed, *value[1:]] for changed in mutations(value[0])]
    return found


@pytest.mark.parametrize("group", ["", f"parts/{FIRST}", "text/0000000", "roster/0000001"])
def test_metadata_of_wrong_types_under_a_valid_seal_is_an_error_of_ours(
    store: Store, group: str
) -> None:
    path = store.path / "runs" / "tiny" / group / "zarr.json"
    document = unsealed(path.read_bytes(), "")
    attributes = {key: value for key, value in document["attributes"].items() if key != SEAL}
    for changed in mutations(attributes):
        if not isinstance(changed, dict):
            continue
        path.write_bytes(sealed({**document, "attributes": {SEAL: UNSEALED, **changed}}))
        verify(store)
        try:
            run = store.run("tiny")
            for image in run.ids:
                run.read_image(image)
            run.text_values(1, 0)
            run.info()
            assert len(run.roster.ids) < 100
        except StoreError:
            continue


def test_deep_json_is_damage() -> None:
    deep = b'{"kvtool_crc32c": "00000000", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    from kvtool.store.files import crc32c

    data = deep.replace(b"00000000", b"%08x" % crc32c(deep), 1)
    with pytest.raises(CorruptError):
        unsealed(data, "here")


def _may_unshare() -> bool:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not _may_unshare(), reason="needs unshare and the right to use it")
def test_writers_in_containers_that_hide_their_processes_lose_nothing(tmp_path: Path) -> None:
    """Four writers with process ids of their own sweep while the others write."""
    path = tmp_path / "tiny.kv"
    code = f"from tests.store.worker import work_to_the_end; work_to_the_end({str(path)!r})"
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    workers = [
        subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
        for _ in range(4)
    ]
    assert [worker.wait() for worker in workers] == [0] * 4
    from tests.store.worker import IMAGES

    store = open_store(path)
    assert verify(store) == []
    assert_holds(store.run(), IMAGES)
    assert json.loads(json.dumps(store.info()))["images"] == len(IMAGES)

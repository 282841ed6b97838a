"""An extraction over a folder that moved, was copied or grew since it was stored."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import kvtool
from kvtool.engine.outcome import Report
from kvtool.errors import ChangedError, CorruptError
from kvtool.store.verify import verify
from tests.engine.match.folders import counts, extract, replace_pictures, values
from tests.support.tiny import noise


@pytest.mark.slow
def test_a_second_folder_with_the_same_names_is_another_run(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    store, copy = tmp_path / "s.kv", tmp_path / "other"
    shutil.copytree(few, copy)
    replace_pictures(copy, "0", "1", "2", "3", "4", "5")
    first = extract(store, tiny_model, few)
    second = extract(store, tiny_model, copy)
    assert counts(second) == (0, 6)
    assert first.run.startswith("tiny-folder-few-")
    assert second.run.startswith("tiny-folder-other-")
    opened = kvtool.open(store)
    assert not np.array_equal(
        values(opened.run(first.run), "0.png"), values(opened.run(second.run), "0.png")
    )
    assert (
        counts(extract(store, tiny_model, few))
        == counts(extract(store, tiny_model, copy))
        == (6, 0)
    )


@pytest.mark.slow
def test_a_copy_with_some_pictures_changed_is_another_run_even_while_the_first_is_unfinished(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    """All that is stored so far is the same; what is not stored yet is not."""
    store, copy = tmp_path / "s.kv", tmp_path / "sub" / "few"
    shutil.copytree(few, copy)
    replace_pictures(copy, "5")
    first = extract(store, tiny_model, few, limit=2)
    second = extract(store, tiny_model, copy)
    assert (second.run, counts(second)) == (f"{first.run}-2", (0, 6))
    assert counts(extract(store, tiny_model, few)) == (2, 4)


@pytest.mark.slow
def test_a_moved_folder_is_recognized_and_its_new_place_kept(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    store, moved = tmp_path / "s.kv", tmp_path / "moved"
    first = extract(store, tiny_model, few)
    few.rename(moved)
    report = extract(store, tiny_model, moved)
    assert (report.run, counts(report)) == (first.run, (6, 0))
    assert kvtool.open(store).run().place == str(moved)


@pytest.mark.slow
def test_a_copy_is_recognized_while_the_original_stays(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    store, copy = tmp_path / "s.kv", tmp_path / "copy"
    extract(store, tiny_model, few, limit=4)
    shutil.copytree(few, copy)
    assert counts(extract(store, tiny_model, copy)) == (4, 2)
    assert counts(extract(store, tiny_model, few)) == (6, 0)
    assert len(kvtool.open(store).runs()) == 1


@pytest.mark.slow
def test_a_folder_that_grew_continues_its_run(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    """New names stand before, between and after the old ones: indices stay, nothing doubles."""
    store = tmp_path / "s.kv"
    first = extract(store, tiny_model, few)
    for name in ("00", "25", "9"):
        noise(30, 30, int(name)).save(few / f"{name}.png")
    report = extract(store, tiny_model, few)
    assert (report.run, counts(report)) == (first.run, (6, 3))
    run = kvtool.open(store).run()
    assert run.ids == [
        "0.png",
        "1.png",
        "2.png",
        "3.png",
        "4.png",
        "5.png",
        "00.png",
        "25.png",
        "9.png",
    ]
    assert [sample.index for sample in run.samples] == list(range(9))
    assert counts(extract(store, tiny_model, few)) == (9, 0)
    assert verify(kvtool.open(store)) == []


@pytest.mark.slow
def test_a_folder_that_grew_under_a_limit(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    store = tmp_path / "s.kv"
    extract(store, tiny_model, few, limit=3)
    noise(30, 30, 7).save(few / "00.png")
    assert counts(extract(store, tiny_model, few, limit=3)) == (2, 1)
    assert set(kvtool.open(store).run().ids) == {"0.png", "00.png", "1.png", "2.png"}
    assert counts(extract(store, tiny_model, few)) == (4, 3)


@pytest.mark.slow
def test_a_folder_that_moved_and_grew(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    store, moved = tmp_path / "s.kv", tmp_path / "moved"
    first = extract(store, tiny_model, few)
    few.rename(moved)
    noise(30, 30, 7).save(moved / "00.png")
    report = extract(store, tiny_model, moved)
    assert (report.run, counts(report)) == (first.run, (6, 1))


@pytest.mark.slow
def test_lists_of_paths_that_meet_share_a_run(
    tmp_path: Path, tiny_model: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    def listed(*names: str) -> Report:
        monkeypatch.setattr(
            sys, "stdin", io.StringIO("".join(f"{few}/{name}.png\n" for name in names))
        )
        return kvtool.extract(tmp_path / "s.kv", model=str(tiny_model), dataset="folder:-")

    first = listed("0", "1")
    assert (listed("0", "1", "2").run, counts(listed("0", "1"))) == (first.run, (2, 0))
    report = listed("4", "5")
    assert (report.run, counts(report)) == (f"{first.run}-2", (0, 2))
    replace_pictures(few, "0")
    with pytest.raises(ChangedError, match=r"1 picture changed \(.*0\.png\)"):
        listed("0", "1")


@pytest.mark.slow
def test_damage_of_a_run_over_another_folder_stops_nobody(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    store, copy = tmp_path / "s.kv", tmp_path / "other"
    shutil.copytree(few, copy)
    replace_pictures(copy, "0", "1", "2", "3", "4", "5")
    first = extract(store, tiny_model, few)
    part = next((kvtool.open(store).run(first.run).folder / "parts").glob("0*"))
    (part / "zarr.json").write_bytes(b"{}")
    second = extract(store, tiny_model, copy)
    assert (second.run != first.run, counts(second)) == (True, (0, 6))
    with pytest.raises(CorruptError, match="store repair"):
        extract(store, tiny_model, few)

"""Which run an extraction goes on with: by what its pictures are, wherever they lie and whatever
they are called.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.engine import local
from kvtool.engine.outcome import Report
from kvtool.engine.plan import Job
from kvtool.errors import (
    BusyError,
    ChangedError,
    CorruptError,
    DatasetError,
    RunConflictError,
    UsageError,
)
from kvtool.store import Run
from kvtool.store.verify import verify
from tests.support.tiny import noise


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Six pictures."""
    folder = tmp_path / "few"
    folder.mkdir()
    for i in range(6):
        noise(40 + i, 60 - i, i).save(folder / f"{i}.png")
    return folder


def extract(store: Path, model: Path, folder: Path, **options: Any) -> Report:
    return kvtool.extract(store, model=str(model), dataset=f"folder:{folder}", **options)


def values(run: Run, image: str) -> np.ndarray[Any, Any]:
    return np.asarray(run.read_image(image)["value"])


def counts(report: Report) -> tuple[int, int]:
    return report.n_before, report.n_done


def replace_pictures(folder: Path, *names: str) -> None:
    for name in names:
        size = (50, 40)
        noise(*size, 1000 + int(name)).save(folder / f"{name}.png")


def test_replaced_pictures_are_named_and_nothing_is_touched(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    store = tmp_path / "s.kv"
    first = extract(store, tiny_model, few)
    before = values(kvtool.open(store).run(), "2.png")
    replace_pictures(few, "2", "4")
    (few / "5.png").unlink()
    with pytest.raises(ChangedError) as caught:
        extract(store, tiny_model, few)
    message = str(caught.value)
    assert "2 pictures changed (2.png, 4.png) and 1 picture vanished (5.png)" in message
    assert "--changed replace" in message
    assert "\n" not in message
    run = kvtool.open(store).run()
    assert (run.name, len(run.ids)) == (first.run, 6)
    assert np.array_equal(values(run, "2.png"), before)
    with pytest.raises(ChangedError):
        local.estimate(Job(str(store), str(tiny_model), f"folder:{few}"))


def test_replacing_extracts_what_changed_and_leaves_out_what_vanished(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    store = tmp_path / "s.kv"
    first = extract(store, tiny_model, few)
    replace_pictures(few, "2")
    (few / "5.png").unlink()
    planned = local.estimate(Job(str(store), str(tiny_model), f"folder:{few}", changed="replace"))
    report = extract(store, tiny_model, few, changed="replace")
    assert (report.run, report.n_done, planned.n_todo) == (first.run, 5, 5)
    run = kvtool.open(store).run()
    assert run.ids == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    extract(tmp_path / "new.kv", tiny_model, few)
    for image in run.ids:
        assert np.array_equal(
            values(run, image), values(kvtool.open(tmp_path / "new.kv").run(), image)
        )
    assert counts(extract(store, tiny_model, few)) == (5, 0)
    assert verify(kvtool.open(store)) == []


def test_a_picture_that_comes_back_is_extracted_again(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    store, aside = tmp_path / "s.kv", tmp_path / "5.png"
    extract(store, tiny_model, few)
    (few / "5.png").rename(aside)
    assert counts(extract(store, tiny_model, few, changed="replace")) == (0, 5)
    aside.rename(few / "5.png")
    assert counts(extract(store, tiny_model, few)) == (5, 1)
    assert verify(kvtool.open(store)) == []


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


def test_a_moved_folder_is_recognized_and_its_new_place_kept(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    store, moved = tmp_path / "s.kv", tmp_path / "moved"
    first = extract(store, tiny_model, few)
    few.rename(moved)
    report = extract(store, tiny_model, moved)
    assert (report.run, counts(report)) == (first.run, (6, 0))
    assert kvtool.open(store).run().place == str(moved)


def test_a_copy_is_recognized_while_the_original_stays(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    store, copy = tmp_path / "s.kv", tmp_path / "copy"
    extract(store, tiny_model, few, limit=4)
    shutil.copytree(few, copy)
    assert counts(extract(store, tiny_model, copy)) == (4, 2)
    assert counts(extract(store, tiny_model, few)) == (6, 0)
    assert len(kvtool.open(store).runs()) == 1


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


def test_a_folder_that_grew_under_a_limit(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    store = tmp_path / "s.kv"
    extract(store, tiny_model, few, limit=3)
    noise(30, 30, 7).save(few / "00.png")
    assert counts(extract(store, tiny_model, few, limit=3)) == (2, 1)
    assert set(kvtool.open(store).run().ids) == {"0.png", "00.png", "1.png", "2.png"}
    assert counts(extract(store, tiny_model, few)) == (4, 3)


def test_a_folder_that_moved_and_grew(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    store, moved = tmp_path / "s.kv", tmp_path / "moved"
    first = extract(store, tiny_model, few)
    few.rename(moved)
    noise(30, 30, 7).save(moved / "00.png")
    report = extract(store, tiny_model, moved)
    assert (report.run, counts(report)) == (first.run, (6, 1))


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


def test_touched_but_unchanged_pictures_are_the_same(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    store = tmp_path / "s.kv"
    extract(store, tiny_model, few)
    for path in few.iterdir():
        os.utime(path, (1, 1))
    assert counts(extract(store, tiny_model, few)) == (6, 0)


def test_same_name_and_settings_differ_is_a_conflict(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    extract(tmp_path / "s.kv", tiny_model, few, run="mine", limit=1)
    with pytest.raises(RunConflictError, match="view: stored 'base', asked 'full'"):
        extract(tmp_path / "s.kv", tiny_model, few, run="mine", view="full")


def test_a_named_run_keeps_both(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    store = tmp_path / "s.kv"
    first = extract(store, tiny_model, few)
    replace_pictures(few, "0")
    assert counts(extract(store, tiny_model, few, run="again")) == (0, 6)
    opened = kvtool.open(store)
    assert not np.array_equal(
        values(opened.run(first.run), "0.png"), values(opened.run("again"), "0.png")
    )


def test_another_processes_part_is_not_replaced(
    tmp_path: Path, tiny_model: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvtool.engine.match.CLAIM_WAIT_S", 0.0)
    store = tmp_path / "s.kv"
    extract(store, tiny_model, few)
    replace_pictures(few, "0")
    run = kvtool.open(store).run()
    with run.claim(run.config.claim_name(0)), pytest.raises(BusyError):
        extract(store, tiny_model, few, changed="replace")
    assert len(run.ids) == 6


def test_the_same_weights_elsewhere_are_the_same_model(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tiny_model, elsewhere)
    first = extract(tmp_path / "s.kv", tiny_model, few)
    second = extract(tmp_path / "s.kv", elsewhere, few)
    assert (second.run, counts(second)) == (first.run, (6, 0))


def test_explicit_defaults_are_the_defaults(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    store = tmp_path / "s.kv"
    first = extract(store, tiny_model, few)
    kinds = ("vision", "projected", "value", "key")
    again = extract(store, tiny_model, few, kinds=kinds, layers=(2, 1, 0))
    assert (again.run, counts(again)) == (first.run, (6, 0))
    assert extract(store, tiny_model, few, layers=(1,)).run != first.run


def test_nothing_to_do_imports_no_torch(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    store = tmp_path / "s.kv"
    extract(store, tiny_model, few)
    code = (
        "import sys, kvtool\n"
        f"report = kvtool.extract({str(store)!r}, model={str(tiny_model)!r}, "
        f"dataset='folder:{few}')\n"
        "print(report.n_before, report.n_done, *sorted({'torch', 'transformers', 'zarr'} & "
        "sys.modules.keys()))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert told.split() == ["6", "0"]


def test_pictures_of_other_contents_are_refused_to_analyses(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    from kvtool.datasets.identity import dataset_of

    extract(tmp_path / "s.kv", tiny_model, few)
    run = kvtool.open(tmp_path / "s.kv").run()
    assert [ref.id for ref in dataset_of(run).images()] == run.ids
    copy = tmp_path / "other"
    shutil.copytree(few, copy)
    (copy / "1.png").unlink()
    assert len(dataset_of(run, copy).images()) == 5
    replace_pictures(copy, "3")
    with pytest.raises(DatasetError, match=r"found other ones: 1 picture changed \(3\.png\)"):
        dataset_of(run, copy)


def test_a_worker_that_planned_before_the_run_was_there_joins_it(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    """It chose a name when the other had just taken the first one."""
    from kvtool.engine.match import open_extraction
    from kvtool.engine.plan import make_plan
    from kvtool.models import load_model
    from kvtool.store import open_store

    store = open_store(tmp_path / "s.kv", create=True)
    job = Job(str(tmp_path / "s.kv"), str(tiny_model), f"folder:{few}")
    extraction, model = open_extraction(job), load_model(str(tiny_model), weights=False)
    first = make_plan(extraction, model, None, store).open_run(store)
    late = make_plan(extraction, model, None, store)
    assert late.config.name == f"{first.name}-2"
    assert late.open_run(store).name == first.name
    assert store.runs() == [first.name]


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


def test_no_layer_at_all_is_no_default(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    extract(tmp_path / "s.kv", tiny_model, few)
    with pytest.raises(UsageError, match="expected at least one"):
        extract(tmp_path / "s.kv", tiny_model, few, layers=())


def test_a_kept_result_of_the_pictures_before_is_not_given_for_those_that_replaced_them(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    """Same run, same ids, other pictures."""
    store = tmp_path / "s.kv"
    extract(store, tiny_model, few)
    first = kvtool.variance(kvtool.open(store).run())
    before = kvtool.open(store).run().images_hash()
    for path in few.iterdir():
        noise(50, 40, 77 + int(path.stem)).save(path)
    extract(store, tiny_model, few, changed="replace")
    second = kvtool.variance(kvtool.open(store).run())
    assert kvtool.open(store).run().images_hash() != before
    assert [row["variance"] for row in second.rows] != [row["variance"] for row in first.rows]
    assert second.rows == kvtool.variance(kvtool.open(store).run(), fresh=True).rows

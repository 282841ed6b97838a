"""An extraction over pictures that changed or vanished since they were stored."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import kvtool
from kvtool.engine import local
from kvtool.engine.plan import Job
from kvtool.errors import BusyError, ChangedError, DatasetError
from kvtool.store.verify import verify
from tests.engine.match.folders import counts, extract, replace_pictures, values
from tests.support.hub import cached
from tests.support.tiny import noise


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_touched_but_unchanged_pictures_are_the_same(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    store = tmp_path / "s.kv"
    extract(store, tiny_model, few)
    for path in few.iterdir():
        os.utime(path, (1, 1))
    assert counts(extract(store, tiny_model, few)) == (6, 0)


@pytest.mark.slow
def test_a_named_run_keeps_both(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    store = tmp_path / "s.kv"
    first = extract(store, tiny_model, few)
    replace_pictures(few, "0")
    assert counts(extract(store, tiny_model, few, run="again")) == (0, 6)
    opened = kvtool.open(store)
    assert not np.array_equal(
        values(opened.run(first.run), "0.png"), values(opened.run("again"), "0.png")
    )


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.fixture
def later_commit(
    hub: Path, tmp_path: Path, tiny_model: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A store of a hub model's run, of which the cache then has a later commit with the same
    weights, which are still to be fetched.
    """
    cached(hub, tiny_model, "main")
    extract(tmp_path / "s.kv", Path("acme/tiny"), few)
    snapshot = cached(hub, tiny_model, "main", commit="f" * 40)
    weights = snapshot / "model.safetensors"
    blob = weights.readlink()
    weights.unlink()

    def download(_repo: str, **_options: object) -> str:
        weights.unlink(missing_ok=True)
        weights.symlink_to(blob)
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return tmp_path / "s.kv"


@pytest.mark.slow
def test_pictures_are_replaced_in_a_run_that_is_known_once_the_weights_are_there(
    later_commit: Path, tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    name = kvtool.open(later_commit).run().name
    replace_pictures(few, "2")
    report = extract(later_commit, Path("acme/tiny"), few, changed="replace")
    assert report.run == name
    assert counts(report) == (0, 6)
    extract(tmp_path / "new.kv", tiny_model, few)
    stored, fresh = kvtool.open(later_commit).run(), kvtool.open(tmp_path / "new.kv").run()
    for image in fresh.ids:
        assert np.array_equal(values(stored, image), values(fresh, image))


@pytest.mark.slow
def test_changed_pictures_of_a_run_that_is_known_once_the_weights_are_there_are_refused(
    later_commit: Path, few: Path
) -> None:
    before = values(kvtool.open(later_commit).run(), "2.png")
    replace_pictures(few, "2")
    with pytest.raises(ChangedError, match=r"1 picture changed \(2\.png\)"):
        extract(later_commit, Path("acme/tiny"), few)
    assert np.array_equal(values(kvtool.open(later_commit).run(), "2.png"), before)


@pytest.mark.slow
def test_pictures_that_were_added_are_listed_in_a_run_that_is_known_once_the_weights_are_there(
    later_commit: Path, few: Path
) -> None:
    noise(50, 40, 9).save(few / "9.png")
    report = extract(later_commit, Path("acme/tiny"), few, limit=6)
    assert counts(report) == (6, 0)
    assert "9.png" in kvtool.open(later_commit).run().roster.index_of

"""kvtool.extract on tiny real models and real files."""

from __future__ import annotations

import os
import shutil
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kvtool
from kvtool.engine import local, pipeline, processes
from kvtool.engine.outcome import Report
from kvtool.engine.pipeline import Event
from kvtool.engine.plan import Job
from kvtool.errors import (
    BusyError,
    DatasetError,
    ImageError,
    KvtoolError,
    ModelError,
    RunConflictError,
    UsageError,
)
from kvtool.store import Run, open_store
from kvtool.store.verify import verify


@pytest.fixture
def few(tmp_path: Path, pictures: Path) -> Path:
    """Six pictures of a test's own."""
    folder = tmp_path / "few"
    folder.mkdir()
    for i in range(6):
        shutil.copy(pictures / f"{i:03d}.png", folder)
    return folder


def test_values_are_those_of_the_model(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    from kvtool.datasets import open_dataset
    from kvtool.datasets.images import load_image
    from kvtool.models import load_model

    report = kvtool.extract(
        tmp_path / "s.kv", model=str(tiny_model), dataset=f"folder:{few}", dtype="float32"
    )
    assert (report.n_images, report.n_done, report.n_before, report.n_missing, report.failed) == (
        6,
        6,
        0,
        0,
        {},
    )
    run = kvtool.open(tmp_path / "s.kv").run()
    model = load_model(str(tiny_model), dtype="float32")
    for index, ref in enumerate(open_dataset(f"folder:{few}").images()):
        item = model.prepare(load_image(ref), id=ref.id, index=index)
        single = model.capture([item], model.request(None, None, "post-rope"))
        stored = run.read_image(ref.id)
        for kind, arrays in single.arrays.items():
            np.testing.assert_allclose(stored[kind], arrays[0], rtol=1e-4, atol=1e-5)
        for name, arrays in single.text.items():
            np.testing.assert_allclose(stored[f"text_{name}"], arrays[0], rtol=1e-4, atol=1e-5)


def test_again_is_nothing_to_do_and_more_goes_on(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    def extract(limit: int | None) -> Report:
        return kvtool.extract(
            tmp_path / "s.kv", model=str(tiny_model), dataset=f"folder:{few}", limit=limit
        )

    assert extract(2).n_done == 2
    again = extract(2)
    assert (again.n_before, again.n_done, again.n_bytes) == (2, 0, 0)
    assert extract(None).n_done == 4
    assert len(kvtool.open(tmp_path / "s.kv").run().samples) == 6


def test_bad_images_are_listed_and_mended_ones_follow(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    good = (few / "002.png").read_bytes()
    (few / "002.png").write_bytes(good[: len(good) // 2])
    (few / "004.png").write_bytes(b"")
    store = tmp_path / "s.kv"
    report = kvtool.extract(store, model=str(tiny_model), dataset=f"folder:{few}")
    assert [failure.id for failure in report.failed.values()] == ["002.png", "004.png"]
    assert (report.n_done, report.n_missing) == (4, 0)
    (few / "002.png").write_bytes(good)
    second = kvtool.extract(store, model=str(tiny_model), dataset=f"folder:{few}")
    assert (second.n_before, second.n_done, list(second.failed)) == (4, 1, [4])
    opened = kvtool.open(store)
    assert opened.run().ids == ["000.png", "001.png", "002.png", "003.png", "005.png"]
    assert verify(opened) == []


def test_mended_images_at_both_ends_of_a_part(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    """The part of those between must not stand in the way of theirs."""
    ends = [few / "000.png", few / "005.png"]
    good = [path.read_bytes() for path in ends]
    for path in ends:
        path.write_bytes(b"")
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"folder:{few}"}
    assert list(kvtool.extract(tmp_path / "s.kv", **options).failed) == [0, 5]
    for path, data in zip(ends, good, strict=True):
        path.write_bytes(data)
    report = kvtool.extract(tmp_path / "s.kv", **options)
    assert (report.n_before, report.n_done, report.n_missing) == (4, 2, 0)
    opened = kvtool.open(tmp_path / "s.kv")
    assert opened.run().ids == [f"{i:03d}.png" for i in range(6)]
    assert verify(opened) == []


def test_a_run_keeps_its_blocks_whatever_the_images_seem_to_take(
    tmp_path: Path, tiny_model: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their estimate depends on --limit and on which images can be read; the run goes on all the
    same.
    """
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"folder:{few}", "view": "full"}
    monkeypatch.setattr("kvtool.engine.plan.PART_IMAGES", 4)
    first = kvtool.extract(tmp_path / "s.kv", limit=1, **options)
    monkeypatch.setattr("kvtool.engine.plan.PART_IMAGES", 2)
    second = kvtool.extract(tmp_path / "s.kv", **options)
    assert (second.run, second.n_before, second.n_done) == (first.run, 1, 5)
    assert [part.name for part in kvtool.open(tmp_path / "s.kv").run().parts()] == [
        "0000000-0000001",
        "0000001-0000004",
        "0000004-0000006",
    ]


def test_a_request_that_fails_leaves_no_run(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    broken = tmp_path / "model"
    shutil.copytree(tiny_model, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="weights"):
        kvtool.extract(tmp_path / "s.kv", model=str(broken), dataset=f"folder:{few}")
    assert kvtool.open(tmp_path / "s.kv").runs() == []


def test_a_worker_that_dies_is_an_error(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    open_store(tmp_path / "s.kv", create=True)
    job = Job(str(tmp_path / "s.kv"), str(tiny_model), f"folder:{tmp_path}")
    no_plan: Any = None
    with pytest.raises(KvtoolError, match="found it dead"):
        processes.run_processes(job, no_plan, ("cpu",), lambda _: None)
    assert "AttributeError" in capfd.readouterr().err


def test_strict_stops_and_keeps_what_was_stored(
    tmp_path: Path, tiny_model: Path, pictures: Path
) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    (folder / "069.png").write_bytes(b"no picture")
    store = tmp_path / "s.kv"
    with pytest.raises(ImageError, match=r"069\.png"):
        kvtool.extract(store, model=str(tiny_model), dataset=f"folder:{folder}", strict=True)
    assert verify(kvtool.open(store)) == []
    run = kvtool.open(store).run()
    assert len(run.samples) % 32 == 0
    with run.claim("0000064-0000096"):
        """Nothing is left claimed."""


def test_several_processes_share_a_run(tmp_path: Path, tiny_model: Path, pictures: Path) -> None:
    events: list[Event] = []
    report = kvtool.extract(
        tmp_path / "s.kv",
        model=str(tiny_model),
        dataset=f"folder:{pictures}",
        devices=("cpu", "cpu"),
        wait_s=60,
        tell=events.append,
    )
    assert (report.n_done, report.n_missing) == (70, 0)
    assert sum(event.n for event in events if event.what == "done") == 70
    assert verify(kvtool.open(tmp_path / "s.kv")) == []


def test_two_calls_count_what_each_of_them_did(
    tmp_path: Path, tiny_model: Path, pictures: Path
) -> None:
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"folder:{pictures}"}
    reports: list[Report] = []

    def meanwhile(event: Event) -> None:
        if event.what == "done" and not reports:
            reports.append(kvtool.extract(tmp_path / "s.kv", **options))

    report = kvtool.extract(tmp_path / "s.kv", tell=meanwhile, wait_s=60, **options)
    assert report.n_done + report.n_by_others == 70
    assert report.n_done + reports[0].n_done == 70
    assert report.n_missing == 0


def test_a_part_held_by_another_is_busy_and_named(
    tmp_path: Path, tiny_model: Path, few: Path
) -> None:
    store = tmp_path / "s.kv"
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"folder:{few}"}
    kvtool.extract(store, limit=1, **options)
    run = kvtool.open(store).run()
    with run.claim("0000000-0000032"):
        report = kvtool.extract(store, **options)
    assert report.n_missing == 5
    assert f"process {os.getpid()}" in report.busy[0]
    assert kvtool.extract(store, **options).n_done == 5


def test_wait_takes_over_when_the_other_ends(
    tmp_path: Path, tiny_model: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "s.kv"
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"folder:{few}"}
    kvtool.extract(store, limit=1, **options)
    claim = kvtool.open(store).run().claim("0000000-0000032")
    claim.__enter__()
    monkeypatch.setattr(time, "sleep", lambda _: claim.__exit__(None, None, None))
    assert kvtool.extract(store, wait_s=60, **options).n_done == 5


def test_same_name_other_configuration(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    store = tmp_path / "s.kv"
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"folder:{few}", "run": "mine"}
    kvtool.extract(store, **options)
    with pytest.raises(RunConflictError, match=r"mine.*dtype|mine.*model"):
        kvtool.extract(store, dtype="float32", **options)
    assert len(kvtool.open(store).run("mine").samples) == 6


def test_estimate_writes_nothing_and_is_true(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    job = Job(str(tmp_path / "s.kv"), str(tiny_model), f"folder:{few}", codec="none")
    estimate = local.estimate(job)
    assert not (tmp_path / "s.kv").exists()
    assert (estimate.n_images, estimate.n_todo) == (6, 6)
    local.extract(job)
    run = kvtool.open(tmp_path / "s.kv").run()
    raw = sum(
        array.nbytes
        for sample in run.samples
        for array in run.read_image(sample.id, raw=True).values()
    )
    assert raw == estimate.todo_bytes
    assert local.estimate(job).n_todo == 0


def test_no_memory_for_a_batch_halves_it(
    tmp_path: Path, tiny_model: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from kvtool.models.families.llava_onevision import LlavaOnevision

    capture, sizes = LlavaOnevision.capture, []

    def limited(self: LlavaOnevision, batch: list[object], request: object) -> object:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return capture(self, batch, request)  # type: ignore[arg-type]

    monkeypatch.setattr(LlavaOnevision, "capture", limited)
    report = kvtool.extract(
        tmp_path / "s.kv", model=str(tiny_model), dataset=f"folder:{few}", batch_size=6
    )
    assert report.n_done == 6
    assert sizes[0] == 6
    monkeypatch.setattr(
        LlavaOnevision, "capture", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("none"))
    )
    with pytest.raises(KvtoolError, match=r"000\.png.*found no memory left"):
        kvtool.extract(tmp_path / "t.kv", model=str(tiny_model), dataset=f"folder:{few}")


def test_memory_does_not_grow_with_images(
    tmp_path: Path, tiny_model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts alive at once: one prepared, one ready, one running, one waiting, one being written."""
    parts: weakref.WeakSet[pipeline.PartWork] = weakref.WeakSet()
    alive: list[int] = []
    commit = Run.commit_part

    class Counted(pipeline.PartWork):
        __hash__ = object.__hash__

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            parts.add(self)

    def slow(self: Run, *args: Any, **kwargs: Any) -> int:
        time.sleep(0.05)
        alive.append(len(parts))
        return commit(self, *args, **kwargs)

    monkeypatch.setattr(pipeline, "PartWork", Counted)
    monkeypatch.setattr(Run, "commit_part", slow)
    monkeypatch.setattr("kvtool.engine.plan.PART_IMAGES", 4)
    kvtool.extract(tmp_path / "s.kv", model=str(tiny_model), dataset=f"folder:{pictures}")
    assert len(alive) == 18
    assert 1 <= max(alive) <= 5


def test_prefixes_reach_the_model(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    store = tmp_path / "s.kv"
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"folder:{few}"}
    none = kvtool.extract(store, **options)
    text = kvtool.extract(store, prefix="text:the red cat", **options)
    assert none.run != text.run
    opened = kvtool.open(store)
    with_text, without = opened.run(text.run), opened.run(none.run)
    sample = with_text.samples[0]
    assert sample.prefix == "the red cat"
    assert len(sample.prefix_ids) == sample.image_start > without.samples[0].image_start
    assert not np.array_equal(with_text.read("value", 1).values, without.read("value", 1).values)


def test_prefixes_that_some_or_all_images_lack(tmp_path: Path, tiny_model: Path) -> None:
    from tests.support.datasets import coco

    root = coco(tmp_path / "coco")
    options: dict[str, Any] = {
        "model": str(tiny_model),
        "dataset": f"coco:{root}",
        "prefix": "correct",
    }
    report = kvtool.extract(tmp_path / "s.kv", **options)
    assert report.n_done > 0
    assert list(report.failed) == [2]
    (root / "annotations" / "captions_val2014.json").unlink()
    with pytest.raises(DatasetError, match=r"annotations/captions_val2014\.json"):
        kvtool.extract(tmp_path / "s.kv", **options)


def test_texts_that_came_later_are_stored_too(tmp_path: Path, tiny_model: Path) -> None:
    from tests.support.datasets import coco

    root = coco(tmp_path / "coco")
    instances = root / "annotations" / "instances_val2014.json"
    text = instances.read_text()
    instances.write_text(text.replace('"dog"', '"cat"'))
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"coco:{root}"}
    kvtool.extract(tmp_path / "s.kv", **options)
    instances.write_text(text)
    again = kvtool.extract(tmp_path / "s.kv", **options)
    assert again.n_before == again.n_images
    assert kvtool.open(tmp_path / "s.kv").run().text_names == ["person", "cat", "dog"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": ("cuda:0",)}, "expected cuda:0 to exist"),
        ({"devices": ("gpu",)}, "gpu"),
        ({"layers": (99,)}, "99"),
        ({"kinds": ("values",)}, "values"),
        ({"prefix": "correct"}, "correct"),
        ({"limit": 0}, "limit"),
        ({"engine": "ray"}, "kvtool\\[ray\\]"),
        ({"devices": ("cuda:x",)}, "cuda:x"),
        ({"run": "a/b"}, "run name"),
        ({"keys": "pre-rope", "kinds": ("value", "vision")}, "--keys pre-rope"),
    ],
)
def test_bad_options(
    tmp_path: Path, tiny_model: Path, few: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((UsageError, BusyError), match=message):
        kvtool.extract(tmp_path / "s.kv", model=str(tiny_model), dataset=f"folder:{few}", **options)


def test_pictures_of_every_make(tmp_path: Path, tiny_model: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    Image.new("L", (20_000, 3)).save(folder / "wide.png")
    Image.new("CMYK", (20, 30)).save(folder / "cmyk.jpg")
    report = kvtool.extract(tmp_path / "s.kv", model=str(tiny_model), dataset=f"folder:{folder}")
    assert (report.n_done, report.failed) == (3, {})

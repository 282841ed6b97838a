"""Features before the decoder taken from a run of another prefix: the same bytes, without pictures
and tower.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.engine import local
from kvtool.engine.events import Event
from kvtool.engine.match import open_extraction
from kvtool.engine.outcome import Report
from kvtool.engine.plan import Job, make_plan
from kvtool.engine.ray import RayTask
from kvtool.engine.ready_parts import prepare_one
from kvtool.engine.reuse import open_source
from kvtool.engine.worker import work
from kvtool.errors import UsageError
from kvtool.models import load_model
from kvtool.models.families.llava_onevision import LlavaOnevision
from kvtool.store import Run, open_store
from kvtool.store.verify import verify
from tests.support.runs import create_run
from tests.support.tiny import noise

PREFIX = "text:the red cat"


@pytest.fixture
def many(tmp_path: Path, pictures: Path) -> Path:
    """Forty pictures of different sizes: two parts."""
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(40):
        shutil.copy(pictures / f"{i:03d}.png", folder)
    return folder


@pytest.fixture
def no_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LlavaOnevision, "encode", lambda *_: pytest.fail("the tower ran"))


def contents(run: Run) -> dict[str, bytes]:
    """Every file of a run's parts and texts."""
    folders = [run.folder / "parts", run.folder / "text"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(run.folder)): path.read_bytes() for path in files}


def extracted(store: Path, model: Path, dataset: str, **options: Any) -> tuple[Report, Run]:
    report = kvtool.extract(store, model=str(model), dataset=dataset, **options)
    return report, kvtool.open(store).run(report.run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({"dtype": "bfloat16"}, {"kinds": ("key", "value")}),
        ({"prefix": "random"}, {"prefix": "none", "keys": "pre-rope"}),
        ({"kinds": ("projected",)}, {"kinds": ("value", "projected"), "layers": (1,)}),
        ({"view": "full"}, {}),
    ],
)
def test_bytes_are_those_of_pixels(
    tmp_path: Path,
    tiny_model: Path,
    many: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: dict[str, Any],
    second: dict[str, Any],
) -> None:
    dataset = f"folder:{many}"
    first = {"dtype": "float32", **first}
    second = {
        "prefix": PREFIX,
        "dtype": first["dtype"],
        "view": first.get("view", "base"),
        **second,
    }
    _, pixels = extracted(tmp_path / "pixels.kv", tiny_model, dataset, **second)
    before, _ = extracted(tmp_path / "s.kv", tiny_model, dataset, **first)
    monkeypatch.setattr(LlavaOnevision, "encode", lambda *_: pytest.fail("the tower ran"))
    monkeypatch.setattr(
        "kvtool.engine.preparing.decode", lambda *_: pytest.fail("a picture was decoded")
    )
    # The check of a new run looks at its first picture by the tower.
    report, run = extracted(tmp_path / "s.kv", tiny_model, dataset, check=False, **second)
    assert (report.source, report.n_reused, report.n_done, report.failed) == (
        before.run,
        40,
        40,
        {},
    )
    assert contents(run) == contents(pixels)
    assert verify(kvtool.open(tmp_path / "s.kv")) == []


@pytest.mark.slow
def test_no_tower_runs_and_texts_are_copied(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.datasets import coco

    dataset = f"coco:{coco(tmp_path / 'coco')}"
    _, pixels = extracted(tmp_path / "pixels.kv", tiny_model, dataset, prefix=PREFIX)
    extracted(tmp_path / "s.kv", tiny_model, dataset)
    monkeypatch.setattr(LlavaOnevision, "encode", lambda *_: pytest.fail("the tower ran"))
    monkeypatch.setattr(LlavaOnevision, "text_values", lambda *_: pytest.fail("the texts ran"))
    _, run = extracted(tmp_path / "s.kv", tiny_model, dataset, check=False, prefix=PREFIX)
    assert run.text_names
    assert contents(run) == contents(pixels)


@pytest.mark.slow
def test_images_that_the_source_lacks_come_from_pixels(
    tmp_path: Path, tiny_model: Path, many: Path
) -> None:
    dataset = f"folder:{many}"
    extracted(tmp_path / "s.kv", tiny_model, dataset, limit=5)
    longer, _ = extracted(tmp_path / "s.kv", tiny_model, dataset, prefix="text:red", limit=7)
    report, run = extracted(tmp_path / "s.kv", tiny_model, dataset, prefix=PREFIX)
    assert (longer.n_reused, report.n_reused, report.n_done) == (5, 7, 40)
    assert report.source == longer.run
    _, pixels = extracted(tmp_path / "pixels.kv", tiny_model, dataset, prefix=PREFIX)
    assert run.ids == pixels.ids
    assert run.samples == pixels.samples


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"kinds": ("key", "value", "vision")}, {}),
        ({"kinds": ("projected",)}, {}),
        ({"dtype": "float32"}, {}),
        ({"view": "full"}, {}),
        ({"attention": "eager"}, {}),
        ({}, {"kinds": ("projected",)}),
        ({}, {"reuse": False}),
    ],
)
def test_runs_that_do_not_serve(
    tmp_path: Path, tiny_model: Path, many: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    extracted(tmp_path / "s.kv", tiny_model, f"folder:{many}", limit=2, **first)
    report, _ = extracted(
        tmp_path / "s.kv", tiny_model, f"folder:{many}", limit=2, prefix=PREFIX, **second
    )
    assert (report.source, report.n_reused, report.n_done) == (None, 0, 2)


@pytest.mark.slow
def test_other_pictures_under_the_same_names_do_not_serve(
    tmp_path: Path, tiny_model: Path, many: Path
) -> None:
    extracted(tmp_path / "s.kv", tiny_model, f"folder:{many}", limit=4)
    for name in ("000.png", "002.png"):
        noise(40, 40, 999).save(many / name)
    (many / "003.png").rename(many / "900.png")
    report, run = extracted(tmp_path / "s.kv", tiny_model, f"folder:{many}", limit=3, prefix=PREFIX)
    assert (report.n_done, report.n_reused) == (3, 1)
    _, pixels = extracted(
        tmp_path / "pixels.kv", tiny_model, f"folder:{many}", limit=3, prefix=PREFIX
    )
    assert contents(run) == contents(pixels)


@pytest.mark.slow
def test_no_picture_left_is_no_source(tmp_path: Path, tiny_model: Path, many: Path) -> None:
    extracted(tmp_path / "s.kv", tiny_model, f"folder:{many}", limit=1)
    noise(40, 40, 999).save(many / "000.png")
    report, _ = extracted(tmp_path / "s.kv", tiny_model, f"folder:{many}", limit=1, prefix=PREFIX)
    assert (report.source, report.n_reused) == (None, 0)


@pytest.mark.slow
def test_layers_of_the_tower_are_found_by_number(
    tmp_path: Path, tiny_model: Path, many: Path
) -> None:
    """A source may keep more of them than the run that takes from it."""
    model: Any = load_model(str(tiny_model), dtype="float32")
    job = Job(str(tmp_path / "s.kv"), str(tiny_model), f"folder:{many}", dtype="float32")
    store = open_store(job.store, create=True)
    plan = make_plan(open_extraction(job), model, None, store)
    item = prepare_one(plan, model, 0, True, lambda _: None)
    assert item is not None
    several = replace(plan, request=model.request(None, None, vision_layers=[0, 2]))
    run = create_run(store, replace(plan.config, vision_layers=(0, 2)))
    captured = model.capture([item], several.request)
    arrays, text = (
        {kind: images[0] for kind, images in kinds.items()}
        for kinds in (captured.arrays, captured.text)
    )
    run.commit_part("0000000-0000001", [item.sample], arrays, text)
    target = make_plan(open_extraction(replace(job, prefix=PREFIX)), model, None, store)
    assert (target.source, len(target.request.vision_layers)) == (run.name, 1)
    stored = open_source(run, target.config, target.refs).prepare(
        model, item.sample.id, 0, "the red cat"
    )
    values, expected = (
        model.capture([prepared], plan.request).arrays["vision"][0] for prepared in (stored, item)
    )
    assert values.tobytes() == expected.tobytes()


@pytest.mark.slow
def test_a_damaged_source_is_named_and_stops_nobody(
    tmp_path: Path, tiny_model: Path, many: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("kvtool").propagate = True
    dataset = f"folder:{many}"
    _, run = extracted(tmp_path / "s.kv", tiny_model, dataset, limit=2)
    shard = next((run.folder / "parts").rglob("projected/c*"))
    content = shard.read_bytes()
    damaged = bytearray(content)
    damaged[len(damaged) // 3] ^= 1
    shard.write_bytes(damaged)
    report, second = extracted(tmp_path / "s.kv", tiny_model, dataset, limit=2, prefix=PREFIX)
    assert (report.n_done, report.n_reused) == (2, 1)
    assert f"run {run.name}, part 0000000-0000002, array projected" in caplog.text
    assert "what it holds is computed anew here" in caplog.text
    (shard.parents[1] / "zarr.json").write_bytes(b"{}")
    report, last = extracted(tmp_path / "s.kv", tiny_model, dataset, limit=2, prefix="random")
    assert (report.n_done, report.source) == (2, second.name)
    _, pixels = extracted(tmp_path / "pixels.kv", tiny_model, dataset, limit=2, prefix="random")
    assert contents(last) == contents(pixels)


@pytest.mark.slow
@pytest.mark.usefixtures("no_tower")
def test_estimate_decodes_no_picture(
    tmp_path: Path, tiny_model: Path, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(
        str(tmp_path / "s.kv"), str(tiny_model), f"folder:{many}", prefix=PREFIX, codec="none"
    )
    expected = local.estimate(job)
    assert expected.source is None
    monkeypatch.undo()
    first, _ = extracted(tmp_path / "s.kv", tiny_model, job.dataset)
    monkeypatch.setattr(
        "kvtool.datasets.images.load_image", lambda _: pytest.fail("a picture was decoded")
    )
    estimate = local.estimate(job)
    assert (estimate.source, estimate.n_probed) == (first.run, expected.n_probed)
    assert estimate.todo_bytes == expected.todo_bytes


@pytest.mark.slow
def test_several_processes_reuse(tmp_path: Path, tiny_model: Path, many: Path) -> None:
    extracted(tmp_path / "s.kv", tiny_model, f"folder:{many}")
    report, run = extracted(
        tmp_path / "s.kv",
        tiny_model,
        f"folder:{many}",
        prefix=PREFIX,
        devices=("cpu", "cpu"),
        wait_s=60,
    )
    assert (report.n_done, report.n_reused, len(run.ids)) == (40, 40, 40)


@pytest.mark.slow
def test_a_worker_on_another_machine_reuses_and_looks_at_its_own_device(
    tmp_path: Path, tiny_model: Path, many: Path
) -> None:
    """What a Ray task runs, without Ray."""
    extracted(tmp_path / "s.kv", tiny_model, f"folder:{many}", limit=3)
    job = Job(str(tmp_path / "s.kv"), str(tiny_model), f"folder:{many}", prefix=PREFIX, limit=3)
    model = load_model(job.model, weights=False)
    plan = make_plan(open_extraction(job), model, None, open_store(job.store))
    events: list[Event] = []
    for device, free in (("cuda:0", None), ("cpu", 1), ("gpu", None)):
        task = RayTask(partial(work, job, plan), device, 0, free, str(tmp_path), {})
        assert isinstance(task.work_on(events.append), UsageError)
        assert events == []
    task = RayTask(partial(work, job, plan), "cpu", 0, None, str(tmp_path), {})
    assert task.work_on(events.append) is None
    assert {event.what: event.n for event in events if event.what != "bytes"} == {
        "reused": 3,
        "batch": 3,
        "done": 3,
    }

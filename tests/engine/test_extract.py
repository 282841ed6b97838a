"""kvtool.extract on tiny real models and real files."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kvtool
from kvtool.engine.outcome import Report
from kvtool.errors import BusyError, DatasetError, ModelError, RunConflictError, UsageError
from kvtool.store.verify import verify


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_request_that_fails_leaves_no_run(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    broken = tmp_path / "model"
    shutil.copytree(tiny_model, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="weights"):
        kvtool.extract(tmp_path / "s.kv", model=str(broken), dataset=f"folder:{few}")
    assert kvtool.open(tmp_path / "s.kv").runs() == []


@pytest.mark.slow
def test_same_name_other_configuration(tmp_path: Path, tiny_model: Path, few: Path) -> None:
    store = tmp_path / "s.kv"
    options: dict[str, Any] = {"model": str(tiny_model), "dataset": f"folder:{few}", "run": "mine"}
    kvtool.extract(store, **options)
    with pytest.raises(RunConflictError, match=r"mine.*dtype|mine.*model"):
        kvtool.extract(store, dtype="float32", **options)
    assert len(kvtool.open(store).run("mine").samples) == 6


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_ray_that_is_not_installed(
    tmp_path: Path, tiny_model: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"kvtool\[ray\]"):
        kvtool.extract(
            tmp_path / "s.kv", model=str(tiny_model), dataset=f"folder:{few}", engine="ray"
        )


@pytest.mark.slow
def test_pictures_of_every_make(tmp_path: Path, tiny_model: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    Image.new("L", (20_000, 3)).save(folder / "wide.png")
    Image.new("CMYK", (20, 30)).save(folder / "cmyk.jpg")
    report = kvtool.extract(tmp_path / "s.kv", model=str(tiny_model), dataset=f"folder:{folder}")
    assert (report.n_done, report.failed) == (3, {})

"""`kvtool extract --kinds saliency,...`: what a run holds is what the model gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.datasets import open_dataset
from kvtool.datasets.images import load_image
from kvtool.errors import UsageError
from kvtool.models import load_model
from kvtool.store import Run
from kvtool.store.verify import verify
from kvtool.types import Kind
from tests.support import tiny
from tests.support.datasets import coco


@pytest.fixture
def data(tmp_path: Path) -> str:
    return f"coco:{coco(tmp_path / 'coco')}"


def extracted(store: Path, model: Path, dataset: str, **options: Any) -> Run:
    report = kvtool.extract(store, model=str(model), dataset=dataset, dtype="float32", **options)
    assert report.failed == {}
    return kvtool.open(store).run(report.run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "kinds", "layer"),
    [
        ("vit", ("saliency", "vision"), 2),
        ("siglip_of_two", ("projected", "saliency"), 2),
        ("llava_next", ("value", "vision", "saliency"), 1),
    ],
)
def test_a_run_holds_what_the_model_gives(
    tmp_path: Path, data: str, build: str, kinds: tuple[Kind, ...], layer: int
) -> None:
    folder = getattr(tiny, build)(tmp_path / "model")
    store = tmp_path / "s.kv"
    run = extracted(store, folder, data, kinds=kinds, limit=3, batch_size=1)
    assert run.config.kinds[-1] == "saliency"
    assert verify(kvtool.open(store)) == []
    model = load_model(str(folder), dtype="float32")
    dataset = open_dataset(data)
    for index, ref in enumerate(dataset.present()[:3]):
        prepared = model.prepare(load_image(ref), id=ref.id, index=index)
        captured = model.capture([prepared], model.request(kinds, None)).arrays
        stored = run.read("saliency", layer, ids=[ref.id]).values
        np.testing.assert_array_equal(stored, captured["saliency"][0][0, 0])
        assert stored.std() > 0
    # The same call goes on with its run; another choice is another run.
    assert extracted(store, folder, data, kinds=kinds, limit=3).name == run.name
    plain = extracted(
        store, folder, data, kinds=[kind for kind in kinds if kind != "saliency"], limit=3
    )
    assert plain.name != run.name
    assert "saliency" not in plain.config.kinds


@pytest.mark.slow
def test_other_kinds_have_the_bytes_that_they_have_without_it(tmp_path: Path, data: str) -> None:
    folder = tiny.llava_next(tmp_path / "model")
    kinds: tuple[Kind, ...] = ("value", "projected", "vision")
    runs = [
        extracted(tmp_path / f"{len(choice)}.kv", folder, data, kinds=choice, limit=3)
        for choice in (kinds, (*kinds, "saliency"))
    ]
    plain, beside = (sorted(Path(run.store).glob("runs/*/parts/*/*/c.*")) for run in runs)
    files = {path.relative_to(path.parents[1]): path.read_bytes() for path in plain}
    with_saliency = {path.relative_to(path.parents[1]): path.read_bytes() for path in beside}
    assert files
    assert files == {
        name: data for name, data in with_saliency.items() if name.parts[0] != "saliency"
    }


@pytest.mark.slow
def test_a_run_under_a_prefix_runs_the_tower_again(tmp_path: Path, data: str) -> None:
    folder = tiny.llava_next(tmp_path / "model")
    kinds: tuple[Kind, ...] = ("value", "projected", "vision", "saliency")
    store = tmp_path / "s.kv"
    run = extracted(store, folder, data, kinds=kinds, limit=2)
    prefixed = extracted(store, folder, data, kinds=kinds, limit=2, prefix="text:the cat")
    assert prefixed.name != run.name
    np.testing.assert_array_equal(
        prefixed.read("saliency", 1).values, run.read("saliency", 1).values
    )
    # Without saliency the prefixed run takes what the first one holds.
    again = extracted(store, folder, data, kinds=["value"], limit=2, prefix="text:the cat")
    np.testing.assert_array_equal(
        again.read("value", 2, 0).values, prefixed.read("value", 2, 0).values
    )


def test_what_compares_vectors_refuses_it(tmp_path: Path, data: str) -> None:
    folder = tiny.clip(tmp_path / "model")
    run = extracted(tmp_path / "s.kv", folder, data, kinds=["saliency", "vision"], limit=2)
    image, picture = run.ids[0], tmp_path / "a.png"
    calls: dict[str, Any] = {
        "variance: run .* has no saliency, only vision": lambda: kvtool.variance(
            run, kind="saliency"
        ),
        "search: run .* has no saliency, only vision": lambda: kvtool.search(
            run, image, (10, 10), kind="saliency"
        ),
        "saliency is not of vectors, only vision": lambda: kvtool.show(
            run, image, picture, kind="saliency"
        ),
    }
    for message, call in calls.items():
        with pytest.raises(UsageError, match=message):
            call()
    # Without a kind they take the vectors.
    assert kvtool.search(run, image, (10, 10), k=1).config["kind"] == "vision"
    assert kvtool.show(run, image, picture).kind == "vision"

"""The residual stream of a run's image tokens: stored, computed, and that of a whole pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kvtool
from kvtool.datasets import open_dataset
from kvtool.datasets.images import load_image
from kvtool.errors import ModelError, UsageError
from kvtool.features.residual import sample_cells, tokens_of_cells
from kvtool.models import load_model
from kvtool.models.cache import watched
from kvtool.models.device import to_numpy
from kvtool.store import Run
from kvtool.store.verify import verify
from kvtool.types import KINDS, GridSpan, Precision, Sample
from tests.support import datasets, tiny
from tests.support.datasets import coco
from tests.support.runs import new_run
from tests.support.runs import sample as stored_sample
from tests.support.tasks.language import imagenet

FAMILIES = ("llava_onevision", "llava_next", "qwen2_vl", "qwen2_5_vl")


@pytest.fixture
def data(tmp_path: Path) -> str:
    return f"coco:{coco(tmp_path / 'coco')}"


def extracted(store: Path, model: Path, dataset: str, **options: Any) -> Run:
    report = kvtool.extract(store, model=str(model), dataset=dataset, **options)
    assert report.failed == {}
    return kvtool.open(store).run(report.run)


def whole_pass(model: Any, run: Run, dataset: str) -> list[torch.Tensor]:
    """The outputs of all layers at each image's tokens, (layer, token, hidden), by hooks."""
    refs = {ref.id: ref for ref in open_dataset(dataset).images()}
    passes = []
    for sample in run.samples:
        prepared = model.prepare(
            load_image(refs[sample.id]), id=sample.id, index=0, prefix=sample.prefix
        )
        outputs: list[torch.Tensor] = []
        with watched(dict.fromkeys(model.language_model.layers, outputs.append)):
            model.prefill([prepared])
        passes.append(torch.stack(outputs)[:, 0, sample.image_start :])
    return passes


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_stored_equals_computed_and_the_whole_pass(
    tmp_path: Path, data: str, family: str, dtype: Precision
) -> None:
    folder = getattr(tiny, family)(tmp_path / "model")
    options: dict[str, Any] = {"dtype": dtype, "limit": 2, "batch_size": 1, "prefix": "text:a cat"}
    store = tmp_path / "s.kv"
    plain = extracted(store, folder, data, **options)
    storing = extracted(store, folder, data, kinds=(*KINDS, "hidden"), **options)
    assert "hidden" not in plain.kinds
    assert storing.kinds == (*KINDS, "hidden")
    assert verify(kvtool.open(store)) == []
    layers = [2, 0, 1]
    stored = storing.read("hidden", layers, raw=True)
    expected = torch.cat(whole_pass(load_model(str(folder), dtype=dtype), plain, data), dim=1)
    np.testing.assert_array_equal(stored.values, to_numpy(expected[layers]))
    np.testing.assert_array_equal(storing.hidden(layers, raw=True).values, stored.values)
    # In float32 the last bit of a sum may depend on how many tokens run together.
    tolerance = 3e-6 if dtype == "float32" else 0
    few = {image: [0, 3, 7] for image in plain.ids}
    for tokens in (None, few):
        computed = plain.hidden(layers, tokens=tokens, device="cpu")
        held_values, _ = storing.hidden(layers, tokens=tokens)
        np.testing.assert_allclose(computed.values, held_values, rtol=0, atol=tolerance)
    bits = plain.hidden(layers, raw=True).values
    assert bits.dtype == stored.values.dtype
    if dtype == "bfloat16":
        np.testing.assert_array_equal(bits, stored.values)
    # What stands beside it is what it was without it.
    for kind in KINDS:
        number = plain.config.stored_layers(kind)[0]
        np.testing.assert_array_equal(
            storing.read(kind, number).values, plain.read(kind, number).values
        )


@pytest.mark.slow
def test_some_tokens_of_some_images(tmp_path: Path, data: str) -> None:
    folder = tiny.llava_onevision(tmp_path / "model")
    run = extracted(tmp_path / "s.kv", folder, data, dtype="float32", limit=3, view="full")
    all_tokens = run.hidden(1)
    assert all_tokens.values.shape == (sum(s.n_tokens for s in run.samples), 32)
    first, second = run.ids[1], run.ids[0]
    ids = [first, second, first]
    number: Any = np.int64(1)
    assert run.hidden(number).values.shape == all_tokens.values.shape
    block = run.hidden([1], ids, tokens=[5, 0])
    assert block.values.shape == (1, 6, 32)
    assert [sample.id for sample in block.samples] == ids
    starts = dict(zip(run.ids, all_tokens.offsets.tolist(), strict=False))
    rows = [starts[image] + token for image in ids for token in (5, 0)]
    np.testing.assert_allclose(block.values[0], all_tokens.values[rows], rtol=0, atol=3e-6)
    by_image = run.hidden(1, tokens={second: [3]})
    np.testing.assert_allclose(
        by_image.values[0], all_tokens.values[starts[second] + 3], rtol=0, atol=3e-6
    )
    grid = run.hidden(1, [second], rows=0, cols=slice(0, 2))
    np.testing.assert_allclose(
        grid.values, all_tokens.values[starts[second] : starts[second] + 2], rtol=0, atol=3e-6
    )


@pytest.mark.slow
def test_the_stream_of_a_part_of_the_layers_is_stored_alone(tmp_path: Path, data: str) -> None:
    folder = tiny.qwen2_vl(tmp_path / "model")
    run = extracted(
        tmp_path / "s.kv", folder, data, kinds=["hidden"], layers=[1], limit=1, dtype="float32"
    )
    model: Any = load_model(str(folder), dtype="float32")
    (expected,) = whole_pass(model, run, data)
    np.testing.assert_array_equal(run.hidden(1).values, expected[1].numpy())
    with pytest.raises(UsageError, match=r"of all 3 layers, or hidden, found hidden of 1 of 3"):
        run.hidden(0)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"layers": [0, 1]}, {"kinds": ["key", "value"]}])
def test_a_run_without_what_is_needed(tmp_path: Path, data: str, options: dict[str, Any]) -> None:
    folder = tiny.llava_next(tmp_path / "model")
    run = extracted(tmp_path / "s.kv", folder, data, limit=1, **options)
    with pytest.raises(UsageError, match="--kinds key,value,projected") as caught:
        run.hidden(0)
    assert len(str(caught.value).splitlines()) == 1


def test_an_encoder_alone(tmp_path: Path, data: str) -> None:
    run = extracted(tmp_path / "s.kv", tiny.clip(tmp_path / "model"), data, limit=1)
    with pytest.raises(UsageError, match=r"found one of .* an encoder alone"):
        run.hidden(0)
    with pytest.raises(UsageError, match="found 'hidden'"):
        extracted(tmp_path / "t.kv", tmp_path / "model", data, limit=1, kinds=["vision", "hidden"])


@pytest.mark.slow
def test_a_layer_or_a_model_that_is_not_there(tmp_path: Path, data: str) -> None:
    folder = tiny.llava_next(tmp_path / "model")
    run = extracted(tmp_path / "s.kv", folder, data, limit=1)
    with pytest.raises(UsageError, match="expected layers from 0 to 2, found 3"):
        run.hidden(3)
    with pytest.raises(UsageError, match="no image 'nothing'"):
        run.hidden(0, ["nothing"])
    stranger = tiny.llava_onevision(tmp_path / "other")
    with pytest.raises(ModelError, match="give the folder that holds it with --model"):
        run.hidden(0, model=str(stranger))
    folder.rename(tmp_path / "moved")
    moved = run.hidden(0, model=str(tmp_path / "moved"))
    assert np.isfinite(moved.values).all()


@pytest.mark.slow
def test_probes_take_it_as_a_kind(tmp_path: Path, data: str) -> None:
    folder = tiny.llava_onevision(tmp_path / "model")
    run = extracted(
        tmp_path / "s.kv", folder, data, kinds=["value", "projected", "hidden"], limit=4
    )
    row = kvtool.variance(run, kind="hidden").rows[2]
    assert (row["kind"], row["layer"], row["kv_head"]) == ("hidden", 2, 0)
    assert row["variance"] is not None
    picture = kvtool.show(run, run.ids[0], tmp_path / "a.png", kind="hidden")
    assert picture.kind == "hidden"


@pytest.mark.slow
def test_tasks_score_it_or_refuse_it_in_one_line(tmp_path: Path) -> None:
    folder = tiny.llava_onevision(tmp_path / "model")
    spair = f"spair71k:{datasets.spair(tmp_path / 'spair')}"
    run = extracted(tmp_path / "s.kv", folder, spair, kinds=["value", "hidden", "projected"])
    result = kvtool.probe(run, "semantic-correspondence", kinds=["hidden", "value"], layers="late")
    blocks = {(row["kind"], row["layer"], row["kv_head"]) for row in result.rows}
    assert {("hidden", 2, 0), ("value", 2, 0), ("value", 2, 1)} <= blocks
    assert {layer for _, layer, _ in blocks} == {2}
    # It is scored where it is asked for alone.
    plain = kvtool.probe(run, "semantic-correspondence")
    assert {row["kind"] for row in plain.rows} == {"value", "projected"}
    imagenet(tmp_path / "imagenet-s")
    labeled = extracted(
        tmp_path / "s.kv",
        folder,
        f"imagenet-s:{tmp_path / 'imagenet-s'}",
        kinds=["value", "hidden"],
    )
    with pytest.raises(UsageError, match="hidden is without text vectors") as error:
        kvtool.probe(labeled, "semantic-segmentation", kinds=["hidden"])
    assert len(str(error.value).splitlines()) == 1


def test_its_hash_and_its_dimensions(tmp_path: Path) -> None:
    run = new_run(tmp_path, kinds=(*KINDS, "hidden"))
    assert run.config.hash != replace(run.config, kinds=KINDS).hash
    assert run.config.stored_layers("hidden") == (1, 3)
    assert run.config.heads_and_dim("hidden") == (1, 12)


def grid_sample(rows: int, cols: int, index: int = 0) -> Sample:
    span = GridSpan("base", 2, (rows, cols), cols + 1, (0.0, 0.0, 20.0, 10.0))
    n_tokens = 2 + rows * (cols + 1)
    return replace(stored_sample(index, n_tokens), spans=(span,))


def test_cells_are_drawn_from_all_over_the_grid() -> None:
    image = grid_sample(6, 10)
    cells = sample_cells(image, 12, seed=0)
    # One in each stretch of five.
    assert (cells // 5).tolist() == list(range(12))
    np.testing.assert_array_equal(cells, sample_cells(image, 12, seed=0))
    assert (cells != sample_cells(image, 12, seed=1)).any()
    assert (cells != sample_cells(grid_sample(6, 10, 1), 12, seed=0)).any()
    everywhere = np.arange(60)
    for count in ("all", 60, 1000):
        np.testing.assert_array_equal(sample_cells(image, count, seed=0), everywhere)
    draws = np.concatenate([sample_cells(image, 7, seed) for seed in range(400)])
    counts = np.bincount(draws, minlength=60)
    assert counts.min() > 20


def test_tokens_of_cells_skip_the_ends_of_rows() -> None:
    image = grid_sample(2, 3)
    assert tokens_of_cells(image, np.array([0, 2, 3, 5])).tolist() == [2, 4, 6, 8]
    assert tokens_of_cells(image, slice(2)).tolist() == [2, 3]

"""Co-segmentation by the tower's attention: the official vote over a run of a store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kvtool.datasets.msrc import Msrc
from kvtool.errors import UsageError
from kvtool.experiments.probe.run import probe
from kvtool.features.layers import Layer
from kvtool.store import Run, open_store
from kvtool.store.verify import verify
from kvtool.tasks.co_segmentation import CoSegmentation
from kvtool.tasks.regions import random_regions
from kvtool.tasks.saliency import run_saliency, saliency_maps
from kvtool.types import Geometry, GridSpan, Kind, Sample
from tests.support.datasets import picture
from tests.support.runs import create_run
from tests.support.tasks.co_segmentation import TASK, make_run
from tests.support.units import Array, run_config, sample

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "coseg_kmeans_a.npz")
COUNT = int(GOLDEN["n_images"])
DIM = GOLDEN["desc_0"].shape[1]
KINDS: tuple[Kind, ...] = ("value", "vision", "saliency")
OFFICIAL: dict[str, Any] = {"saliency": "vision", "seeds": 1, "restarts": 10}


def golden_data(root: Path) -> list[Sample]:
    """The golden images as a class of MSRC7, whose truth is the official masks."""
    samples = []
    for index in range(COUNT):
        mask = GOLDEN[f"mask_{index}"]
        height, width = map(int, GOLDEN[f"size_{index}"])
        picture(root / f"image/cow/{index}.png", width, height, seed=index)
        path = root / f"groundtruth/cow/{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8) * 255).save(path)
        rows, cols = map(int, GOLDEN[f"grid_{index}"])
        samples.append(sample(f"cow/{index}", index, (width, height), (rows, cols)))
    return samples


def golden_run(folder: Path, saliency: list[Array], **options: Any) -> Run:
    """The golden descriptors as the values and the tower's patches of a run, with a saliency."""
    samples = golden_data(folder / "data")
    config = run_config("msrc", "all", folder / "data", dtype="float32", **options)
    model = replace(config.model, geometry=Geometry(1, 1, 1, DIM, DIM, 1, DIM))
    config = replace(config, model=model, layers=(0,), vision_layers=(0,))
    run = create_run(open_store(folder / "s.kv", create=True), config)
    descriptors = [GOLDEN[f"desc_{i}"].astype(np.float32)[None, None] for i in range(COUNT)]
    arrays: dict[str, Any] = {"value": descriptors, "vision": descriptors}
    if "saliency" in config.kinds:
        arrays["saliency"] = [values.astype(np.float32)[None, None, :, None] for values in saliency]
    text = {"value": np.zeros((1, 1, COUNT, DIM), np.float32)}
    run.commit_part(f"0000000-{COUNT:07d}", samples, arrays, text)
    run.refresh()
    return run


def golden_saliency() -> list[Array]:
    return [GOLDEN[f"saliency_{i}"] for i in range(COUNT)]


@pytest.mark.slow
def test_the_golden_chain_through_a_store(tmp_path: Path) -> None:
    run = golden_run(tmp_path, golden_saliency(), kinds=KINDS)
    assert verify(open_store(run.store)) == []
    result = probe(run, TASK, save_predictions=tmp_path / "masks", **OFFICIAL)
    scores = {row["kind"]: row["j_mean"] for row in result.rows if "category" not in row}
    assert scores.keys() == {"value", "vision"}
    assert min(scores.values()) > 0.985
    assert result.config["saliency"] == "vision"
    for index in range(COUNT):
        path = next((tmp_path / "masks").rglob(f"cow/{index}.png"))
        mask = np.asarray(Image.open(path)) > 0
        assert (mask == GOLDEN[f"mask_{index}"]).mean() >= 0.995
    # The vote reads the attention: turned round, it takes what was left out.
    turned = golden_run(tmp_path / "turned", [1 - s for s in golden_saliency()], kinds=KINDS)
    inverted = probe(turned, TASK, **OFFICIAL)
    assert max(row["j_mean"] for row in inverted.rows) < 0.5


@pytest.mark.slow
def test_attention_is_stretched_before_it_is_cut(tmp_path: Path) -> None:
    """A tower's attention sums to 1 over all patches, so that 0.065 would cut nearly all."""
    small = [values / values.sum() for values in golden_saliency()]
    assert max(values.max() for values in small) < 0.065
    result = probe(golden_run(tmp_path, small, kinds=KINDS), TASK, **OFFICIAL)
    assert min(row["j_mean"] for row in result.rows if "category" not in row) > 0.985


def test_a_run_without_attention_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(UsageError) as refused:
        probe(run, TASK, saliency="vision")
    message = str(refused.value)
    assert "expected saliency, found value,projected,vision" in message
    assert "extract with --kinds value,projected,vision,saliency" in message
    assert "\n" not in message


@pytest.mark.slow
def test_a_baseline_without_attention_is_left_out_and_named(tmp_path: Path) -> None:
    golden_run(tmp_path, [], kinds=("value", "vision"), model="other", name="other")
    run = golden_run(tmp_path, golden_saliency(), kinds=KINDS, name="own")
    result = probe(run, TASK, **OFFICIAL)
    assert {row["run"] for row in result.baselines} == {"own"}
    assert any(
        line.startswith("run other is no baseline") and "expected saliency" in line
        for line in result.skipped
    )
    by_border = probe(run, TASK, seeds=1)
    assert {row["run"] for row in by_border.baselines} == {"own", "other"}


@pytest.mark.slow
def test_chance_is_judged_by_the_attention_too(tmp_path: Path) -> None:
    """Regions of patches that know nothing of values, of which attention tells the object."""
    saliency = golden_saliency()
    run = golden_run(tmp_path, saliency, kinds=KINDS)
    sizes = {sample.id: sample.image_wh_px for sample in run.samples}
    task = CoSegmentation(Msrc(tmp_path / "data"), sizes, torch.device("cpu"), **OFFICIAL)
    grids = {sample.id: sample.base("value") for sample in run.samples}
    by_attention = dict(task.guesses(grids, 0, run))["random regions"]
    by_border = dict(task.guesses(grids, 0))["random regions"]
    assert not np.array_equal(by_attention, by_border)
    # By hand: the first draw of the first image, its regions voted for by the attention.
    spans = list(grids.values())
    maps = run_saliency(run, grids)
    masks = next(random_regions(1, np.random.default_rng(0), spans, maps))
    first = task._counts(masks, spans[0], run.ids[0], "cow")
    assert np.array_equal(by_attention[:, 0], first)
    result = probe(run, TASK, **OFFICIAL)
    row = next(row for row in result.chance if row["predictor"] == "random regions")
    summed = next(task.tables(by_attention))
    assert row["j_mean"] == pytest.approx(summed.scores(summed.units.sum(1))["j_mean"].mean())


@pytest.mark.slow
def test_attention_that_is_not_finite_has_no_scores(tmp_path: Path) -> None:
    saliency = golden_saliency()
    saliency[0] = np.where(np.arange(len(saliency[0])) == 3, np.nan, saliency[0])
    result = probe(golden_run(tmp_path, saliency, kinds=KINDS), TASK, **OFFICIAL)
    assert {row["j_mean"] for row in result.rows} == {None}
    assert {row["nonfinite"] for row in result.rows} == {1}


def test_cells_take_the_patch_at_their_center(tmp_path: Path) -> None:
    """A decoder's grid of 6 x 8 over a tower's of 3 x 4: each patch lies under four cells.

    The second image's patches all get as much attention, which shows nothing.
    """
    coarse = GridSpan("base", 0, (3, 4), 4, (0.0, 0.0, 80.0, 60.0))
    images = [
        replace(sample(id, i, (80, 60), (6, 8)), n_vision_tokens=12, vision_spans=(coarse,))
        for i, id in enumerate("ab")
    ]
    config = run_config("folder", "all", tmp_path, dtype="float32", layers=1, kinds=KINDS)
    run = create_run(open_store(tmp_path / "s.kv", create=True), config)
    rising = np.arange(12, dtype=np.float32) / 100
    arrays: dict[str, Any] = {
        "value": np.zeros((1, 2, 96, 16), np.float32),
        "vision": np.zeros((1, 1, 24, 16), np.float32),
        "saliency": np.append(rising, np.full(12, 0.05, np.float32))[None, None, :, None],
    }
    text = {"value": np.zeros((1, 2, 2, 16), np.float32)}
    run.commit_part("0000000-0000002", images, arrays, text)
    run.refresh()
    layer = Layer(run, "value", 0, [0], torch.device("cpu"))
    by_id = layer.get("ab")
    first, second = saliency_maps(layer, [by_id["a"], by_id["b"]])
    expected = np.repeat(np.repeat(rising.reshape(3, 4) / 0.11, 2, axis=0), 2, axis=1)
    np.testing.assert_allclose(first.reshape(6, 8), expected, rtol=1e-6)
    assert not second.any()

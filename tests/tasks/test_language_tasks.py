"""ImageNet-S, BDD-10K and RefCOCO: planted answers scored by hand, slow references, the ways to cut
a map.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kvtool.datasets.bdd10k import Bdd10k
from kvtool.datasets.imagenet_s import ImageNetS
from kvtool.datasets.refcoco import RefCoco
from kvtool.errors import KvtoolError, UsageError
from kvtool.experiments.probe.run import probe
from kvtool.store import Run
from kvtool.tasks import language
from tests.support.fields import assert_documented
from tests.support.tasks.language import (
    GRID,
    LAYERS,
    NAMES,
    bdd_run,
    commit_texts,
    imagenet_run,
    planted,
    refcoco,
)
from tests.support.units import DIM, HEADS, PLANTED, Array, sample, write_run


@pytest.mark.slow
def test_semantic_segmentation_by_hand(tmp_path: Path) -> None:
    """Eleven images are right; in the twelfth two of 36 background patches are foreground (11
    counted ones).
    """
    run = imagenet_run(tmp_path, wrong="n01/n01_0")
    commit_texts(run, NAMES)
    result = probe(run, "semantic-segmentation")
    assert result.best is not None
    assert (result.best["layer"], result.best["kv_head"]) == PLANTED
    assert {row["kind"] for row in result.rows} == {"value"}
    foreground, background = 12 * 11 / (12 * 11 + 2), (12 * 36 - 2) / (12 * 36)
    assert result.best["iou_fg"] == pytest.approx(foreground)
    assert result.best["miou_fgbg"] == pytest.approx((foreground + background) / 2)
    assert result.best["miou_fgbg_image"] == pytest.approx((11 + (11 / 13 + 34 / 36) / 2) / 12)
    rivals = [
        r for r in result.rows if "category" not in r and (r["layer"], r["kv_head"]) != PLANTED
    ]
    assert max(r["miou_fgbg"] for r in rivals) < 0.6
    chance = np.mean([r["miou_fgbg"] for r in rivals])
    assert (
        sum(r["miou_fgbg_low"] <= chance <= r["miou_fgbg_high"] for r in rivals) >= len(rivals) - 2
    )
    assert_documented(result.to_json())
    assert probe(run, "semantic-segmentation", fresh=True).to_json() == result.to_json()


def slow_maps(run: Run, layer: int, head: int) -> dict[str, Array]:
    """(class, row, col) centred scores of each image."""
    block, images = run.read("value", layer, head)
    texts = run.text_values(layer, head).astype(np.float64)
    maps = {}
    for image in images:
        scores = texts @ block[image.start : image.stop].astype(np.float64).T
        maps[image.id] = (scores - scores.mean(0)).reshape(-1, *GRID)
    return maps


def dense(patch_map: Array, height: int, width: int) -> Array:
    return np.asarray(
        torch.nn.functional.interpolate(
            torch.from_numpy(patch_map)[None, None],
            size=(height, width),
            mode="bilinear",
            align_corners=False,
        )[0, 0]
    )


@pytest.mark.slow
def test_semantic_segmentation_agrees_with_the_slow_reference(tmp_path: Path) -> None:
    run = imagenet_run(tmp_path, scale=3)
    commit_texts(run, NAMES)
    dataset = ImageNetS(tmp_path / "data")
    result = probe(run, "semantic-segmentation", layers=[0, 5], all_classes=True)
    for layer, head in (PLANTED, (0, 0)):
        row = next(
            r
            for r in result.rows
            if (r["layer"], r["kv_head"]) == (layer, head) and "category" not in r
        )
        image_counts, official = np.zeros((2, 2)), np.zeros((4, 2))
        for name, maps in slow_maps(run, layer, head).items():
            ids = dataset.label_map(name)
            keep = ids != 1000
            class_map = maps[dataset.class_id(name) - 1]
            prediction = dense(class_map, *ids.shape) > class_map.mean()
            for side in (0, 1):
                a, b = (prediction == side) & keep, ((ids == dataset.class_id(name)) == side) & keep
                image_counts[side] += [(a & b).sum(), (a | b).sum()]
            stack = np.stack([dense(m, *ids.shape) for m in maps])
            best = stack.argmax(0)
            over = stack.max(0) > maps.mean((1, 2))[best]
            labels = np.where(over, best + 1, 0)
            for c in range(4):
                a, b = (labels == c) & keep, (ids == c) & keep
                official[c] += [(a & b).sum(), (a | b).sum()]
        assert row["miou_fgbg"] == pytest.approx(
            (image_counts[:, 0] / image_counts[:, 1]).mean(), abs=2e-3
        )
        assert row["miou"] == pytest.approx(
            (official[:, 0] / (official[:, 1] + 1e-10)).mean(), abs=2e-3
        )


@pytest.mark.slow
def test_bdd_has_every_class_of_an_image_in_turn(tmp_path: Path) -> None:
    run = bdd_run(tmp_path)
    dataset = Bdd10k(tmp_path / "data", "val")
    result = probe(run, "semantic-segmentation", layers=[3], heads=[1], all_classes=True)
    image_counts, car_counts, official = np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((19, 2))
    for name, maps in slow_maps(run, 3, 1).items():
        labels = dataset.label_map(name)
        keep = labels != 255
        stack = np.stack([dense(m, *labels.shape) for m in maps])
        for label in np.unique(labels[keep]):
            prediction = stack[label] > maps[label].mean()
            for side in (0, 1):
                a, b = (prediction == side) & keep, ((labels == label) == side) & keep
                image_counts[side] += [(a & b).sum(), (a | b).sum()]
                car_counts[side] += [(a & b).sum(), (a | b).sum()] if label == 13 else 0
        for label in range(19):
            a, b = (stack.argmax(0) == label) & keep, (labels == label) & keep
            official[label] += [(a & b).sum(), (a | b).sum()]
    assert result.best is not None
    assert result.best["n"] == 6
    assert result.best["miou_fgbg"] == pytest.approx(
        (image_counts[:, 0] / image_counts[:, 1]).mean(), abs=2e-3
    )
    present = [0, 2, 10, 13]
    assert result.best["miou"] == pytest.approx(
        (official[present, 0] / official[present, 1]).mean(), abs=2e-3
    )
    categories = {row["category"]: row for row in result.rows if "category" in row}
    assert list(categories) == ["road", "building", "sky", "car"]
    assert categories["car"]["n"] == 5
    assert categories["car"]["miou_fgbg"] == pytest.approx(
        (car_counts[:, 0] / car_counts[:, 1]).mean(), abs=2e-3
    )
    assert_documented(result.to_json())


def test_a_run_without_its_texts(tmp_path: Path) -> None:
    run = imagenet_run(tmp_path)
    with pytest.raises(KvtoolError, match="needs the vectors of 3 texts"):
        probe(run, "semantic-segmentation")
    with pytest.raises(KvtoolError, match=r"more for projected in the text template '\{\}'"):
        probe(run, "semantic-segmentation", kinds=["projected"])
    with pytest.raises(UsageError, match="vision is without text vectors"):
        probe(run, "semantic-segmentation", kinds=["vision"])
    for cutoff in ("median", "fraction:2", "fraction:x"):
        with pytest.raises(UsageError, match="expected mean, otsu or fraction"):
            probe(run, "semantic-segmentation", cutoff=cutoff)


def test_cuts() -> None:
    maps = torch.tensor([[0.0, 0.1, 0.2, 5.0, 5.2], [1.0, 1.0, 1.0, 1.0, 2.0]])
    np.testing.assert_allclose(language.thresholds(maps, "mean"), [2.1, 1.2], rtol=1e-6)
    np.testing.assert_allclose(language.thresholds(maps, "otsu"), [2.6, 1.5], rtol=1e-6)
    assert (maps > language.thresholds(maps, "fraction:0.4")[:, None]).sum(1).tolist() == [2, 1]


@pytest.mark.slow
def test_referring_expression_by_hand(tmp_path: Path) -> None:
    """The first sentence of each image finds its box but in one image, where two more patches look
    like it; the second sentence's vector is the background's: it finds exactly what is not the box.
    """
    masks = refcoco(tmp_path / "data")
    dataset = RefCoco(tmp_path / "data", "val")
    texts = dataset.texts()
    values = np.random.default_rng(2).normal(size=(8, LAYERS, HEADS, DIM)).astype(np.float32)
    row_of = {name: 2 * i for i, name in enumerate(masks)}
    samples = [sample(ref.id, i, GRID[::-1], GRID) for i, ref in enumerate(dataset.images())]
    fill = planted(masks, values, row_of, wrong=samples[0].id)
    run = write_run(
        tmp_path / "store", "refcoco", "val", tmp_path / "data", samples, fill, layers=LAYERS
    )
    commit_texts(run, texts)
    result = probe(run, "referring-expression")
    assert result.best is not None
    assert (result.best["layer"], result.best["kv_head"]) == PLANTED
    assert result.n == 8
    assert result.best["miou_fg"] == pytest.approx((3 + 12 / 14) / 8)
    assert result.best["p@0.5"] == result.best["p@0.8"] == 0.5
    assert result.best["p@0.9"] == 3 / 8
    assert result.best["oiou"] == pytest.approx(4 * 12 / (3 * 12 + 14 + 3 * 48 + 46))
    assert_documented(result.to_json())
    short = probe(run, "referring-expression", limit=3, fresh=True)
    assert short.n == 3

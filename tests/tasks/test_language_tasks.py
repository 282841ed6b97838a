"""ImageNet-S, BDD-10K and RefCOCO: planted answers scored by hand, slow references, the ways to cut a map."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kvtool.datasets.bdd10k import Bdd10k
from kvtool.datasets.imagenet_s import ImageNetS
from kvtool.datasets.refcoco import RefCoco
from kvtool.errors import KvtoolError, UsageError
from kvtool.experiments.probe.run import probe
from kvtool.store import Run, float32_to_bits
from kvtool.tasks import language
from kvtool.types import Sample
from tests.support.datasets import id_png, label_png, picture, write_json, write_text
from tests.support.units import DIM, HEADS, PLANTED, Array, Fill, noise, sample, write_run
from tests.test_result import assert_documented

GRID, LAYERS = (6, 8), 6
CLASSES = ("n01", "n02", "n03")
NAMES = ("red fish", "owl", "crane")


def commit_texts(run: Run, names: Any, seed: int = 2) -> Array:
    """Random vectors (text, layer, head, dim) for the names, in the store's precision."""
    values = (
        np.random.default_rng(seed).normal(size=(len(names), LAYERS, HEADS, DIM)).astype(np.float32)
    )
    run.commit_text(list(names), float32_to_bits(values))
    run.refresh()
    return values


def box(rng: np.random.Generator) -> Array:
    mask = np.zeros(GRID, bool)
    top, left = rng.integers(0, 3), rng.integers(0, 4)
    mask[top : top + 3, left : left + 4] = True
    return mask


def imagenet(root: Path, scale: int = 1, per_class: int = 4) -> dict[str, Array]:
    """Three classes, an object of 12 patches in each image, one of its patches ignored. Returns patch masks by id."""
    rng, masks = np.random.default_rng(0), {}
    for number, wnid in enumerate(CLASSES, 1):
        for i in range(per_class):
            name = f"{wnid}/{wnid}_{i}"
            picture(root / f"validation/{name}.JPEG", GRID[1] * scale, GRID[0] * scale)
            masks[name] = box(rng)
            ids = np.where(masks[name], number, 0)
            ids[tuple(np.argwhere(masks[name])[0])] = 1000
            id_png(
                root / f"validation-segmentation/{name}.png",
                np.kron(ids, np.ones((scale, scale), int)),
            )
    write_text(
        root / "words.txt",
        "".join(f"{w}\t{n}, other\n" for w, n in zip(CLASSES, NAMES, strict=True)),
    )
    return masks


def planted(masks: dict[str, Array], texts: Array, row_of: dict[str, int], wrong: str = "") -> Fill:
    """In block PLANTED the object's patches are the text's vector, the others another text's; in image `wrong` two
    patches of the background too."""
    background = noise(8)

    def fill(s: Sample, layer: int, head: int) -> Array:
        if (layer, head) != PLANTED:
            return background(s, layer, head)
        mask = masks[s.id].reshape(-1).copy()
        if s.id == wrong:
            mask[np.flatnonzero(~mask)[:2]] = True
        own, row = texts[:, layer, head], row_of[s.id]
        return np.asarray(np.where(mask[:, None], own[row], own[(row + 1) % len(own)]))

    return fill


def imagenet_run(folder: Path, scale: int = 1, wrong: str = "") -> Run:
    masks = imagenet(folder / "data", scale)
    values = np.random.default_rng(2).normal(size=(3, LAYERS, HEADS, DIM)).astype(np.float32)
    row_of = {name: CLASSES.index(name[:3]) for name in masks}
    refs = ImageNetS(folder / "data").images()
    wh = (GRID[1] * scale, GRID[0] * scale)
    samples = [sample(ref.id, i, wh, GRID) for i, ref in enumerate(refs)]
    fill = planted(masks, values, row_of, wrong)
    return write_run(
        folder / "store",
        "imagenet-s",
        "validation",
        folder / "data",
        samples,
        fill,
        layers=LAYERS,
        dtype="bfloat16",
    )


def test_semantic_segmentation_by_hand(tmp_path: Path) -> None:
    """Eleven images are right; in the twelfth two of 36 background patches are foreground (11 counted ones)."""
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
    others = [
        r for r in result.rows if "category" not in r and (r["layer"], r["kv_head"]) != PLANTED
    ]
    assert max(r["miou_fgbg"] for r in others) < 0.6
    chance = np.mean([r["miou_fgbg"] for r in others])
    assert (
        sum(r["miou_fgbg_low"] <= chance <= r["miou_fgbg_high"] for r in others) >= len(others) - 2
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


def dense(one: Array, height: int, width: int) -> Array:
    return np.asarray(
        torch.nn.functional.interpolate(
            torch.from_numpy(one)[None, None],
            size=(height, width),
            mode="bilinear",
            align_corners=False,
        )[0, 0]
    )


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
        given, official = np.zeros((2, 2)), np.zeros((4, 2))
        for name, maps in slow_maps(run, layer, head).items():
            ids = dataset.label_map(name)
            keep = ids != 1000
            own = maps[dataset.class_id(name) - 1]
            said = dense(own, *ids.shape) > own.mean()
            for side in (0, 1):
                a, b = (said == side) & keep, ((ids == dataset.class_id(name)) == side) & keep
                given[side] += [(a & b).sum(), (a | b).sum()]
            stack = np.stack([dense(m, *ids.shape) for m in maps])
            best = stack.argmax(0)
            over = stack.max(0) > maps.mean((1, 2))[best]
            labels = np.where(over, best + 1, 0)
            for c in range(4):
                a, b = (labels == c) & keep, (ids == c) & keep
                official[c] += [(a & b).sum(), (a | b).sum()]
        assert row["miou_fgbg"] == pytest.approx((given[:, 0] / given[:, 1]).mean(), abs=2e-3)
        assert row["miou"] == pytest.approx(
            (official[:, 0] / (official[:, 1] + 1e-10)).mean(), abs=2e-3
        )


def bdd_run(folder: Path) -> Run:
    """Six street scenes of 24 x 18 pixels: four classes in blocks of a patch, and a void row; noise in every block."""
    root, rng = folder / "data", np.random.default_rng(0)
    for i in range(6):
        picture(root / f"images/10k/val/s{i}.jpg", 24, 18)
        labels = np.kron(
            rng.choice([0, 2, 10, 13], size=GRID, p=[0.4, 0.3, 0.2, 0.1]), np.ones((3, 3), int)
        )
        labels[labels == (13 if i == 2 else -1)] = 0
        labels[5] = 255
        label_png(root / f"labels/sem_seg/masks/val/s{i}.png", labels, palette=False)
    samples = [
        sample(ref.id, i, (24, 18), GRID) for i, ref in enumerate(Bdd10k(root, "val").images())
    ]
    run = write_run(folder / "store", "bdd10k", "val", root, samples, noise(5), layers=LAYERS)
    commit_texts(run, Bdd10k(root, "val").texts())
    return run


def test_bdd_has_every_class_of_an_image_in_turn(tmp_path: Path) -> None:
    run = bdd_run(tmp_path)
    dataset = Bdd10k(tmp_path / "data", "val")
    result = probe(run, "semantic-segmentation", layers=[3], heads=[1], all_classes=True)
    given, of_car, official = np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((19, 2))
    for name, maps in slow_maps(run, 3, 1).items():
        labels = dataset.label_map(name)
        keep = labels != 255
        stack = np.stack([dense(m, *labels.shape) for m in maps])
        for label in np.unique(labels[keep]):
            said = stack[label] > maps[label].mean()
            for side in (0, 1):
                a, b = (said == side) & keep, ((labels == label) == side) & keep
                given[side] += [(a & b).sum(), (a | b).sum()]
                of_car[side] += [(a & b).sum(), (a | b).sum()] if label == 13 else 0
        for label in range(19):
            a, b = (stack.argmax(0) == label) & keep, (labels == label) & keep
            official[label] += [(a & b).sum(), (a | b).sum()]
    assert result.best is not None
    assert result.best["n"] == 6
    assert result.best["miou_fgbg"] == pytest.approx((given[:, 0] / given[:, 1]).mean(), abs=2e-3)
    present = [0, 2, 10, 13]
    assert result.best["miou"] == pytest.approx(
        (official[present, 0] / official[present, 1]).mean(), abs=2e-3
    )
    categories = {row["category"]: row for row in result.rows if "category" in row}
    assert list(categories) == ["road", "building", "sky", "car"]
    assert categories["car"]["n"] == 5
    assert categories["car"]["miou_fgbg"] == pytest.approx(
        (of_car[:, 0] / of_car[:, 1]).mean(), abs=2e-3
    )
    assert_documented(result.to_json())


def test_a_run_without_its_texts(tmp_path: Path) -> None:
    run = imagenet_run(tmp_path)
    with pytest.raises(KvtoolError, match="needs the vectors of 3 texts"):
        probe(run, "semantic-segmentation")
    with pytest.raises(UsageError, match="projected is without text vectors"):
        probe(run, "semantic-segmentation", kinds=["projected"])
    for cutoff in ("median", "fraction:2", "fraction:x"):
        with pytest.raises(UsageError, match="expected mean, otsu or fraction"):
            probe(run, "semantic-segmentation", cutoff=cutoff)


def test_cuts() -> None:
    maps = torch.tensor([[0.0, 0.1, 0.2, 5.0, 5.2], [1.0, 1.0, 1.0, 1.0, 2.0]])
    np.testing.assert_allclose(language.thresholds(maps, "mean"), [2.1, 1.2], rtol=1e-6)
    np.testing.assert_allclose(language.thresholds(maps, "otsu"), [2.6, 1.5], rtol=1e-6)
    assert (maps > language.thresholds(maps, "fraction:0.4")[:, None]).sum(1).tolist() == [2, 1]


def refcoco(root: Path) -> dict[str, Array]:
    """Four images of one patch a pixel; in each a box, referred to by two sentences. Returns the masks by id."""
    rng, masks, refs, annotations, images = np.random.default_rng(1), {}, [], [], []
    for i in range(4):
        name = f"COCO_train2014_{i + 1:012d}"
        picture(root / f"images/mscoco/images/train2014/{name}.jpg", GRID[1], GRID[0])
        masks[name] = box(rng)
        ys, xs = np.nonzero(masks[name])
        x0, y0, x1, y1 = int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1
        images.append(
            {"id": i + 1, "file_name": f"{name}.jpg", "width": GRID[1], "height": GRID[0]}
        )
        polygon = [x0, y0, x1, y0, x1, y1, x0, y1]
        annotations.append(
            {
                "id": 10 + i,
                "image_id": i + 1,
                "category_id": 1,
                "segmentation": [polygon],
                "area": 12,
                "iscrowd": 0,
            }
        )
        sentences = [
            {"sent_id": 2 * i + j, "sent": f"thing {i} {j}", "raw": f"Thing {i} {j}"}
            for j in range(2)
        ]
        refs.append(
            {
                "ref_id": i,
                "ann_id": 10 + i,
                "category_id": 1,
                "image_id": i + 1,
                "file_name": f"{name}_{i}.jpg",
                "split": "val",
                "sent_ids": [2 * i, 2 * i + 1],
                "sentences": sentences,
            }
        )
    write_json(
        root / "refcoco/instances.json",
        {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "box"}]},
    )
    (root / "refcoco/refs(unc).p").write_bytes(pickle.dumps(refs, protocol=0))
    return masks


def test_referring_expression_by_hand(tmp_path: Path) -> None:
    """The first sentence of each image finds its box but in one image, where two more patches look like it; the second
    sentence's vector is the background's: it finds exactly what is not the box."""
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

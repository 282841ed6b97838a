"""Small data sets of the tasks that compare patches with texts, and runs over them with planted
answers.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.datasets.bdd10k import Bdd10k
from kvtool.datasets.imagenet_s import ImageNetS
from kvtool.store import Run, float32_to_bits
from kvtool.types import Sample
from tests.support.datasets import id_png, label_png, picture, write_json, write_text
from tests.support.units import DIM, HEADS, PLANTED, Array, Fill, noise, sample, write_run

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
    """Three classes, an object of 12 patches in each image, one of its patches ignored.

    Returns patch masks by id.
    """
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
    """In block PLANTED the object's patches are the text's vector, the others another text's; in
    image `wrong` two patches of the background too.
    """
    background = noise(8)

    def fill(s: Sample, layer: int, head: int) -> Array:
        if (layer, head) != PLANTED:
            return background(s, layer, head)
        mask = masks[s.id].reshape(-1).copy()
        if s.id == wrong:
            mask[np.flatnonzero(~mask)[:2]] = True
        vectors, row = texts[:, layer, head], row_of[s.id]
        return np.asarray(np.where(mask[:, None], vectors[row], vectors[(row + 1) % len(vectors)]))

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


def bdd_run(folder: Path) -> Run:
    """Six street scenes of 24 x 18 pixels: four classes in blocks of a patch, and a void row; noise
    in every block.
    """
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


def instance(number: int, mask: Array) -> dict[str, Any]:
    """COCO's annotation of one box of an image."""
    ys, xs = np.nonzero(mask)
    x0, y0, x1, y1 = int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1
    return {
        "id": 10 + number,
        "image_id": number + 1,
        "category_id": 1,
        "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
        "area": 12,
        "iscrowd": 0,
    }


def reference(number: int, name: str) -> dict[str, Any]:
    """RefCOCO's record of a box that two sentences refer to."""
    sentences = [
        {"sent_id": 2 * number + j, "sent": f"thing {number} {j}", "raw": f"Thing {number} {j}"}
        for j in range(2)
    ]
    return {
        "ref_id": number,
        "ann_id": 10 + number,
        "category_id": 1,
        "image_id": number + 1,
        "file_name": f"{name}_{number}.jpg",
        "split": "val",
        "sent_ids": [2 * number, 2 * number + 1],
        "sentences": sentences,
    }


def refcoco(root: Path) -> dict[str, Array]:
    """Four images of one patch a pixel; in each a box, referred to by two sentences.

    Returns the masks by id.
    """
    rng, masks, refs, annotations, images = np.random.default_rng(1), {}, [], [], []
    for i in range(4):
        name = f"COCO_train2014_{i + 1:012d}"
        picture(root / f"images/mscoco/images/train2014/{name}.jpg", GRID[1], GRID[0])
        masks[name] = box(rng)
        images.append(
            {"id": i + 1, "file_name": f"{name}.jpg", "width": GRID[1], "height": GRID[0]}
        )
        annotations.append(instance(i, masks[name]))
        refs.append(reference(i, name))
    write_json(
        root / "refcoco/instances.json",
        {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "box"}]},
    )
    (root / "refcoco/refs(unc).p").write_bytes(pickle.dumps(refs, protocol=0))
    return masks

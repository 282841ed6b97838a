"""A small Pascal-5i, and a run over it with a planted answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kvtool.datasets.pascal5i import Pascal5i
from kvtool.features.layers import patch_labels
from kvtool.metrics.segmentation import VOID
from kvtool.store import Run
from kvtool.types import Sample
from tests.support.datasets import label_png, picture, write_text
from tests.support.units import DIM, PLANTED, Array, Fill, noise, sample, write_run

TASK = "foreground-segmentation"
GRID = (6, 8)


def write_pascal(root: Path, scale: int, per_class: int = 7, seed: int = 0) -> Path:
    """Images of 8 x 6 patches of `scale` pixels; the object is a rectangle of whole patches, a rim
    of it void.
    """
    rng = np.random.default_rng(seed)
    lines = []
    for class_id in range(1, 6):
        for number in range(per_class):
            name = f"2007_{class_id:02d}{number:04d}"
            lines.append(f"{name}__{class_id:02d}")
            picture(root / f"VOC2012/JPEGImages/{name}.jpg", GRID[1] * scale, GRID[0] * scale)
            labels = np.zeros((GRID[0] * scale, GRID[1] * scale), np.uint8)
            top, left = rng.integers(0, 3), rng.integers(0, 4)
            labels[top * scale : (top + 3) * scale, left * scale : (left + 4) * scale] = class_id
            labels[top * scale, left * scale : (left + 2) * scale] = VOID
            label_png(root / f"VOC2012/SegmentationClassAug/{name}.png", labels)
    write_text(root / "splits/pascal/val/fold0.txt", "\n".join(lines) + "\n")
    return root


def planted(dataset: Pascal5i, wrong: int = 0) -> Fill:
    """Noise, but in block PLANTED a token says whether its patch is foreground; `wrong` background
    patches of each image of class 1 say they are (a share too small to move the classifier).
    """
    direction = np.random.default_rng(9).normal(size=DIM)
    background = noise(3)

    def fill(s: Sample, layer: int, head: int) -> Array:
        values = background(s, layer, head)
        if (layer, head) == PLANTED:
            class_id = int(s.id[5:7])
            foreground, valid = patch_labels(dataset.class_mask(s.id, class_id), s.base())
            if class_id == 1:
                foreground[np.flatnonzero(~foreground & valid)[:wrong]] = True
            values[s.base().token_indices()] = 0.01 * values[s.base().token_indices()]
            values[s.base().token_indices()] += np.where(foreground[:, None], 1, -1) * direction
        return values

    return fill


def make_run(
    folder: Path,
    scale: int,
    *,
    wrong: int = 0,
    images: int | None = None,
    newline: bool = False,
    per_class: int = 7,
) -> Run:
    dataset = Pascal5i(write_pascal(folder / "data", scale, per_class), "fold0")
    wh = (GRID[1] * scale, GRID[0] * scale)
    samples = [
        sample(ref.id, i, wh, GRID, newline=newline and i % 2 == 0)
        for i, ref in enumerate(dataset.images())
    ]
    return write_run(
        folder / "store",
        "pascal5i",
        "fold0",
        folder / "data",
        samples[:images],
        planted(dataset, wrong),
    )

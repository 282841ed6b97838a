"""A small MSRC-like data set for co-segmentation, and a run over it with a planted answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kvtool.datasets.msrc import Msrc
from kvtool.types import Sample
from tests.support.datasets import picture
from tests.support.units import DIM, PLANTED, Array, Fill, noise, sample, write_run

TASK = "co-segmentation"
GRID = (6, 8)


def write_msrc(root: Path, images: int = 4) -> dict[str, Array]:
    """Two classes; one object of 2 x 3 patches inside each image, a patch a pixel.

    Returns the masks by id.
    """
    rng, masks = np.random.default_rng(0), {}
    for category in ("cow", "dog"):
        for number in range(images):
            name = f"{category}/{category}{number}"
            picture(root / f"image/{name}.png", GRID[1], GRID[0])
            mask = np.zeros(GRID, np.uint8)
            top, left = rng.integers(1, 4), rng.integers(1, 5)
            mask[top : top + 2, left : left + 3] = 255
            (root / f"groundtruth/{name}.png").parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(root / f"groundtruth/{name}.png")
            masks[name] = mask > 0
    return masks


def planted(masks: dict[str, Array]) -> Fill:
    """Block PLANTED has one vector for the object and one for the rest, but in cow0 two more
    patches look like it.
    """
    first, second = np.random.default_rng(4).normal(size=(2, DIM))
    background = noise(5)

    def fill(s: Sample, layer: int, head: int) -> Array:
        if (layer, head) != PLANTED:
            return background(s, layer, head)
        mask = masks[s.id].reshape(-1).copy()
        if s.id == "cow/cow0":
            mask[np.flatnonzero(~mask)[[9, 10]]] = True
        return np.asarray(
            np.where(mask[:, None], first, second) + 1e-3 * background(s, layer, head)
        )

    return fill


def make_run(folder: Path) -> Any:
    masks = write_msrc(folder / "data")
    refs = Msrc(folder / "data").images()
    samples = [sample(ref.id, i, GRID[::-1], GRID) for i, ref in enumerate(refs)]
    return write_run(
        folder / "store", "msrc", "all", folder / "data", samples, planted(masks), layers=6
    )

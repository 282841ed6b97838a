"""The layout of MSRC7 for co-segmentation: image/<class>/*.jpg and groundtruth/<class>/*.png.

Masks are 0 and 255. There are seven classes. Every image of a class shows one thing of it, big,
with another background and look, often beside another thing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kvtool.demo.draw import Rendered, sample_rendered
from kvtool.demo.layouts.files import Size, save_jpeg, save_png, stream
from kvtool.demo.world import Scene, categories

CLASSES = ("bird", "car", "cat", "fish", "plane", "rabbit", "turtle")
N_IMAGES: dict[Size, int] = {"small": 10, "medium": 10, "large": 200}
"""The number of images of each class; the data set itself has ten."""


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the data set into the empty folder, and return the number of images."""
    for name in CLASSES:
        for index in range(N_IMAGES[size]):
            _, rendered = draw_picture(seed, name, index)
            stem = f"{name}_{index + 1:04d}"
            save_jpeg(folder / "image" / name / f"{stem}.jpg", rendered.image)
            mask = np.where(rendered.thing_map == 1, 255, 0).astype(np.uint8)
            save_png(folder / "groundtruth" / name / f"{stem}.png", mask)
    return len(CLASSES) * N_IMAGES[size]


def draw_picture(seed: int, category: str, index: int) -> tuple[Scene, Rendered]:
    """Draw a scene whose thing 0 is big and of the category, with at most one thing in front."""
    rng = stream(seed, "msrc", category, index)
    rivals = [name for name in categories() if name != category]
    while True:
        names = [category, *(str(rng.choice(rivals)) for _ in range(rng.integers(2)))]
        scene, rendered = sample_rendered(rng, categories=names, style="flat", time="day")
        if scene.things[0].size == "big":
            return scene, rendered

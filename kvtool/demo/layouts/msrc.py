"""The MSRC7 subset of co-segmentation: image/<class>/*.jpg and groundtruth/<class>/*.png, 0 and 255.

Seven classes; every image of a class shows one thing of it, big, in another place and look, often beside others.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kvtool.demo.draw import Rendered, sample_rendered
from kvtool.demo.layouts.files import Size, save_jpeg, save_png, stream
from kvtool.demo.world import Scene, categories

CLASSES = ("bird", "car", "cat", "fish", "plane", "rabbit", "turtle")
N_IMAGES: dict[Size, int] = {"small": 10, "medium": 10, "large": 200}
"""Images of each class; ten in the data set itself."""


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the data set into the empty folder; the number of images."""
    for name in CLASSES:
        for index in range(N_IMAGES[size]):
            _, rendered = draw_picture(seed, name, index)
            stem = f"{name}_{index + 1:04d}"
            save_jpeg(folder / "image" / name / f"{stem}.jpg", rendered.image)
            mask = np.where(rendered.thing_map == 1, 255, 0).astype(np.uint8)
            save_png(folder / "groundtruth" / name / f"{stem}.png", mask)
    return len(CLASSES) * N_IMAGES[size]


def draw_picture(seed: int, category: str, index: int) -> tuple[Scene, Rendered]:
    """A scene whose thing 0 is big and of the category, with at most one other thing in front; and its drawing."""
    rng = stream(seed, "msrc", category, index)
    others = [other for other in categories() if other != category]
    while True:
        wanted = [category, *(str(rng.choice(others)) for _ in range(rng.integers(2)))]
        scene, rendered = sample_rendered(rng, categories=wanted, style="flat", time="day")
        if scene.things[0].size == "big":
            return scene, rendered

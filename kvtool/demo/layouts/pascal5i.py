"""The layout of Pascal-5i as HSNet reads it.

    VOC2012/JPEGImages/*.jpg
    VOC2012/SegmentationClassAug/*.png
    splits/pascal/{trn,val}/fold{0..3}.txt
    classes.txt

The first 20 categories are the classes 1 to 20, five a fold, with their names in classes.txt; 255
runs along every outline. A list names an image once for every class of the fold that shows at least
`MIN_AREA_PX` pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kvtool.demo.draw import Rendered, sample_rendered
from kvtool.demo.layouts.files import (
    Labels,
    Size,
    border,
    save_jpeg,
    save_labels,
    save_text,
    stream,
)
from kvtool.demo.world import Scene, categories

N_CLASSES = 20
N_FOLDS = 4
VOID = 255
MIN_AREA_PX = 64
PLAN: dict[Size, dict[str, int]] = {
    "small": {"trn": 120, "val": 120},
    "medium": {"trn": 200, "val": 300},
    "large": {"trn": 2000, "val": 1500},
}
"""The number of images of each split."""


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the data set into the empty folder, and return the number of images."""
    n_images = 0
    save_text(folder / "classes.txt", "".join(f"{name}\n" for name in categories()[:N_CLASSES]))
    for split, count in PLAN[size].items():
        folds: list[list[str]] = [[] for _ in range(N_FOLDS)]
        for index in range(count):
            n_images += 1
            scene, rendered = draw_picture(seed, split, index)
            name = f"2026_{n_images:06d}"
            labels = class_labels(scene, rendered)
            save_jpeg(folder / "VOC2012" / "JPEGImages" / f"{name}.jpg", rendered.image)
            save_labels(folder / "VOC2012" / "SegmentationClassAug" / f"{name}.png", labels)
            # An image is listed with each class of which enough can be seen, in that class's fold.
            for class_id in range(1, N_CLASSES + 1):
                if np.count_nonzero(labels == class_id) >= MIN_AREA_PX:
                    fold = (class_id - 1) // (N_CLASSES // N_FOLDS)
                    folds[fold].append(f"{name}__{class_id:02d}")
        for fold, lines in enumerate(folds):
            text = "".join(f"{line}\n" for line in lines)
            save_text(folder / "splits" / "pascal" / split / f"fold{fold}.txt", text)
    return n_images


def draw_picture(seed: int, split: str, index: int) -> tuple[Scene, Rendered]:
    """Draw one to three things of the 20 classes.

    The classes take turns, so that each is in every 20th picture at least.
    """
    rng = stream(seed, "pascal5i", split, index)
    names = categories()[:N_CLASSES]
    things = [names[index % N_CLASSES], *(str(rng.choice(names)) for _ in range(rng.integers(3)))]
    order = [things[int(position)] for position in rng.permutation(len(things))]
    return sample_rendered(rng, categories=order)


def class_labels(scene: Scene, rendered: Rendered) -> Labels:
    """Return the labels (H, W): 0 background, 1 to 20 the class, 255 along the outlines."""
    ids = np.asarray(
        [0, *(categories().index(thing.category) + 1 for thing in scene.things)], dtype=np.uint8
    )
    labels: Labels = ids[rendered.thing_map]
    labels[border(rendered.thing_map)] = VOID
    return labels

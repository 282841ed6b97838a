"""ImageNet-S: ImageNetS50/{validation,validation-segmentation}/<wnid>/*.{JPEG,png}, with as many classes as the world.

A mask is an RGB PNG: id = R + 256 G, 1000 along the outlines (ignored), 0 elsewhere; ids count the sorted wnids from 1.
The wnids are invented (n9...), and their order is not that of the names. ImageNetS_categories_im50.txt lists them as
the official repository does, words.txt gives each its name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from kvtool.demo.draw import Rendered, sample_rendered
from kvtool.demo.layouts.files import Size, border, save_jpeg, save_png, save_text, stream
from kvtool.demo.world import Scene, categories

IGNORE = 1000
N_IMAGES: dict[Size, int] = {"small": 3, "medium": 10, "large": 60}
"""Images of each class."""


def wnids() -> dict[str, str]:
    """wnid -> category, sorted by wnid: the position + 1 is the class id."""
    names = categories()
    found = {
        f"n{91_000_000 + 40_123 * ((5 * index + 3) % len(names))}": name
        for index, name in enumerate(names)
    }
    return dict(sorted(found.items()))


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the data set into the empty folder; the number of images."""
    table, n_images = wnids(), 0
    save_text(folder / "ImageNetS_categories_im50.txt", "".join(f"{wnid}\n" for wnid in table))
    save_text(folder / "words.txt", "".join(f"{wnid}\t{name}\n" for wnid, name in table.items()))
    for wnid, category in table.items():
        for index in range(N_IMAGES[size]):
            n_images += 1
            scene, rendered = draw_picture(seed, category, index)
            stem = f"ILSVRC2012_val_{n_images:08d}"
            save_jpeg(folder / "ImageNetS50" / "validation" / wnid / f"{stem}.JPEG", rendered.image)
            mask = encode_ids(class_ids(scene, rendered))
            save_png(
                folder / "ImageNetS50" / "validation-segmentation" / wnid / f"{stem}.png", mask
            )
    return n_images


def draw_picture(seed: int, category: str, index: int) -> tuple[Scene, Rendered]:
    """The category, in one of three images with a thing of another class, which is labeled too."""
    rng = stream(seed, "imagenet-s", category, index)
    wanted = [category, *(str(rng.choice(categories())) for _ in range(int(rng.random() < 1 / 3)))]
    return sample_rendered(
        rng, categories=[wanted[int(position)] for position in rng.permutation(len(wanted))]
    )


def class_ids(scene: Scene, rendered: Rendered) -> npt.NDArray[np.int64]:
    """(H, W): 0 other, class id, 1000 along the outlines."""
    order = list(wnids().values())
    ids = np.asarray([0, *(order.index(thing.category) + 1 for thing in scene.things)])
    labels: npt.NDArray[np.int64] = ids[rendered.thing_map]
    labels[border(rendered.thing_map)] = IGNORE
    return labels


def encode_ids(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """(H, W) -> (H, W, 3): id % 256, id // 256, 0."""
    return np.stack([ids % 256, ids // 256, np.zeros_like(ids)], axis=-1).astype(np.uint8)

"""The layout of ImageNet-S, with as many classes as the world has.

    ImageNetS50/validation/<wnid>/*.JPEG
    ImageNetS50/validation-segmentation/<wnid>/*.png
    ImageNetS_categories_im50.txt
    words.txt

A mask is an RGB PNG: id = R + 256 G, 1000 along the outlines (ignored), 0 elsewhere; ids count the
sorted wnids from 1. The wnids are invented (n9...), and their order is not that of the names.
ImageNetS_categories_im50.txt lists them as the official repository does, words.txt names them.
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
"""The number of images of each class."""


def wnids() -> dict[str, str]:
    """Return wnid -> category, sorted by wnid: the position + 1 is the class id."""
    names = categories()
    table = {}
    for index, name in enumerate(names):
        # A permutation of the names, so that loaders cannot rely on their order.
        position = (5 * index + 3) % len(names)
        table[f"n{91_000_000 + 40_123 * position}"] = name
    return dict(sorted(table.items()))


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the data set into the empty folder, and return the number of images."""
    table = wnids()
    n_images = 0
    save_text(folder / "ImageNetS_categories_im50.txt", "".join(f"{wnid}\n" for wnid in table))
    save_text(folder / "words.txt", "".join(f"{wnid}\t{name}\n" for wnid, name in table.items()))
    images = folder / "ImageNetS50"
    # A folder's images show its class; another thing beside it is labeled too.
    for wnid, category in table.items():
        for index in range(N_IMAGES[size]):
            n_images += 1
            scene, rendered = draw_picture(seed, category, index)
            stem = f"ILSVRC2012_val_{n_images:08d}"
            save_jpeg(images / "validation" / wnid / f"{stem}.JPEG", rendered.image)
            mask = encode_ids(class_ids(scene, rendered))
            save_png(images / "validation-segmentation" / wnid / f"{stem}.png", mask)
    return n_images


def draw_picture(seed: int, category: str, index: int) -> tuple[Scene, Rendered]:
    """Draw a thing of the category, in one of three images with another thing.

    The other thing is labeled too.
    """
    rng = stream(seed, "imagenet-s", category, index)
    names = [category]
    if rng.random() < 1 / 3:
        names.append(str(rng.choice(categories())))
    order = [names[int(position)] for position in rng.permutation(len(names))]
    return sample_rendered(rng, categories=order)


def class_ids(scene: Scene, rendered: Rendered) -> npt.NDArray[np.int64]:
    """Return the ids (H, W): the class, 0 for background, 1000 along the outlines."""
    order = list(wnids().values())
    ids = np.asarray([0, *(order.index(thing.category) + 1 for thing in scene.things)])
    labels: npt.NDArray[np.int64] = ids[rendered.thing_map]
    labels[border(rendered.thing_map)] = IGNORE
    return labels


def encode_ids(ids: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Encode ids (H, W) as colors (H, W, 3): id % 256, id // 256, 0."""
    return np.stack([ids % 256, ids // 256, np.zeros_like(ids)], axis=-1).astype(np.uint8)

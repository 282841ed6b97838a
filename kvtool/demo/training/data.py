"""Scenes drawn once and kept as arrays: 96 x 96 pixels, and what each patch shows.

A `Collection` is a folder: `images.npy` (n, 96, 96, 3) uint8, `patches.npy` (n, 3, 12, 12) uint8
(thing index + 1, part id, and index + 1 of a thing whose middle lies in the patch), and
`scenes.pkl`, which we have written ourselves. Item i depends on the seed and i alone. An image is
resized as the PIL backend of LlavaOnevisionImageProcessor does it.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from kvtool.demo.compare import corresponding_point, most_similar, same_style
from kvtool.demo.draw import Rendered, sample_rendered
from kvtool.demo.shapes import part_names, parts
from kvtool.demo.street import Street, render_street, sample_street
from kvtool.demo.training.config import GRID, IMAGE_PX, PATCH_PX, TrainingSettings
from kvtool.demo.world import Scene, sample_size

Bytes = npt.NDArray[np.uint8]
Item = tuple[list[Bytes], Bytes, object]
"""Images (96, 96, 3), patches (3, 12, 12), and the scene or the like."""


@dataclass(frozen=True)
class Collection:
    """Drawings of n items.

    Attributes:
        images: (n, 96, 96, 3), or (n, images of an item, 96, 96, 3).
        patches: (n, 3, 12, 12), see `patch_labels`.
        items: Scenes or the like.
    """

    images: Bytes
    patches: Bytes
    items: list[object]

    def __len__(self) -> int:
        return len(self.items)


def shrink(image: Bytes) -> Bytes:
    """Resize (H, W, 3) to (96, 96, 3), bicubic, without keeping the aspect ratio."""
    return np.asarray(Image.fromarray(image).resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC))


def through_jpeg(image: Bytes, quality: int) -> Bytes:
    """Compress and decompress the image (H, W, 3), as real files are."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def patch_labels(scene: Scene, rendered: Rendered) -> Bytes:
    """Say what each patch shows, (3, 12, 12).

    The first map has index + 1 of the thing seen in the patch, of which a fifth suffices, the
    second has the most frequent part of it there, and the third has index + 1 where a thing has
    its middle.
    """
    # The pixels of the maps that lie under the resized image's, cut into patches.
    rows = (np.arange(IMAGE_PX) + 0.5) * rendered.thing_map.shape[0] / IMAGE_PX
    columns = (np.arange(IMAGE_PX) + 0.5) * rendered.thing_map.shape[1] / IMAGE_PX
    pixel = np.ix_(rows.astype(int), columns.astype(int))
    things = _tiles(rendered.thing_map[pixel])
    part_numbers = _tiles(rendered.part_map[pixel])
    labels = np.zeros((3, GRID, GRID), dtype=np.uint8)
    # Of the things in a patch the largest one counts.
    best = np.full((GRID, GRID), PATCH_PX**2 // 5)
    for index, thing in enumerate(scene.things):
        inside = things == index + 1
        area = inside.sum(axis=-1)
        wins = area > best
        best[wins] = area[wins]
        labels[0][wins] = index + 1
        part_areas = [
            (inside & (part_numbers == number + 1)).sum(axis=-1)
            for number in range(len(parts(thing.category)))
        ]
        ids = np.asarray(
            [part_names().index(part) + 1 for part in parts(thing.category)], dtype=np.uint8
        )
        labels[1][wins] = ids[np.argmax(part_areas, axis=0)][wins]
    # Later things are in front, so that a shared middle is theirs.
    for index, thing in enumerate(scene.things):
        x, y = (
            int(np.clip(spot / side * GRID, 0, GRID - 1))
            for spot, side in zip(thing.center_xy_px, scene.size_wh, strict=True)
        )
        labels[2, y, x] = index + 1
    return labels


def _tiles(pixels: Bytes) -> Bytes:
    """Cut (96, 96) into patches (12, 12, pixels of a patch)."""
    tiles = pixels.reshape(GRID, PATCH_PX, GRID, PATCH_PX).transpose(0, 2, 1, 3)
    return tiles.reshape(GRID, GRID, -1)


def draw_scene(rng: np.random.Generator) -> Item:
    """Draw a scene, in two of five cases as a JPEG shows it."""
    scene, rendered = sample_rendered(rng)
    image = rendered.image
    if rng.random() < 0.4:
        image = through_jpeg(image, int(rng.integers(60, 96)))
    return [shrink(image)], patch_labels(scene, rendered), scene


def draw_street(rng: np.random.Generator) -> Item:
    """Draw a street; the item is the street and which of its 19 classes are present."""
    street = sample_street(rng, size_wh=(160, 90))
    rendered = render_street(street)
    assert rendered.class_map is not None  # streets always have one
    areas = np.bincount(rendered.class_map.ravel(), minlength=19)
    # Fewer pixels than this cannot be seen in the small image.
    present = areas > 0.004 * rendered.class_map.size
    return [shrink(rendered.image)], np.zeros((3, GRID, GRID), dtype=np.uint8), (street, present)


def draw_comparison(rng: np.random.Generator) -> Item:
    """Draw a comparison; three images are stored, of which the last is a filler if it has two."""
    compare = (same_style, most_similar, corresponding_point)[rng.integers(3)]
    comparison = compare(rng, sample_size(rng))
    images = [shrink(image) for image in comparison.images]
    images += [images[0]] * (3 - len(images))
    # The images lie in the collection already.
    item = replace(comparison, images=())
    return images, np.zeros((3, GRID, GRID), dtype=np.uint8), item


def draw(
    path: Path, count: int, seed: tuple[int, int], draw_item: Callable[[np.random.Generator], Item]
) -> Collection:
    """Draw `count` items into the folder, unless it holds them already.

    Args:
        path: The folder of the collection.
        count: The number of items.
        seed: The seed of the run and the number of the collection.
        draw_item: Draws an item from its random stream.
    """
    if not (path / "scenes.pkl").exists():
        path.mkdir(parents=True, exist_ok=True)
        images = []
        patches = np.zeros((count, 3, GRID, GRID), dtype=np.uint8)
        items = []
        for index in range(count):
            # A stream for each item: its number alone tells what is drawn.
            views, patches[index], item = draw_item(np.random.default_rng((*seed, index)))
            images.append(np.stack(views) if len(views) > 1 else views[0])
            items.append(item)
        np.save(path / "images.npy", np.stack(images))
        np.save(path / "patches.npy", patches)
        # Last, by rename: its presence says that the folder is complete.
        (path / "scenes.tmp").write_bytes(pickle.dumps(items))
        (path / "scenes.tmp").rename(path / "scenes.pkl")
    return load(path)


def load(path: Path) -> Collection:
    """Open the collection of a folder; its images stay on disk."""
    return Collection(
        images=np.load(path / "images.npy", mmap_mode="r"),
        patches=np.load(path / "patches.npy"),
        items=pickle.loads((path / "scenes.pkl").read_bytes()),
    )


@dataclass(frozen=True)
class World:
    """All pictures of a training run; the scenes held out share no seed with the others."""

    scenes: Collection
    streets: Collection
    comparisons: Collection
    held_out: Collection


def draw_world(path: Path, settings: TrainingSettings) -> World:
    """Draw everything under `path` unless it exists; a picture takes some milliseconds."""
    seed = settings.seed
    return World(
        scenes=draw(path / "scenes", settings.train_scenes, (seed, 1), draw_scene),
        streets=draw(path / "streets", settings.train_streets, (seed, 2), draw_street),
        comparisons=draw(
            path / "comparisons", settings.train_comparisons, (seed, 3), draw_comparison
        ),
        held_out=draw(path / "held_out", settings.held_out, (seed, 4), draw_scene),
    )


__all__ = ["Collection", "Street", "World", "draw", "draw_world", "load", "patch_labels", "shrink"]

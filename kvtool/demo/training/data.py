"""Scenes drawn once and kept as arrays: 96 x 96 pixels, and what each patch shows.

A `Collection` is a folder: `images.npy` (n, 96, 96, 3) uint8, `patches.npy` (n, 3, 12, 12) uint8 (thing index + 1,
part id, whether a thing's middle lies in the patch) and `scenes.pkl`, written by ourselves. Item i depends on the
seed and i alone. An image is resized as LlavaOnevisionImageProcessor's PIL backend does it.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from kvtool.demo.compare import Comparison, corresponding_point, most_similar, same_style
from kvtool.demo.draw import Rendered, sample_rendered
from kvtool.demo.shapes import part_names, parts
from kvtool.demo.street import Street, render_street, sample_street
from kvtool.demo.training.config import GRID, IMAGE_PX, PATCH_PX, TrainingSettings
from kvtool.demo.world import Scene, sample_size

Bytes = npt.NDArray[np.uint8]
Drawn = tuple[list[Bytes], Bytes, object]


@dataclass(frozen=True)
class Collection:
    """`images` (n, per item, 96, 96, 3) or (n, 96, 96, 3); `patches` (n, 3, 12, 12); `items` scenes or the like."""

    images: Bytes
    patches: Bytes
    items: list[object]

    def __len__(self) -> int:
        return len(self.items)


def shrink(image: Bytes) -> Bytes:
    """(H, W, 3) -> (96, 96, 3), bicubic, aspect ratio given up."""
    return np.asarray(Image.fromarray(image).resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC))


def through_jpeg(image: Bytes, quality: int) -> Bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def patch_labels(scene: Scene, rendered: Rendered) -> Bytes:
    """(3, 12, 12): thing index + 1 seen in the patch (a fifth of it suffices), its commonest part there, middles."""
    rows = (np.arange(IMAGE_PX) + 0.5) * rendered.thing_map.shape[0] / IMAGE_PX
    columns = (np.arange(IMAGE_PX) + 0.5) * rendered.thing_map.shape[1] / IMAGE_PX
    pixel = np.ix_(rows.astype(int), columns.astype(int))
    tiles = [
        each[pixel]
        .reshape(GRID, PATCH_PX, GRID, PATCH_PX)
        .transpose(0, 2, 1, 3)
        .reshape(GRID, GRID, -1)
        for each in (rendered.thing_map, rendered.part_map)
    ]
    labels = np.zeros((3, GRID, GRID), dtype=np.uint8)
    best = np.full((GRID, GRID), PATCH_PX**2 // 5)
    for index, thing in enumerate(scene.things):
        inside = tiles[0] == index + 1
        area = inside.sum(axis=-1)
        wins = area > best
        best[wins] = area[wins]
        labels[0][wins] = index + 1
        part_areas = [
            (inside & (tiles[1] == number + 1)).sum(axis=-1)
            for number in range(len(parts(thing.category)))
        ]
        ids = np.asarray(
            [part_names().index(part) + 1 for part in parts(thing.category)], dtype=np.uint8
        )
        labels[1][wins] = ids[np.argmax(part_areas, axis=0)][wins]
    for index, thing in enumerate(scene.things):
        x, y = (
            int(np.clip(spot / side * GRID, 0, GRID - 1))
            for spot, side in zip(thing.center_xy_px, scene.size_wh, strict=True)
        )
        labels[2, y, x] = index + 1
    return labels


def draw_scene(rng: np.random.Generator) -> Drawn:
    scene, rendered = sample_rendered(rng)
    image = (
        through_jpeg(rendered.image, int(rng.integers(60, 96)))
        if rng.random() < 0.4
        else rendered.image
    )
    return [shrink(image)], patch_labels(scene, rendered), scene


def draw_street(rng: np.random.Generator) -> Drawn:
    street = sample_street(rng, size_wh=(160, 90))
    rendered = render_street(street)
    assert rendered.class_map is not None
    present = (
        np.bincount(rendered.class_map.ravel(), minlength=19) > 0.004 * rendered.class_map.size
    )
    return [shrink(rendered.image)], np.zeros((3, GRID, GRID), dtype=np.uint8), (street, present)


def draw_comparison(rng: np.random.Generator) -> Drawn:
    compare = (same_style, most_similar, corresponding_point)[rng.integers(3)]
    found = compare(rng, sample_size(rng))
    images = [shrink(image) for image in found.images]
    images += [images[0]] * (3 - len(images))
    kept = Comparison((), found.scenes, found.text, found.options, found.answer, found.kind)
    return images, np.zeros((3, GRID, GRID), dtype=np.uint8), kept


def draw(
    path: Path, count: int, seed: tuple[int, int], one: Callable[[np.random.Generator], Drawn]
) -> Collection:
    """Draw `count` items into the folder, unless it holds them already."""
    if not (path / "scenes.pkl").exists():
        path.mkdir(parents=True, exist_ok=True)
        images, patches, items = [], np.zeros((count, 3, GRID, GRID), dtype=np.uint8), []
        for index in range(count):
            drawn, patches[index], item = one(np.random.default_rng((*seed, index)))
            images.append(np.stack(drawn) if len(drawn) > 1 else drawn[0])
            items.append(item)
        np.save(path / "images.npy", np.stack(images))
        np.save(path / "patches.npy", patches)
        # Last, by rename: its presence says that the folder is complete.
        (path / "scenes.tmp").write_bytes(pickle.dumps(items))
        (path / "scenes.tmp").rename(path / "scenes.pkl")
    return load(path)


def load(path: Path) -> Collection:
    return Collection(
        images=np.load(path / "images.npy", mmap_mode="r"),
        patches=np.load(path / "patches.npy"),
        items=pickle.loads((path / "scenes.pkl").read_bytes()),
    )


@dataclass(frozen=True)
class World:
    """All pictures of a training run; `held_out` scenes share no seed with the others."""

    scenes: Collection
    streets: Collection
    comparisons: Collection
    held_out: Collection


def draw_world(path: Path, settings: TrainingSettings) -> World:
    """Draw (or find) everything under `path`; two thousandths of a second a picture."""
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

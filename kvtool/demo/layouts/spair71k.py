"""The layout of SPair-71k: pairs of images of one category with the points they share.

    Layout/large/{trn,val,test}.txt
    PairAnnotation/<split>/<pair>.json
    {ImageAnnotation,JPEGImages,Segmentation}/<category>/*

The first 18 categories take part. Keypoint ids number the category's parts; a keypoint is the pixel
(column, row) of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.demo.draw import Rendered, sample_rendered
from kvtool.demo.layouts.files import Size, save_jpeg, save_json, save_labels, save_text, stream
from kvtool.demo.shapes import parts
from kvtool.demo.world import Scene, Thing, categories

N_CATEGORIES = 18
SHARED_POINTS = 3
"""A pair shares at least this many points."""
PLAN: dict[Size, dict[str, tuple[int, int]]] = {
    "small": {"trn": (3, 3), "val": (2, 2), "test": (4, 4)},
    "medium": {"trn": (4, 6), "val": (3, 4), "test": (8, 16)},
    "large": {"trn": (40, 300), "val": (10, 40), "test": (40, 120)},
}
"""The number of images, and the largest number of pairs, of each category and split."""


@dataclass(frozen=True)
class ScenePicture:
    """One image of the data set, whose object is thing number `index` of the scene."""

    name: str
    scene: Scene
    rendered: Rendered
    index: int

    @property
    def thing(self) -> Thing:
        """The object of the image."""
        return self.scene.things[self.index]

    @property
    def box_xyxy_px(self) -> tuple[int, int, int, int]:
        """The box around the object's visible pixels, the far edges exclusive."""
        box = self.rendered.boxes_xyxy_px[self.index]
        assert box is not None  # sample_rendered returns visible things
        return box

    def points(self) -> dict[str, list[int]]:
        """Return the visible keypoints, id -> [column, row]."""
        keypoints = self.rendered.keypoints_xy_px[self.index]
        visible_points = {}
        for number, part in enumerate(parts(self.thing.category)):
            x, y, visible = keypoints[part]
            if visible:
                visible_points[str(number)] = [int(x), int(y)]
        return visible_points

    def truncated(self) -> bool:
        """Tell whether the object touches the edge of the picture."""
        width, height = self.scene.size_wh
        x0, y0, x1, y1 = self.box_xyxy_px
        return x0 == 0 or y0 == 0 or x1 == width or y1 == height

    def occluded(self) -> bool:
        """Tell whether another thing hides a part inside the picture."""
        width, height = self.scene.size_wh
        points = self.rendered.keypoints_xy_px[self.index].values()
        return any(not visible and 0 <= x < width and 0 <= y < height for x, y, visible in points)


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the data set into the empty folder, and return the number of images."""
    names = categories()[:N_CATEGORIES]
    n_images = 0
    for split, (count, n_pairs) in PLAN[size].items():
        lines: list[str] = []
        for category in names:
            pictures = []
            for index in range(count):
                n_images += 1
                pictures.append(draw_picture(seed, split, category, index, f"2026_{n_images:06d}"))
                _save_picture(folder, pictures[-1], names)
            rng = stream(seed, "spair71k", split, category)
            for source, target in _choose_pairs(pictures, n_pairs, rng):
                line = f"{len(lines) + 1:06d}-{source.name}-{target.name}:{category}"
                annotation = _pair(len(lines), line, source, target)
                save_json(folder / "PairAnnotation" / split / f"{line}.json", annotation)
                lines.append(line)
        text = "".join(f"{line}\n" for line in lines)
        save_text(folder / "Layout" / "large" / f"{split}.txt", text)
    return n_images


def draw_picture(seed: int, split: str, category: str, index: int, name: str) -> ScenePicture:
    """Draw a thing of the category, alone or beside another, with most of its points visible.

    It is big in three of four pictures.
    """
    rng = stream(seed, "spair71k", split, category, index)
    rivals = [rival for rival in categories() if rival != category]
    size = "big" if rng.random() < 0.75 else "small"
    fewest_points = max(SHARED_POINTS, 0.7 * len(parts(category)))
    # Drawn again until the thing has its size and shows enough points for pairs.
    while True:
        names = [category, *(str(rng.choice(rivals)) for _ in range(rng.integers(2)))]
        order = [names[int(position)] for position in rng.permutation(len(names))]
        scene, rendered = sample_rendered(rng, categories=order, overlap=0.6)
        picture = ScenePicture(name, scene, rendered, order.index(category))
        if picture.thing.size == size and len(picture.points()) >= fewest_points:
            return picture


def _choose_pairs(
    pictures: list[ScenePicture], limit: int, rng: np.random.Generator
) -> list[tuple[ScenePicture, ScenePicture]]:
    """Choose at most `limit` of the pairs that share enough points."""
    pairs = [
        (source, target)
        for source, target in permutations(pictures, 2)
        if len(source.points().keys() & target.points().keys()) >= SHARED_POINTS
    ]
    return [pairs[int(position)] for position in rng.permutation(len(pairs))[:limit]]


def _save_picture(folder: Path, picture: ScenePicture, names: tuple[str, ...]) -> None:
    category = picture.thing.category
    width, height = picture.scene.size_wh
    visible = picture.points()
    stem = f"{category}/{picture.name}"
    save_jpeg(folder / "JPEGImages" / f"{stem}.jpg", picture.rendered.image)
    mask = picture.rendered.thing_map == picture.index + 1
    labels = (mask * (names.index(category) + 1)).astype(np.uint8)
    save_labels(folder / "Segmentation" / f"{stem}.png", labels)
    annotation = {
        "filename": f"{picture.name}.jpg",
        "src_database": "scenes",
        "src_annotation": "scenes",
        "src_image": "scenes",
        "image_width": width,
        "image_height": height,
        "image_depth": 3,
        "category": category,
        "category_id": names.index(category),
        "pose": _facing(picture),
        "truncated": int(picture.truncated()),
        "occluded": int(picture.occluded()),
        "difficult": 0,
        "bndbox": list(picture.box_xyxy_px),
        "kps": {str(number): visible.get(str(number)) for number in range(len(parts(category)))},
        "azimuth_id": round(picture.thing.angle_deg / 10) % 36,
    }
    save_json(folder / "ImageAnnotation" / f"{stem}.json", annotation)


def _facing(picture: ScenePicture) -> str:
    return "Left" if picture.thing.mirror else "Right"


def _pair(number: int, line: str, source: ScenePicture, target: ScenePicture) -> dict[str, Any]:
    """Return a pair's annotation.

    Variations are graded 0 (easy) to 2 (hard), truncation and occlusion 0 (none), 1 (source),
    2 (target) or 3 (both).
    """
    # Only points that both pictures show can be matched.
    ids = [key for key in source.points() if key in target.points()]
    turn = abs(source.thing.angle_deg - target.thing.angle_deg)
    sides = sorted(
        max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in (source.box_xyxy_px, target.box_xyxy_px)
    )
    return {
        "pair_id": number,
        "filename": line,
        "src_imname": f"{source.name}.jpg",
        "trg_imname": f"{target.name}.jpg",
        "src_imsize": [*source.scene.size_wh, 3],
        "trg_imsize": [*target.scene.size_wh, 3],
        "src_bndbox": list(source.box_xyxy_px),
        "trg_bndbox": list(target.box_xyxy_px),
        "category": source.thing.category,
        "src_pose": _facing(source),
        "trg_pose": _facing(target),
        "src_kps": [source.points()[key] for key in ids],
        "trg_kps": [target.points()[key] for key in ids],
        "kps_ids": ids,
        "mirror": int(source.thing.mirror != target.thing.mirror),
        "viewpoint_variation": int(turn > 10) + int(turn > 25),
        "scale_variation": int(sides[1] > 1.25 * sides[0]) + int(sides[1] > 1.6 * sides[0]),
        "truncation": int(source.truncated()) + 2 * int(target.truncated()),
        "occlusion": int(source.occluded()) + 2 * int(target.occluded()),
    }

"""SPair-71k: pairs of images of one category with the points they share, for the first 18 categories.

Layout/large/{trn,val,test}.txt, PairAnnotation/<split>/<pair>.json, ImageAnnotation, JPEGImages and
Segmentation/<category>/. Keypoint ids number the category's parts; a keypoint is the pixel (column, row) of it.
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
"""Fewest points a pair may share."""
PLAN: dict[Size, dict[str, tuple[int, int]]] = {
    "small": {"trn": (3, 3), "val": (2, 2), "test": (4, 4)},
    "medium": {"trn": (4, 6), "val": (3, 4), "test": (8, 16)},
    "large": {"trn": (40, 300), "val": (10, 40), "test": (40, 120)},
}
"""Images, and pairs at most, of each category and split."""


@dataclass(frozen=True)
class ScenePicture:
    """One image of the data set; its object is thing number `index` of the scene."""

    name: str
    scene: Scene
    rendered: Rendered
    index: int

    @property
    def thing(self) -> Thing:
        return self.scene.things[self.index]

    @property
    def box_xyxy_px(self) -> tuple[int, int, int, int]:
        box = self.rendered.boxes_xyxy_px[self.index]
        assert box is not None  # sample_rendered returns visible things
        return box

    def points(self) -> dict[str, list[int]]:
        """Visible keypoints, id -> [column, row]."""
        found = self.rendered.keypoints_xy_px[self.index]
        return {
            str(number): [int(found[part][0]), int(found[part][1])]
            for number, part in enumerate(parts(self.thing.category))
            if found[part][2]
        }

    def truncated(self) -> bool:
        width, height = self.scene.size_wh
        x0, y0, x1, y1 = self.box_xyxy_px
        return x0 == 0 or y0 == 0 or x1 == width or y1 == height

    def occluded(self) -> bool:
        """Whether a part inside the picture is hidden by another thing."""
        width, height = self.scene.size_wh
        places = self.rendered.keypoints_xy_px[self.index].values()
        return any(not seen and 0 <= x < width and 0 <= y < height for x, y, seen in places)


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the data set into the empty folder; the number of images."""
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
            for source, target in _choose_pairs(
                pictures, n_pairs, stream(seed, "spair71k", split, category)
            ):
                line = f"{len(lines) + 1:06d}-{source.name}-{target.name}:{category}"
                save_json(
                    folder / "PairAnnotation" / split / f"{line}.json",
                    _pair(len(lines), line, source, target),
                )
                lines.append(line)
        save_text(
            folder / "Layout" / "large" / f"{split}.txt", "".join(f"{line}\n" for line in lines)
        )
    return n_images


def draw_picture(seed: int, split: str, category: str, index: int, name: str) -> ScenePicture:
    """A thing of the category, big in three of four pictures, alone or beside another; most of its points visible."""
    rng = stream(seed, "spair71k", split, category, index)
    others = [other for other in categories() if other != category]
    side = "big" if rng.random() < 0.75 else "small"
    while True:
        wanted = [category, *(str(rng.choice(others)) for _ in range(rng.integers(2)))]
        wanted = [wanted[int(position)] for position in rng.permutation(len(wanted))]
        scene, rendered = sample_rendered(rng, categories=wanted, overlap=0.6)
        picture = ScenePicture(name, scene, rendered, wanted.index(category))
        if picture.thing.size == side and len(picture.points()) >= max(
            SHARED_POINTS, 0.7 * len(parts(category))
        ):
            return picture


def _choose_pairs(
    pictures: list[ScenePicture], limit: int, rng: np.random.Generator
) -> list[tuple[ScenePicture, ScenePicture]]:
    able = [
        (a, b)
        for a, b in permutations(pictures, 2)
        if len(a.points().keys() & b.points().keys()) >= SHARED_POINTS
    ]
    return [able[int(position)] for position in rng.permutation(len(able))[:limit]]


def _save_picture(folder: Path, picture: ScenePicture, names: tuple[str, ...]) -> None:
    category, (width, height) = picture.thing.category, picture.scene.size_wh
    visible, place = picture.points(), f"{category}/{picture.name}"
    save_jpeg(folder / "JPEGImages" / f"{place}.jpg", picture.rendered.image)
    mask = picture.rendered.thing_map == picture.index + 1
    save_labels(
        folder / "Segmentation" / f"{place}.png",
        (mask * (names.index(category) + 1)).astype(np.uint8),
    )
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
    save_json(folder / "ImageAnnotation" / f"{place}.json", annotation)


def _facing(picture: ScenePicture) -> str:
    return "Left" if picture.thing.mirror else "Right"


def _pair(number: int, line: str, source: ScenePicture, target: ScenePicture) -> dict[str, Any]:
    """A pair's annotation; variations are graded 0 (easy) to 2 (hard), truncation and occlusion 0 none, 1 source,
    2 target, 3 both."""
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

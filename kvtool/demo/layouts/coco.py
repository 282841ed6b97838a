"""The layout of COCO 2014, validation: val2014/*.jpg and annotations/*_val2014.json.

Ids of images, annotations and captions are not consecutive, as in COCO. A thing that another one
hides in part is written as run lengths, any other thing as polygons; both decode to its visible
pixels exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.demo.draw import Rendered, sample_rendered
from kvtool.demo.language import caption
from kvtool.demo.layouts.files import (
    Mask,
    Size,
    polygons,
    run_lengths,
    save_jpeg,
    save_json,
    stream,
    touches,
)
from kvtool.demo.world import Scene, categories

N_IMAGES: dict[Size, int] = {"small": 80, "medium": 300, "large": 3000}
N_CAPTIONS = 5
SUPERCATEGORIES = {
    "animal": ("bird", "butterfly", "cat", "crab", "fish", "rabbit", "snail", "turtle"),
    "plant": ("flower", "mushroom", "tree"),
    "vehicle": ("boat", "car", "kite", "plane", "rocket"),
}
"""What is in none of these is an object."""
LICENSE = {
    "id": 1,
    "name": "Apache License 2.0",
    "url": "https://www.apache.org/licenses/LICENSE-2.0",
}


@dataclass(frozen=True)
class CocoPicture:
    """One image of the data set with its scene."""

    image_id: int
    file_name: str
    scene: Scene
    rendered: Rendered


def pictures(seed: int, size: Size) -> Iterator[CocoPicture]:
    """Draw the images of the data set.

    Every other one has three or four unlike things, which is what POPE asks about.
    """
    for index in range(N_IMAGES[size]):
        rng = stream(seed, "coco", index)
        unlike = None
        if index % 2 == 0:
            unlike = [str(name) for name in rng.permutation(categories())[: rng.integers(3, 5)]]
        scene, rendered = sample_rendered(rng, categories=unlike)
        image_id = 1000 + 7 * index
        yield CocoPicture(image_id, f"COCO_val2014_{image_id:012d}.jpg", scene, rendered)


def write(folder: Path, seed: int, size: Size) -> int:
    """Write the data set into the empty folder, and return the number of images."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    for picture in pictures(seed, size):
        save_jpeg(folder / "val2014" / picture.file_name, picture.rendered.image)
        images.append(image_entry(picture.image_id, picture.file_name, picture.scene))
        for index in range(len(picture.scene.things)):
            annotations.append(
                annotation(10_000 + 3 * len(annotations), picture.image_id, picture, index)
            )
        captions += caption_entries(
            picture.image_id, picture.scene, stream(seed, "coco captions", picture.image_id)
        )
    instances = {
        **header(),
        "images": images,
        "annotations": annotations,
        "categories": category_entries(),
    }
    save_json(folder / "annotations" / "instances_val2014.json", instances)
    save_json(
        folder / "annotations" / "captions_val2014.json",
        {**header(), "images": images, "annotations": captions},
    )
    return len(images)


def header() -> dict[str, Any]:
    """Return the entries with which COCO's annotation files begin."""
    info = {
        "description": "kvtool scenes in the layout of COCO 2014",
        "version": "1.0",
        "year": 2026,
    }
    return {"info": info, "licenses": [LICENSE]}


def image_entry(image_id: int, file_name: str, scene: Scene) -> dict[str, Any]:
    """Return an image's entry of the annotation files."""
    width, height = scene.size_wh
    return {
        "id": image_id,
        "file_name": file_name,
        "width": width,
        "height": height,
        "license": LICENSE["id"],
    }


def category_entries() -> list[dict[str, Any]]:
    """Return the entries of the categories, whose ids are their numbers in the world, from 1."""
    group = {name: above for above, names in SUPERCATEGORIES.items() for name in names}
    return [
        {"id": index + 1, "name": name, "supercategory": group.get(name, "object")}
        for index, name in enumerate(categories())
    ]


def annotation(
    annotation_id: int, image_id: int, picture: CocoPicture, index: int
) -> dict[str, Any]:
    """Return the entry of one thing.

    It has the visible pixels, the box [x, y, width, height] around them, and their number.
    """
    # Only what can be seen is annotated, as in COCO.
    mask: Mask = picture.rendered.thing_map == index + 1
    rows, columns = np.nonzero(mask)
    x = int(columns.min())
    y = int(rows.min())
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": categories().index(picture.scene.things[index].category) + 1,
        "segmentation": segmentation(mask, occluded(picture.rendered, index)),
        "area": float(mask.sum()),
        "bbox": [float(x), float(y), float(columns.max() + 1 - x), float(rows.max() + 1 - y)],
        "iscrowd": 0,
    }


def occluded(rendered: Rendered, index: int) -> bool:
    """Tell whether a thing in front touches this one's visible pixels."""
    in_front = range(index + 1, len(rendered.boxes_xyxy_px))
    return any(touches(rendered.thing_map, index, front) for front in in_front)


def segmentation(mask: Mask, hidden: bool) -> list[list[float]] | dict[str, list[int]]:
    """Encode a mask (H, W) as polygons if nothing hides it and they say it exactly.

    Otherwise run lengths say it.
    """
    outlines = None if hidden else polygons(mask)
    return run_lengths(mask) if outlines is None else outlines


def caption_entries(image_id: int, scene: Scene, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return captions that name the things in different orders, with and without where they are."""
    return [
        {
            "image_id": image_id,
            "id": 10 * image_id + number,
            "caption": caption(scene, rng, spots=number % 2 == 0),
        }
        for number in range(N_CAPTIONS)
    ]

"""Records of COCO's annotation files: captions, objects, and the masks of their categories."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from kvtool.datasets import values
from kvtool.datasets.json_files import fields, read_json
from kvtool.datasets.masks import VOID, LabelMap, segmentation_mask
from kvtool.datasets.names import brief
from kvtool.datasets.raster import MAX_PIXELS
from kvtool.errors import DatasetError


@dataclass(frozen=True)
class Instance:
    """One annotated object, in pixels of the original image.

    `segmentation` is COCO's polygons or run lengths.
    """

    id: int
    image_id: str
    category: str
    box_xyxy_px: tuple[float, float, float, float]
    crowd: bool
    segmentation: Any
    image_wh_px: tuple[int, int]

    def mask(self) -> LabelMap:
        """Return (height, width) uint8 0/1: the union of the polygons."""
        width, height = self.image_wh_px
        return segmentation_mask(
            self.segmentation, height, width, f"annotation {self.id} of {self.image_id}"
        )

    def box_slices(self) -> tuple[slice, slice]:
        """Return the rows and the columns of pixels that the box touches, within the image."""
        # Boxes have fractions and may reach over the edge: every pixel that they touch counts.
        left, top, right, bottom = np.clip(self.box_xyxy_px, 0, [*self.image_wh_px] * 2)
        rows = slice(math.floor(top), math.ceil(bottom))
        return rows, slice(math.floor(left), math.ceil(right))


def _instance(
    number: int,
    annotation: dict[str, Any],
    image_of: Mapping[int, dict[str, Any]],
    categories: Mapping[int, str],
) -> Instance:
    """Return an object from its annotation. Raises DatasetError."""
    image_number, category = annotation.get("image_id"), annotation.get("category_id")
    image = image_of.get(values.whole(image_number, "image_id"))
    if image is None:
        raise DatasetError(f"expected its image among the images, found none of id {image_number}")
    name = categories.get(values.whole(category, "category_id"))
    if name is None:
        raise DatasetError(
            f"expected its category among the categories, found none of id {category}"
        )
    # COCO's boxes are (x, y, width, height).
    x, y, width, height = values.numbers(annotation.get("bbox"), 4, "bbox")
    return Instance(
        id=number,
        image_id=Path(file_name(image)).stem,
        category=name,
        box_xyxy_px=(x, y, x + width, y + height),
        crowd=bool(annotation.get("iscrowd", 0)),
        segmentation=annotation.get("segmentation"),
        image_wh_px=image_wh_px(image),
    )


def read_categories(
    records: Mapping[int, dict[str, Any]], location: str, skipped: list[str]
) -> dict[int, str]:
    """Return category id -> name, by id; a category without a name gets a line in `skipped`."""
    names = {}
    for number, record in sorted(records.items()):
        try:
            names[number] = values.text(record.get("name"), "a name")
        except DatasetError as error:
            skipped.append(f"{location}: category {number}: {error}")
    return names


def read_instances(
    annotations: Mapping[int, dict[str, Any]],
    image_of: Mapping[int, dict[str, Any]],
    categories: Mapping[int, str],
    location: str,
    skipped: list[str],
) -> dict[str, list[Instance]]:
    """Return image id -> its objects by annotation id.

    Args:
        annotations: The annotations by id.
        image_of: The images by id.
        categories: The names of the categories by id.
        location: The file, for messages.
        skipped: Gets a line for each annotation that cannot be used.
    """
    objects: dict[str, list[Instance]] = defaultdict(list)
    for number, annotation in sorted(annotations.items()):
        try:
            with values.at(f"{location}: annotation {number}"):
                instance = _instance(number, annotation, image_of, categories)
        except DatasetError as error:
            skipped.append(str(error))
        else:
            objects[instance.image_id].append(instance)
    return objects


def image_sizes(image_of: Mapping[int, dict[str, Any]]) -> dict[str, tuple[int, int]]:
    """Return image id -> (width, height) in pixels of the images that say it."""
    sizes = {}
    for record in image_of.values():
        try:
            sizes[Path(file_name(record)).stem] = image_wh_px(record)
        except DatasetError:
            continue  # its objects say so, each in a line of its own
    return sizes


def category_masks(
    instances: Sequence[Instance],
    concepts: Sequence[str],
    wh_px: tuple[int, int],
    location: str,
    skipped: list[str],
) -> dict[str, LabelMap]:
    """Return the mask of each category over one image: (height, width) uint8, 1 where an object of
    it is, 0 where none is, 255 in a crowd of it and in the box of an object without a usable mask.

    Args:
        instances: The image's objects.
        concepts: The categories; those that the image does not show share one mask of zeros.
        wh_px: The image's width and height in pixels.
        location: The file, for messages.
        skipped: Gets a line for each object without a usable mask, once however often its image is
            looked at.

    Raises DatasetError for a picture that is too large.
    """
    width, height = wh_px
    if height * width > MAX_PIXELS:
        raise DatasetError(
            f"{location}: expected a picture of at most {MAX_PIXELS / 1e6:.0f} megapixels, found "
            f"{width} x {height}"
        )
    # One array of zeros, which is not to be written to, stands for all absent categories.
    zeros = np.broadcast_to(np.uint8(0), (height, width))
    masks: dict[str, LabelMap] = dict.fromkeys(concepts, zeros)
    visible = dict.fromkeys(instance.category for instance in instances)
    masks |= {category: np.zeros((height, width), np.uint8) for category in visible}
    # Void goes first: an object counts also where it stands in a crowd.
    for instance in sorted(instances, key=lambda instance: not instance.crowd):
        mask = masks[instance.category]
        try:
            if instance.image_wh_px != wh_px:
                raise DatasetError(
                    f"annotation {instance.id}: expected a picture of {width} x {height} pixels, "
                    f"found {' x '.join(map(str, instance.image_wh_px))}"
                )
            mask[instance.mask() == 1] = VOID if instance.crowd else 1
        except DatasetError as error:
            line = f"{location}: {error}"
            if line not in skipped:
                skipped.append(line)
            # Where in its box such an object is nobody knows: there is neither the object nor none.
            rows, columns = instance.box_slices()
            box = mask[rows, columns]
            box[box == 0] = VOID
    return masks


def by_id(records: Any, location: str, skipped: list[str]) -> dict[int, dict[str, Any]]:
    """Records of a COCO file by their ids; those without one, and other values, get a line in
    `skipped`.

    Raises DatasetError where it is no list.
    """
    if not isinstance(records, list):
        raise DatasetError(
            f"{location}: expected a list, found {brief(records)}; download the file again"
        )
    records_by_id = {}
    for position, record in enumerate(records):
        try:
            (number,) = fields(record, ("id",), f"{location}: item {position}")
            # The id is read first, since without it the record cannot even be named.
            with values.at(f"{location}: item {position}"):
                records_by_id[values.whole(number, "id")] = record
        except DatasetError as error:
            skipped.append(str(error))
    return records_by_id


def file_name(image: dict[str, Any]) -> str:
    """Return the name of an image's file, without the folders that some files put before it.

    Raises DatasetError.
    """
    name = PurePosixPath(
        values.text(image.get("file_name"), f"file_name of image {image.get('id')}")
    ).name
    return values.text(name, f"file_name of image {image.get('id')}")


def image_wh_px(image: dict[str, Any]) -> tuple[int, int]:
    """Return (width, height) that a COCO file gives an image. Raises DatasetError."""
    width, height = (
        values.whole(image.get(side), f"{side} of image {image['id']}")
        for side in ("width", "height")
    )
    return values.size([width, height], f"the size of image {image['id']}")


def read_captions(path: Path, skipped: list[str]) -> dict[str, tuple[str, ...]]:
    """Captions of a COCO captions file by image file name without suffix, by annotation id, on one
    line each.

    What is not as COCO has it gets a line in `skipped`.
    """
    images, annotations = fields(read_json(path), ("images", "annotations"), str(path))
    image_of = by_id(images, f"{path}: images", skipped)
    captions: dict[str, list[str]] = defaultdict(list)
    # By annotation id, not by the order in the file: an image's first caption is then always one.
    for number, annotation in sorted(by_id(annotations, f"{path}: annotations", skipped).items()):
        try:
            image = image_of.get(values.whole(annotation.get("image_id"), "image_id"))
            if image is not None:
                caption = values.text(annotation.get("caption"), "caption")
                captions[Path(file_name(image)).stem].append(" ".join(caption.split()))
        except DatasetError as error:
            skipped.append(f"{path}: annotation {number}: {error}")
    return {name: tuple(texts) for name, texts in captions.items()}

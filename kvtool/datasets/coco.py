"""COCO: images with captions and instances where their annotation files are present."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from kvtool.datasets import values
from kvtool.datasets.base import About, DatasetBase, ImageRef
from kvtool.datasets.files import by_stem, require
from kvtool.datasets.json_files import fields, read_json
from kvtool.datasets.masks import LabelMap, segmentation_mask
from kvtool.datasets.names import brief
from kvtool.errors import DatasetError

_SPLITS = ("val2014", "val2017", "train2014", "train2017")


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


class Coco(DatasetBase):
    """Images of one folder. Ids are file names without suffix, e.g. COCO_val2014_000000000042."""

    about = About(
        name="coco",
        title="COCO, images with captions and instances",
        tasks=(),
        splits=_SPLITS,
        layout=(
            "{val2014,val2017,train2014,train2017}/*.jpg  COCO_val2014_000000000042.jpg, "
            "000000000042.jpg",
            'annotations/captions_<split>.json  optional: the prefix "correct" is an image\'s '
            "first caption",
            "annotations/instances_<split>.json  optional: category names and masks",
        ),
        source="COCO 2014 or 2017 (Lin et al. 2014; captions: Chen et al. 2015)",
        licence="annotations CC BY 4.0; images under Flickr's terms",
        conditions=("none", "correct", "random"),
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        self._folder = require(self.folder, f"{self.split}/", "a folder of images", self.name)

    def default_split(self) -> str:
        """Return the first of the known splits whose folder is there."""
        present = [s for s in _SPLITS if self.root is not None and (self.root / s).is_dir()]
        return present[0] if present else _SPLITS[0]

    @cached_property
    def _images(self) -> list[ImageRef]:
        images = [ImageRef(stem, path) for stem, path in by_stem(self._folder, self.unread).items()]
        if not images:
            raise DatasetError(f"{self._folder}: expected images, found none; see docs/datasets.md")
        return images

    def images(self) -> Sequence[ImageRef]:
        """Return the images of the split's folder in the order of their names."""
        return self._images

    def texts(self) -> Sequence[str]:
        """Return category names by id, where the instances are present."""
        if not self._annotation("instances").is_file():
            return ()
        self._note_unpictured()
        return tuple(self.categories.values())

    def _note_unpictured(self) -> None:
        """Note which pictures the instances, which are read in any case, name and that are not
        there.
        """
        (records,) = fields(self._instance_file, ("images",), str(self._annotation("instances")))
        listed = {ref.id for ref in self.images()}
        names = [
            Path(str(record["file_name"])).stem
            for record in (records if isinstance(records, list) else [])
            if isinstance(record, dict) and isinstance(record.get("file_name"), str)
        ]
        self.note_unpictured([name for name in dict.fromkeys(names) if name not in listed])

    def truth_files(self) -> Sequence[Path]:
        """Return the captions and the instances."""
        return [self._annotation("captions"), self._annotation("instances")]

    def correct_prefix(self, image_id: str) -> str:
        """Return the image's first caption by annotation id."""
        captions = self.captions(image_id)
        if not captions:
            raise DatasetError(
                f"{self._annotation('captions')}: no caption of image {image_id}; use another "
                "prefix"
            )
        return captions[0]

    def captions(self, image_id: str) -> tuple[str, ...]:
        """Return an image's captions by annotation id; none is an empty tuple."""
        return self._captions.get(image_id, ())

    def instances(self, image_id: str) -> tuple[Instance, ...]:
        """Return an image's objects by annotation id; crowd regions among them are marked."""
        return tuple(self._instances.get(image_id, ()))

    @cached_property
    def categories(self) -> dict[int, str]:
        """Category id -> name, by id."""
        location = str(self._annotation("instances"))
        (records,) = fields(self._instance_file, ("categories",), location)
        categories = by_id(records, f"{location}: categories", self.skipped)
        names = {}
        for number, record in sorted(categories.items()):
            try:
                names[number] = values.text(record.get("name"), "a name")
            except DatasetError as error:
                self.skipped.append(f"{location}: category {number}: {error}")
        return names

    @cached_property
    def _captions(self) -> dict[str, tuple[str, ...]]:
        self._require_annotation("captions")
        return read_captions(self._annotation("captions"), self.skipped)

    @cached_property
    def _instance_file(self) -> Any:
        self._require_annotation("instances")
        return read_json(self._annotation("instances"))

    @cached_property
    def _instances(self) -> dict[str, list[Instance]]:
        location = str(self._annotation("instances"))
        images, annotations = fields(self._instance_file, ("images", "annotations"), location)
        image_of = by_id(images, f"{location}: images", self.skipped)
        objects: dict[str, list[Instance]] = defaultdict(list)
        for number, annotation in sorted(
            by_id(annotations, f"{location}: annotations", self.skipped).items()
        ):
            try:
                with values.at(f"{location}: annotation {number}"):
                    instance = _instance(number, annotation, image_of, self.categories)
            except DatasetError as error:
                self.skipped.append(str(error))
            else:
                objects[instance.image_id].append(instance)
        return objects

    def _annotation(self, what: str) -> Path:
        return self.folder / "annotations" / f"{what}_{self.split}.json"

    def _require_annotation(self, what: str) -> None:
        require(self.folder, f"annotations/{what}_{self.split}.json", f"the {what}", self.name)


def _instance(
    number: int,
    annotation: dict[str, Any],
    image_of: dict[int, dict[str, Any]],
    categories: dict[int, str],
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
    for number, annotation in sorted(by_id(annotations, f"{path}: annotations", skipped).items()):
        try:
            image = image_of.get(values.whole(annotation.get("image_id"), "image_id"))
            if image is not None:
                caption = values.text(annotation.get("caption"), "caption")
                captions[Path(file_name(image)).stem].append(" ".join(caption.split()))
        except DatasetError as error:
            skipped.append(f"{path}: annotation {number}: {error}")
    return {name: tuple(texts) for name, texts in captions.items()}

"""COCO: images with captions and instances where their annotation files are present."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kvtool.datasets.base import About, DatasetBase, ImageRef
from kvtool.datasets.files import by_stem, fields, read_json, require
from kvtool.datasets.masks import LabelMap, segmentation_mask
from kvtool.errors import DatasetError

_SPLITS = ("val2014", "val2017", "train2014", "train2017")


@dataclass(frozen=True)
class Instance:
    """One annotated object, in pixels of the original image. `segmentation` is COCO's polygons or run lengths."""

    id: int
    image_id: str
    category: str
    box_xyxy_px: tuple[float, float, float, float]
    crowd: bool
    segmentation: Any
    image_wh_px: tuple[int, int]

    def mask(self) -> LabelMap:
        """(height, width) uint8 0/1: the union of the polygons."""
        width, height = self.image_wh_px
        return segmentation_mask(self.segmentation, height, width, f"annotation {self.id} of {self.image_id}")


class Coco(DatasetBase):
    """Images of one folder. Ids are file names without suffix, e.g. COCO_val2014_000000000042."""

    about = About(
        name="coco",
        title="COCO, images with captions and instances",
        tasks=(),
        splits=_SPLITS,
        layout=(
            "{val2014,val2017,train2014,train2017}/*.jpg  COCO_val2014_000000000042.jpg, 000000000042.jpg",
            'annotations/captions_<split>.json  optional: the prefix "correct" is an image\'s first caption',
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
        present = [s for s in _SPLITS if self.root is not None and (self.root / s).is_dir()]
        return present[0] if present else _SPLITS[0]

    @cached_property
    def _images(self) -> list[ImageRef]:
        images = [ImageRef(stem, path) for stem, path in by_stem(self._folder).items()]
        if not images:
            raise DatasetError(f"{self._folder}: expected images, found none; see docs/datasets.md")
        return images

    def images(self) -> Sequence[ImageRef]:
        return self._images

    def texts(self) -> Sequence[str]:
        """Category names by id, where the instances are present."""
        return tuple(self.categories.values()) if self._annotation("instances").is_file() else ()

    def truth_files(self) -> Sequence[Path]:
        """The captions and the instances."""
        return [self._annotation("captions"), self._annotation("instances")]

    def correct_prefix(self, image_id: str) -> str:
        """The image's first caption by annotation id."""
        captions = self.captions(image_id)
        if not captions:
            raise DatasetError(f"{self._annotation('captions')}: no caption of image {image_id}; use another prefix")
        return captions[0]

    def captions(self, image_id: str) -> tuple[str, ...]:
        """An image's captions by annotation id; none is an empty tuple."""
        return self._captions.get(image_id, ())

    def instances(self, image_id: str) -> tuple[Instance, ...]:
        """An image's objects by annotation id; crowd regions among them are marked."""
        return tuple(self._instances.get(image_id, ()))

    @cached_property
    def categories(self) -> dict[int, str]:
        """Category id -> name, by id."""
        path = self._annotation("instances")
        (categories,) = fields(self._instance_file, ("categories",), str(path))
        return dict(sorted((c["id"], c["name"]) for c in categories))

    @cached_property
    def _captions(self) -> dict[str, tuple[str, ...]]:
        self._require_annotation("captions")
        return read_captions(self._annotation("captions"))

    @cached_property
    def _instance_file(self) -> Any:
        self._require_annotation("instances")
        return read_json(self._annotation("instances"))

    @cached_property
    def _instances(self) -> dict[str, list[Instance]]:
        where = str(self._annotation("instances"))
        images, annotations = fields(self._instance_file, ("images", "annotations"), where)
        by_id = {image["id"]: image for image in images}
        objects: dict[str, list[Instance]] = defaultdict(list)
        self.skipped = []
        for annotation in sorted(annotations, key=lambda a: a["id"]):
            try:
                instance = _instance(annotation, by_id[annotation["image_id"]], self.categories)
                objects[instance.image_id].append(instance)
            except (KeyError, TypeError, ValueError) as error:
                self.skipped.append(f"{where}: annotation {annotation['id']}: not usable, found {error!r}")
        return objects

    def _annotation(self, what: str) -> Path:
        return self.folder / "annotations" / f"{what}_{self.split}.json"

    def _require_annotation(self, what: str) -> None:
        require(self.folder, f"annotations/{what}_{self.split}.json", f"the {what}", self.name)


def _instance(annotation: dict[str, Any], image: dict[str, Any], categories: dict[int, str]) -> Instance:
    x, y, width, height = annotation["bbox"]
    return Instance(
        id=annotation["id"],
        image_id=Path(image["file_name"]).stem,
        category=categories[annotation["category_id"]],
        box_xyxy_px=(x, y, x + width, y + height),
        crowd=bool(annotation.get("iscrowd", 0)),
        segmentation=annotation["segmentation"],
        image_wh_px=(image["width"], image["height"]),
    )


def read_captions(path: Path) -> dict[str, tuple[str, ...]]:
    """Captions of a COCO captions file by image file name without suffix, by annotation id, on one line each."""
    images, annotations = fields(read_json(path), ("images", "annotations"), str(path))
    names = {image["id"]: Path(image["file_name"]).stem for image in images}
    captions: dict[str, list[str]] = defaultdict(list)
    for a in sorted(annotations, key=lambda a: a["id"]):
        if a["image_id"] in names:
            captions[names[a["image_id"]]].append(" ".join(a["caption"].split()))
    return {name: tuple(texts) for name, texts in captions.items()}

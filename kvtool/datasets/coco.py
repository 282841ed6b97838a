"""COCO: images with captions and instances where their annotation files are present."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from kvtool.datasets import coco_records
from kvtool.datasets.base import About, DatasetBase, ImageRef
from kvtool.datasets.files import by_stem, require
from kvtool.datasets.json_files import fields, read_json
from kvtool.datasets.masks import LabelMap
from kvtool.datasets.records import CAPTIONS, CONCEPTS
from kvtool.errors import DatasetError

_SPLITS = ("val2014", "val2017", "train2014", "train2017")


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
            "annotations/captions_<split>.json  optional: captions; an image's first is its prefix "
            '"correct"',
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
        # The instances are parsed for the categories anyway: what else they tell costs nothing.
        (entries,) = fields(self._instance_file, ("images",), str(self._annotation("instances")))
        listed = {ref.id for ref in self.images()}
        names = [
            Path(str(record["file_name"])).stem
            for record in (entries if isinstance(entries, list) else [])
            if isinstance(record, dict) and isinstance(record.get("file_name"), str)
        ]
        self.note_unpictured([name for name in dict.fromkeys(names) if name not in listed])

    def truth_files(self) -> Sequence[Path]:
        """Return the captions and the instances."""
        return [self._annotation("captions"), self._annotation("instances")]

    def correct_prefix(self, image_id: str) -> str:
        """Return the image's first caption by annotation id."""
        captions = self._captions.get(image_id)
        if not captions:
            raise DatasetError(
                f"{self._annotation('captions')}: no caption of image {image_id}; use another "
                "prefix"
            )
        return captions[0]

    def lacks(self, service: str) -> str:
        """Return which file is missing for captions or for concepts; "" where none is."""
        kind = {CAPTIONS: "captions", CONCEPTS: "instances"}.get(service)
        if kind is None:
            return super().lacks(service)
        path = self._annotation(kind)
        return "" if path.is_file() else f"no {path.relative_to(self.folder)}"

    def captions(self) -> Mapping[str, Sequence[str]]:
        """Return image id -> its captions by annotation id, of the images that have some."""
        listed = {ref.id for ref in self.images()}
        return {name: texts for name, texts in self._captions.items() if name in listed}

    def concepts(self) -> Sequence[str]:
        """Return the category names by id."""
        return tuple(dict.fromkeys(self.categories.values()))

    def concept_masks(self, image_id: str) -> Mapping[str, LabelMap]:
        """Return the mask of every category, since COCO annotates each image for all of them;
        those that the image does not show share one of zeros.

        (height, width) uint8: 1 where an object is, 0 where none is, 255 in a crowd and in the box
        of an object whose mask cannot be used, which is named in `skipped`. Raises DatasetError
        for an image that the instances do not list.
        """
        location = self._annotation("instances")
        if image_id not in self._sizes:
            raise DatasetError(f"{location}: expected image {image_id}, found no usable entry")
        return coco_records.category_masks(
            self.instances(image_id),
            self.concepts(),
            self._sizes[image_id],
            str(location),
            self.skipped,
        )

    def instances(self, image_id: str) -> tuple[coco_records.Instance, ...]:
        """Return an image's objects by annotation id; crowd regions among them are marked."""
        return tuple(self._instances.get(image_id, ()))

    @cached_property
    def categories(self) -> dict[int, str]:
        """Category id -> name, by id."""
        location = str(self._annotation("instances"))
        (entries,) = fields(self._instance_file, ("categories",), location)
        categories = coco_records.by_id(entries, f"{location}: categories", self.skipped)
        return coco_records.read_categories(categories, location, self.skipped)

    @cached_property
    def _captions(self) -> dict[str, tuple[str, ...]]:
        self._require_annotation("captions")
        return coco_records.read_captions(self._annotation("captions"), self.skipped)

    @cached_property
    def _instance_file(self) -> Any:
        self._require_annotation("instances")
        return read_json(self._annotation("instances"))

    @cached_property
    def _image_entries(self) -> dict[int, dict[str, Any]]:
        location = str(self._annotation("instances"))
        (images,) = fields(self._instance_file, ("images",), location)
        return coco_records.by_id(images, f"{location}: images", self.skipped)

    @cached_property
    def _sizes(self) -> dict[str, tuple[int, int]]:
        return coco_records.image_sizes(self._image_entries)

    @cached_property
    def _instances(self) -> dict[str, list[coco_records.Instance]]:
        location = str(self._annotation("instances"))
        (entries,) = fields(self._instance_file, ("annotations",), location)
        annotations = coco_records.by_id(entries, f"{location}: annotations", self.skipped)
        return coco_records.read_instances(
            annotations, self._image_entries, self.categories, location, self.skipped
        )

    def _annotation(self, what: str) -> Path:
        return self.folder / "annotations" / f"{what}_{self.split}.json"

    def _require_annotation(self, what: str) -> None:
        require(self.folder, f"annotations/{what}_{self.split}.json", f"the {what}", self.name)

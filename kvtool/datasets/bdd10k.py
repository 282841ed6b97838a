"""BDD-10K: street scenes with semantic segmentation, and the paper's two domains (protocol 8).

The 10K set has no attributes; they come from the 100K label files, which cover part of its images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.datasets.base import About, DatasetBase, ImageRef
from kvtool.datasets.files import CLASSES_FILE, by_stem, class_names, require
from kvtool.datasets.json_files import fields, stream_json_list
from kvtool.datasets.listing import Listing
from kvtool.datasets.masks import VOID, LabelMap, concept_masks, read_label_map
from kvtool.datasets.names import brief
from kvtool.datasets.protocols import LabelConvention
from kvtool.errors import DatasetError, UsageError

CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
    "motorcycle", "bicycle",
)  # fmt: skip

DOMAINS = {"day+street": ("daytime", "city street"), "night+highway": ("night", "highway")}
"""Domain -> (timeofday, scene) of the 100K attributes."""

SENTENCES = {
    "day+street": "The image is taken at daytime and it is from city street view",
    "night+highway": "The image is taken at nighttime and it is from highway",
}
"""The paper's prefixes (section 4.1); the incorrect one is the other domain's."""

_LABELS = "labels/det_20/"
_MAPS = "labels/sem_seg/masks/"
_BASE_SPLITS = ("val", "train")


class Bdd10k(DatasetBase):
    """Images of a split, or of one domain in it (`@val-night+highway`).

    Ids are file names without suffix.
    """

    about = About(
        name="bdd10k",
        title="BDD-10K, semantic segmentation of street scenes in two domains",
        tasks=("semantic-segmentation",),
        splits=(
            *_BASE_SPLITS,
            "test",
            *(f"{split}-{domain}" for split in _BASE_SPLITS for domain in DOMAINS),
        ),
        layout=(
            "images/10k/{train,val,test}/*.jpg  images",
            "labels/sem_seg/masks/{train,val}/*.png  0-18 class, 255 ignored",
            "labels/det_20/det_{train,val}.json  for domains and prefixes: the 100K set's "
            "attributes",
            "classes.txt  optional: 19 names, one a line, instead of Cityscapes'",
        ),
        source="BDD100K (Yu et al. 2020): the 10K images, their segmentation masks, and the 100K "
        "detection labels",
        licence="BDD100K licence (research and education; see its terms)",
        conditions=("none", "correct", "incorrect", "random"),
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        self.base_split, _, domain = self.split.partition("-")
        self.only_domain = domain or None
        self._jpegs = require(
            self.folder, f"images/10k/{self.base_split}/", "a folder of images", self.name
        )
        self.class_names = class_names(self.folder, CLASSES)

    @cached_property
    def _images(self) -> list[ImageRef]:
        images = [ImageRef(stem, path) for stem, path in by_stem(self._jpegs).items()]
        # A domain within the split is a choice of its images by the 100K set's attributes.
        if self.only_domain is not None:
            images = [ref for ref in images if self.domain(ref.id) == self.only_domain]
        if not images:
            kind = f"images of domain {self.only_domain}" if self.only_domain else "images"
            raise DatasetError(f"{self._jpegs}: expected {kind}, found none; see docs/datasets.md")
        return images

    def images(self) -> Sequence[ImageRef]:
        """Return the images of the split that are of its domain, if it has one."""
        return self._images

    def texts(self) -> Sequence[str]:
        """Return names of the 19 classes by id."""
        return self.class_names

    def class_texts(self) -> Sequence[str]:
        """Return the names of the 19 classes, by train id."""
        return self.texts()

    def label_convention(self) -> LabelConvention:
        """Return how label maps number classes: from 0, 255 for void."""
        return LabelConvention(first_id=0, ignored_id=VOID, has_other=False)

    def single_class(self, image_id: str) -> int | None:
        """None: an image is asked about every class that its label map shows."""
        del image_id
        return None

    def correct_prefix(self, image_id: str) -> str:
        """Return the sentence of the image's own domain."""
        return SENTENCES[self._known_domain(image_id)]

    def incorrect_prefix(self, image_id: str) -> str:
        """Return the sentence of the other domain."""
        (domain,) = set(SENTENCES) - {self._known_domain(image_id)}
        return SENTENCES[domain]

    def _known_domain(self, image_id: str) -> str:
        domain = self.domain(image_id)
        if domain is None:
            splits = " or ".join(f"@{self.base_split}-{name}" for name in DOMAINS)
            raise UsageError(
                f"{self.name}: image {image_id} is of neither domain and has no sentence; use "
                f"{splits}"
            )
        return domain

    def attributes(self, image_id: str) -> tuple[str, str] | None:
        """Return (timeofday, scene) as the 100K labels have them, e.g. ("daytime", "city street");
        None if not listed.
        """
        return self._attributes.get(image_id)

    def domain(self, image_id: str) -> str | None:
        """Return a name of DOMAINS, or None for any other attributes or none."""
        attributes = self.attributes(image_id)
        return next(
            (name for name, conditions in DOMAINS.items() if conditions == attributes), None
        )

    @cached_property
    def _attributes(self) -> dict[str, tuple[str, str]]:
        """Of all frames in the 100K files, since 10K's val images may stand in any of them."""
        folder = require(self.folder, _LABELS, "the 100K set's labels", self.name)
        files = self._label_files()
        if not files:
            raise DatasetError(
                f"{folder}: expected det_train.json and det_val.json, found neither; see "
                "docs/datasets.md"
            )
        # Frame by frame, as the files are large; one that is damaged costs itself alone.
        attributes = {}
        for path in files:
            for number, frame in enumerate(stream_json_list(path)):
                try:
                    name, timeofday, scene = _attributes_of(frame, f"{path}: frame {number}")
                except DatasetError as error:
                    self.note(str(error))
                    continue
                attributes[name] = timeofday, scene
        return attributes

    def truth_files(self) -> Sequence[Path]:
        """Return the class names, the label maps of the images, and the 100K set's labels."""
        maps = (self.truth_file(ref.id) for ref in self.images())
        return [self.folder / CLASSES_FILE, *self._label_files(), *maps]

    def _label_files(self) -> list[Path]:
        """Return the 100K set's labels that are there."""
        return sorted((self.folder / _LABELS).glob("det_*.json"))

    def unpictured(self) -> Sequence[str]:
        """Return the names of label maps of the split's domain that have no picture."""
        pictures = Listing(self._jpegs).names
        stems = {Path(name).stem for name in pictures}
        names = sorted(Path(name).stem for name in self._map_names.names if name.endswith(".png"))
        return [
            name
            for name in names
            if name not in stems and self.only_domain in (None, self.domain(name))
        ]

    def truth_file(self, image_id: str) -> Path:
        """Return where an image's label map is, or should be."""
        return self._map_names.place(f"{image_id}.png")

    @cached_property
    def _map_names(self) -> Listing:
        return Listing(self.folder / _MAPS / self.base_split)

    def labelled_ids(self) -> list[str]:
        """Return ids of the images that have a label map, in order; the others are named in
        `skipped`.
        """
        # The listing of the folder tells which maps are there, without a look at each.
        absent_ids = [
            ref.id for ref in self.images() if self._map_names.find(f"{ref.id}.png") is None
        ]
        self.skipped = [f"{self._maps}: no label map of image {i}" for i in absent_ids]
        left_out = set(absent_ids)
        return [ref.id for ref in self.images() if ref.id not in left_out]

    def label_map(self, image_id: str) -> LabelMap:
        """Return (height, width) uint8: 0-18 class, 255 ignored.

        Raises DatasetError for any other value.
        """
        path = self.truth_file(image_id)
        labels = read_label_map(path)
        check_train_ids(labels, path)
        return labels

    def concepts(self) -> Sequence[str]:
        """Return the names of the 19 classes, by train id."""
        return tuple(dict.fromkeys(self.class_names))

    def concept_masks(self, image_id: str) -> Mapping[str, LabelMap]:
        """Return the mask of each of the 19 classes, see HasConcepts. Raises DatasetError."""
        return concept_masks(self.label_map(image_id), enumerate(self.class_names))

    @property
    def _maps(self) -> Path:
        relative = f"{_MAPS}{self.base_split}/"
        return require(self.folder, relative, "a folder of label maps", self.name)


def _attributes_of(frame: Any, location: str) -> tuple[str, str, str]:
    """Return a frame's name without suffix, its time of day and its scene. Raises DatasetError."""
    name, attributes = fields(frame, ("name", "attributes"), location)
    attributes = attributes or {}
    if not isinstance(name, str) or not isinstance(attributes, dict):
        raise DatasetError(
            f"{location}: expected a name and attributes, found {brief(name)} and "
            f"{brief(attributes)}"
        )
    return Path(name).stem, str(attributes.get("timeofday", "")), str(attributes.get("scene", ""))


def check_train_ids(labels: LabelMap, path: Path) -> None:
    """Ground truth holds 0-18 and 255; label ids of another set (0-33, or 0-40) show by larger
    values.
    """
    # Ids of another numbering are in range here and there: any larger one gives them away.
    odd = np.unique(labels[(labels >= len(CLASSES)) & (labels != VOID)])
    if odd.size:
        odd_ids = ", ".join(map(str, odd[:5]))
        raise DatasetError(
            f"{path}: expected train ids 0-18 and 255, found {odd_ids}; use labels/sem_seg/masks"
        )

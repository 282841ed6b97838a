"""Pascal-5i: few-shot segmentation on PASCAL VOC 2012 with the folds and lists of HSNet (protocol
1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from kvtool.datasets.base import About, DatasetBase, ImageRef
from kvtool.datasets.episodes import Entry, Episode, draw_episodes, images_of_classes
from kvtool.datasets.files import CLASSES_FILE, class_names, read_lines, require
from kvtool.datasets.listing import Listing
from kvtool.datasets.masks import VOID, LabelMap, concept_masks, read_label_map
from kvtool.errors import DatasetError

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train",
    "tv monitor",
)  # fmt: skip


class Pascal5i(DatasetBase):
    """The validation images of one fold. Label maps hold 0 background, 1-20 class, 255 void."""

    about = About(
        name="pascal5i",
        title="Pascal-5i, few-shot foreground segmentation",
        tasks=("foreground-segmentation",),
        splits=("fold0", "fold1", "fold2", "fold3"),
        layout=(
            "splits/pascal/val/fold{0..3}.txt  lines <image>__<class>, class 01-20",
            "VOC2012/JPEGImages/*.jpg  images",
            "VOC2012/SegmentationClassAug/*.png  0 background, 1-20 class, 255 void",
            "classes.txt  optional: 20 names, one a line, instead of VOC's",
        ),
        source="PASCAL VOC 2012 with the augmented masks of SBD; fold lists as in HSNet's "
        "repository",
        licence="images under the terms of PASCAL VOC (Flickr); for research",
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        self._list = require(
            self.folder, f"splits/pascal/val/{self.split}.txt", "the fold's list", self.name
        )
        self._jpegs = require(self.folder, "VOC2012/JPEGImages/", "a folder of images", self.name)
        self._masks = require(
            self.folder, "VOC2012/SegmentationClassAug/", "a folder of label maps", self.name
        )
        self.class_names = class_names(self.folder, VOC_CLASSES)

    @cached_property
    def _listed(self) -> list[Entry]:
        """Each line of the list once."""
        lines = read_lines(self._list)
        self.note_repeated(self._list, lines)
        return list(
            dict.fromkeys(self._entry(line, number) for number, line in enumerate(lines, 1))
        )

    def _entry(self, line: str, number: int) -> Entry:
        image_id, _, class_id = line.rpartition("__")
        # Fold f has the classes 5 f + 1 to 5 f + 5.
        fold = int(self.split[-1])
        classes = range(5 * fold + 1, 5 * fold + 6)
        if not image_id or not class_id.isdecimal() or int(class_id) not in classes:
            raise DatasetError(
                f"{self._list}: line {number}: expected <image>__<class> with a class of "
                f"{classes[0]:02d} to {classes[-1]:02d}, found {line!r}; download the list again"
            )
        return Entry(image_id, int(class_id))

    def images(self) -> Sequence[ImageRef]:
        """Return the images that the list of the fold names, each once."""
        return self._images

    @cached_property
    def _images(self) -> list[ImageRef]:
        names = dict.fromkeys(entry.image_id for entry in self._listed)
        jpegs = Listing(self._jpegs)
        return [ImageRef(name, jpegs.place(f"{name}.jpg")) for name in names]

    def truth_files(self) -> Sequence[Path]:
        """Return the fold's list, the class names, and the label maps of the listed images."""
        maps = dict.fromkeys(self.truth_file(entry.image_id) for entry in self._listed)
        return [self._list, self.folder / CLASSES_FILE, *maps]

    @cached_property
    def _map_names(self) -> Listing:
        return Listing(self._masks)

    def entries(self) -> list[Entry]:
        """Return the list in its order; entries without a label map are left out and named in
        `skipped`.
        """
        # Entries share images: each is looked for once.
        names = dict.fromkeys(entry.image_id for entry in self._listed)
        absent = [name for name in names if self._map_names.find(f"{name}.png") is None]
        left_out = set(absent)
        entries = [entry for entry in self._listed if entry.image_id not in left_out]
        self.skipped = [
            f"{self._masks}: no label map {name}.png for a listed image" for name in absent
        ]
        if not entries:
            raise DatasetError(
                f"{self._masks}: expected label maps of the {len(absent)} listed images, found "
                "none of them"
            )
        return entries

    def class_ids(self) -> tuple[int, ...]:
        """Return the fold's five classes, 1-based."""
        fold = int(self.split[-1])
        return tuple(range(5 * fold + 1, 5 * fold + 6))

    def texts(self) -> Sequence[str]:
        """Return names of the fold's classes, in the order of class_ids()."""
        return tuple(self.class_names[c - 1] for c in self.class_ids())

    def name_of_class(self, class_id: int) -> str:
        """Return the name of a class by its id, 1 to 20."""
        return self.class_names[class_id - 1]

    def truth_file(self, image_id: str) -> Path:
        """Return where an image's label map is, or should be."""
        return self._map_names.place(f"{image_id}.png")

    def label_map(self, image_id: str) -> LabelMap:
        """Return (height, width) uint8: 0 background, 1-20 class, 255 void. Raises DatasetError."""
        return read_label_map(self.truth_file(image_id))

    def class_mask(self, image_id: str, class_id: int) -> LabelMap:
        """Return (height, width) uint8: 1 where the class is, 255 where the annotation is void,
        else 0.
        """
        labels = self.label_map(image_id)
        return np.where(labels == VOID, np.uint8(VOID), (labels == class_id).astype(np.uint8))

    def concepts(self) -> Sequence[str]:
        """Return the names of all 20 classes: label maps show them whatever the fold."""
        return tuple(dict.fromkeys(self.class_names))

    def concept_masks(self, image_id: str) -> Mapping[str, LabelMap]:
        """Return the mask of each of the 20 classes, see HasConcepts. Raises DatasetError."""
        return concept_masks(self.label_map(image_id), enumerate(self.class_names, 1))

    def episodes(
        self, n: int = 1000, shots: int = 5, seed: int = 0, entries: Sequence[Entry] | None = None
    ) -> list[Episode]:
        """Seeded episodes as HSNet draws them: query = index mod entries, supports of the query's
        class at random.

        Unlike there, supports do not repeat. Episode i does not depend on n. entries: draw from
        these alone (those that a run holds and that can be used). Classes with too few images for
        one episode are left out and named in `skipped`.
        """
        entries = self.entries() if entries is None else entries
        images_by_class = images_of_classes(entries)
        # A class with too few images stays silent in the scores, so that it is named.
        for class_id in self.class_ids():
            names = images_by_class[class_id]
            if len(names) <= shots:
                self.skipped.append(
                    f"{self._list}: class {class_id} has {len(names)} images, an episode needs "
                    f"{shots + 1}: "
                    f"no score counts {self.class_names[class_id - 1]}"
                )
        episodes = draw_episodes(entries, n, shots, seed)
        if not episodes:
            raise DatasetError(
                f"{self._list}: expected a class with {shots + 1} images for {shots}-shot "
                "episodes, found none; "
                "use more images or fewer shots"
            )
        return episodes

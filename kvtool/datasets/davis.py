"""DAVIS-2017: video object segmentation at 480p, semi-supervised (protocol 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from kvtool.datasets.base import About, DatasetBase, ImageRef
from kvtool.datasets.files import by_stem, read_lines, require
from kvtool.datasets.listing import Listing
from kvtool.datasets.masks import VOID, LabelMap, read_label_map
from kvtool.errors import DatasetError

Masks = np.ndarray[tuple[int, int, int], np.dtype[np.bool_]]


@dataclass(frozen=True)
class Video:
    """A sequence: ids of all its frames in order, and how many objects its first annotation has (its greatest id)."""

    name: str
    frame_ids: tuple[str, ...]
    n_objects: int


class Davis(DatasetBase):
    """All frames of a split's sequences. Ids are `<sequence>/<frame>`, e.g. bike-packing/00000."""

    about = About(
        name="davis",
        title="DAVIS-2017 at 480p, temporal correspondence",
        tasks=("temporal-correspondence",),
        splits=("val", "train"),
        layout=(
            "ImageSets/2017/{val,train}.txt  names of the sequences",
            "JPEGImages/480p/<sequence>/%05d.jpg  frames",
            "Annotations/480p/<sequence>/%05d.png  indexed: 0 background, 1.. objects, 255 void",
        ),
        source="DAVIS 2017 TrainVal 480p (Pont-Tuset et al. 2017)",
        licence="research, under the terms of the DAVIS project",
    )

    def __init__(self, root: Path | None, split: str | None = None) -> None:
        super().__init__(root, split)
        self._list = require(self.folder, f"ImageSets/2017/{self.split}.txt", "the list of sequences", self.name)
        self._jpegs = require(self.folder, "JPEGImages/480p/", "frames by sequence", self.name)
        self._masks = require(self.folder, "Annotations/480p/", "annotations by sequence", self.name)

    @cached_property
    def _frames(self) -> dict[str, dict[str, Path]]:
        """Sequence -> frame id -> file."""
        frames = {}
        for name in read_lines(self._list):
            folder = require(self._jpegs, f"{name}/", f"the frames of sequence {name}", self.name)
            frames[name] = {f"{name}/{stem}": path for stem, path in by_stem(folder).items()}
            if not frames[name]:
                raise DatasetError(f"{folder}: expected frames, found none; download the sequence again")
        return frames

    def images(self) -> Sequence[ImageRef]:
        return [ImageRef(i, path) for frames in self._frames.values() for i, path in frames.items()]

    def truth_files(self) -> Sequence[Path]:
        """The list of sequences, and the annotations of their frames."""
        frames = (i for of_sequence in self._frames.values() for i in of_sequence)
        return [self._list, *map(self._map_file, frames)]

    def _map_file(self, image_id: str) -> Path:
        sequence, _, frame = image_id.rpartition("/")
        return self._map_names[sequence].place(f"{frame}.png")

    @cached_property
    def _map_names(self) -> dict[str, Listing]:
        """Names in the folder of each sequence's annotations."""
        return {sequence: Listing(self._masks / sequence) for sequence in self._frames}

    def videos(self) -> list[Video]:
        """The sequences in the order of the list.

        A sequence whose first frame has no annotation, or no object in it, is left out; it and other frames without
        annotation are named in `skipped`.
        """
        videos = []
        self.skipped.clear()
        for name, frames in self._frames.items():
            ids = tuple(frames)
            missing = [i for i in ids if not self.has_label_map(i)]
            self.skipped += [f"{self._masks}: no annotation of frame {i}" for i in missing]
            if ids[0] in missing:
                continue
            first = self.label_map(ids[0])
            n_objects = int(first[first != VOID].max(initial=0))
            if n_objects:
                videos.append(Video(name, ids, n_objects))
            else:
                self.skipped.append(f"{self._masks}: sequence {name}: no object in its first annotation")
        if not videos:
            raise DatasetError(f"{self._masks}: no usable sequence; first problem: {self.skipped[0]}")
        return videos

    def has_label_map(self, image_id: str) -> bool:
        return self._map_file(image_id).is_file()

    def label_map(self, image_id: str) -> LabelMap:
        """(height, width) uint8 as on disk: 0 background, 1.. object, 255 void (0 to the official scores)."""
        return read_label_map(self._map_file(image_id))

    def objects(self, image_id: str, n_objects: int) -> Masks:
        """(object, height, width) bool: one mask an object id 1..n_objects, void as background."""
        ids = np.arange(1, n_objects + 1, dtype=np.int64)[:, None, None]
        masks: Masks = ids == self.label_map(image_id)
        return masks

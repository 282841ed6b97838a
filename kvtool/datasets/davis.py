"""DAVIS-2017: video object segmentation at 480p, semi-supervised (protocol 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from kvtool.datasets.base import About, DatasetBase, ImageRef
from kvtool.datasets.clips import clip_of
from kvtool.datasets.files import by_stem, read_lines, require
from kvtool.datasets.listing import Listing
from kvtool.datasets.masks import VOID, LabelMap, read_label_map
from kvtool.datasets.records import VideoRef
from kvtool.datasets.values import first_few
from kvtool.errors import DatasetError

_PNG = ".png"
Masks = np.ndarray[tuple[int, int, int], np.dtype[np.bool_]]


@dataclass(frozen=True)
class Video:
    """A sequence: ids of all its frames in order, and how many objects its first annotation has
    (its greatest id).
    """

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
        self._list = require(
            self.folder, f"ImageSets/2017/{self.split}.txt", "the list of sequences", self.name
        )
        self._jpegs = require(self.folder, "JPEGImages/480p/", "frames by sequence", self.name)
        self._masks = require(
            self.folder, "Annotations/480p/", "annotations by sequence", self.name
        )

    @cached_property
    def _frames(self) -> dict[str, dict[str, Path]]:
        """Sequence -> frame id -> file, of the sequences that are there; the others are named in
        `notes`.
        """
        names = read_lines(self._list)
        self.note_repeated(self._list, names)
        listed = dict.fromkeys(names)
        # One listing says which sequences are there at all.
        sequences = Listing(self._jpegs).names
        frames = {name: self._frames_of(name) for name in listed if name in sequences}
        frames = {name: files for name, files in frames.items() if files}
        absent = [name for name in listed if name not in frames]
        if not frames:
            raise DatasetError(
                f"{self._jpegs}: expected frames of {len(listed)} sequences, found none of "
                f"{first_few(absent)}; "
                "download the data set again"
            )
        if absent:
            self.note(
                f"{self._jpegs}: {len(absent)} of {len(listed)} sequences have no frames there: "
                f"{first_few(absent)}"
            )
        return frames

    def _frames_of(self, sequence: str) -> dict[str, Path]:
        """Frame id -> file."""
        folder = self._jpegs / sequence
        if not folder.is_dir():
            return {}
        return {f"{sequence}/{stem}": path for stem, path in by_stem(folder, self.unread).items()}

    def images(self) -> Sequence[ImageRef]:
        """Return the frames of the listed sequences, in order."""
        return [ImageRef(i, path) for frames in self._frames.values() for i, path in frames.items()]

    def clips(self) -> Sequence[VideoRef]:
        """Return the sequences as videos, 24 frames a second as they were taken."""
        return [
            clip_of(name, [ImageRef(i, path) for i, path in frames.items()])
            for name, frames in self._frames.items()
        ]

    def truth_files(self) -> Sequence[Path]:
        """Return the list of sequences, and the annotations of their frames; those of frames that
        are not there too.
        """
        maps: set[Path] = set()
        for sequence, frames in self._frames.items():
            # Annotations of frames that are not there count, too: they decide about their video.
            maps.update(map(self.truth_file, frames))
            maps.update(
                self.truth_file(f"{sequence}/{frame}") for frame in self._annotated(sequence)
            )
        return [self._list, *sorted(maps)]

    def unpictured(self) -> Sequence[str]:
        """Return the annotated frames that are not there, of sequences that have frames."""
        return [
            f"{sequence}/{frame}"
            for sequence, frames in self._frames.items()
            for frame in self._annotated(sequence)
            if f"{sequence}/{frame}" not in frames
        ]

    def _annotated(self, sequence: str) -> list[str]:
        """Frames that have an annotation, by name without suffix."""
        return [
            name[: -len(_PNG)]
            for name in sorted(self._map_names[sequence].names)
            if name.endswith(_PNG)
        ]

    def truth_file(self, image_id: str) -> Path:
        """Return where a frame's annotation is, or should be."""
        sequence, _, frame = image_id.rpartition("/")
        return self._map_names[sequence].place(f"{frame}.png")

    @cached_property
    def _map_names(self) -> dict[str, Listing]:
        """Names in the folder of each sequence's annotations."""
        return {sequence: Listing(self._masks / sequence) for sequence in self._frames}

    @property
    def n_sequences(self) -> int:
        """How many of the listed sequences have frames."""
        return len(self._frames)

    def videos(self) -> list[Video]:
        """Return the sequences in the order of the list.

        A sequence is left out where a frame of it is not there, or where its first frame has no
        usable annotation or no object in it. It and other frames without annotation are named in
        `skipped`.
        """
        videos = []
        self.skipped.clear()
        for name, frames in self._frames.items():
            self.skipped += [
                f"{self._masks}: no annotation of frame {i}"
                for i in frames
                if not self.has_label_map(i)
            ]
            if not self.has_label_map(next(iter(frames))):
                continue
            try:
                videos.append(self._video(name, tuple(frames)))
            except DatasetError as error:
                self.skipped.append(str(error))
        if not videos:
            raise DatasetError(
                f"{self._masks}: no usable sequence; first problem: {self.skipped[0]}"
            )
        return videos

    def _video(self, name: str, frame_ids: tuple[str, ...]) -> Video:
        """Return a sequence by its first annotation. Raises DatasetError where it cannot be
        used.
        """
        # Without one of its frames a sequence would jump, and its scores mean something else.
        absent = [
            frame for frame in self._annotated(name) if f"{name}/{frame}" not in self._frames[name]
        ]
        if absent:
            raise DatasetError(
                f"{self._jpegs}: sequence {name}: expected a frame for each annotation, found none "
                "of "
                f"{first_few(absent)}; download the sequence again"
            )
        # The first annotation is what is propagated: it says how many objects there are.
        first = self.label_map(frame_ids[0])
        n_objects = object_count(first)
        if not n_objects:
            raise DatasetError(f"{self._masks}: sequence {name}: no object in its first annotation")
        return Video(name, frame_ids, n_objects)

    def has_label_map(self, image_id: str) -> bool:
        """Return whether a frame has an annotation, by the names in its folder."""
        path = self.truth_file(image_id)
        return path.name in self._map_names[path.parent.name].names

    def label_map(self, image_id: str) -> LabelMap:
        """Return (height, width) uint8 as on disk: 0 background, 1..

        object, 255 void (0 to the official scores).
        """
        return read_label_map(self.truth_file(image_id))

    def objects(self, image_id: str, n_objects: int) -> Masks:
        """Return (object, height, width) bool: one mask an object id 1..n_objects, void as
        background.
        """
        # One plane an object: ids are compared with the map by broadcasting.
        ids = np.arange(1, n_objects + 1, dtype=np.int64)[:, None, None]
        masks: Masks = ids == self.label_map(image_id)
        return masks


def object_count(labels: LabelMap) -> int:
    """Return how many objects an annotation has: its greatest id, void aside."""
    return int(labels[labels != VOID].max(initial=0))

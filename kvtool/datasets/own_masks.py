"""The masks of a data set of one's own: which classes each picture shows, their masks, groups and
episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from kvtool.datasets import own_records as records
from kvtool.datasets.episodes import Entry, Episode, draw_episodes, images_of_classes
from kvtool.datasets.masks import VOID, LabelMap, concept_masks, read_label_map
from kvtool.datasets.own_files import OwnFiles
from kvtool.datasets.protocols import LabelConvention
from kvtool.errors import DatasetError


class OwnMasks(OwnFiles):
    """What is read from masks/ and classes.json."""

    @cached_property
    def _classes(self) -> records.Classes:
        return records.read_classes(self.folder / "classes.json")

    def label_map(self, image_id: str) -> LabelMap:
        """Return (height, width) uint8: of a picture class ids with 255 for void, of a frame object
        ids as on disk.

        Raises DatasetError for an id that classes.json does not name.
        """
        path = self.truth_file(image_id)
        labels = read_label_map(path)
        if image_id not in self._pictures:
            return labels
        # The file's own void becomes 255, which is what all tasks leave out.
        void = self._classes.void
        if odd := sorted(set(np.unique(labels).tolist()) - self._classes.ids):
            raise DatasetError(
                f"{path}: expected ids that classes.json names, found {odd[0]}; name it there, "
                "or save ids in place of colors"
            )
        return labels if void is None else np.where(labels == void, np.uint8(VOID), labels)

    def _classes_in(self, image_id: str) -> tuple[int, ...]:
        """Return the classes that a picture's mask shows.

        Raises DatasetError where there is none to use.
        """
        if not self.has_label_map(image_id):
            raise DatasetError(f"{self._masks}: no mask of image {image_id}")
        labels = np.unique(self.label_map(image_id)).tolist()
        # Void and background are no classes.
        class_ids = tuple(label for label in labels if label in self._classes.names)
        if not class_ids:
            raise DatasetError(
                f"{self.truth_file(image_id)}: expected pixels of a class, found none"
            )
        return class_ids

    @cached_property
    def _all_shown(self) -> tuple[dict[str, tuple[int, ...]], list[str]]:
        """Picture -> the classes of its mask; and why others have none."""
        labels_of, left_out = {}, []
        _ = self._classes  # a fault of it is not each picture's
        for name in self._pictures:
            try:
                labels_of[name] = self._classes_in(name)
            except DatasetError as error:
                left_out.append(str(error))
        if not labels_of:
            reason = f"; first problem: {left_out[0]}" if left_out else ""
            raise DatasetError(
                f"{self._masks}: expected masks of the pictures, found none to use{reason}"
            )
        return labels_of, left_out

    def _shown(self) -> dict[str, tuple[int, ...]]:
        """Return picture -> the classes of its mask. Pictures without are in `skipped`."""
        labels_of, left_out = self._all_shown
        self.skipped = [*self._unlisted, *left_out]
        return labels_of

    def labelled_ids(self) -> list[str]:
        """Return the ids of the pictures that have a usable mask."""
        return list(self._shown())

    def class_texts(self) -> Sequence[str]:
        """Return the names of the classes, in the order of classes.json."""
        return tuple(self._classes.names.values())

    def label_convention(self) -> LabelConvention:
        """Return how masks number classes, as classes.json says."""
        return self._classes.convention

    def single_class(self, image_id: str) -> int | None:
        """None: a picture is asked about every class that its mask shows."""
        del image_id
        return None

    def name_of_class(self, class_id: int) -> str:
        """Return the name of a class by its id in masks."""
        return self._classes.names[class_id]

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Return class -> the pictures that show it."""
        images_by_class = images_of_classes(self.entries())
        names = self._classes.names.items()
        return {
            name: tuple(images_by_class[number])
            for number, name in names
            if number in images_by_class
        }

    def group_mask(self, image_id: str, category: str) -> LabelMap:
        """Return (height, width) uint8: 1 the class, 0 anything else, 255 void."""
        ids = {name: number for number, name in self._classes.names.items()}
        if category not in ids:
            raise DatasetError(
                f"{self.folder / 'classes.json'}: expected a class {category!r}, found none"
            )
        return self.class_mask(image_id, ids[category])

    def class_mask(self, image_id: str, class_id: int) -> LabelMap:
        """Return (height, width) uint8: 1 the class, 0 anything else, 255 void."""
        labels = self.label_map(image_id)
        return np.where(labels == VOID, np.uint8(VOID), (labels == class_id).astype(np.uint8))

    def concepts(self) -> Sequence[str]:
        """Return the names of the classes, as words: blanks in place of underscores."""
        return tuple(dict.fromkeys(word for _, word in self._words))

    def concept_masks(self, image_id: str) -> Mapping[str, LabelMap]:
        """Return the mask of each class, see HasConcepts; of a frame none, as its mask tells
        objects.

        Raises DatasetError for a picture without a usable mask.
        """
        if image_id not in self._pictures:
            return {}
        if not self.has_label_map(image_id):
            raise DatasetError(f"{self._masks}: no mask of image {image_id}")
        return concept_masks(self.label_map(image_id), self._words)

    @property
    def _words(self) -> list[tuple[int, str]]:
        """The ids of the classes and their words."""
        names = self._classes.names.items()
        return [(number, name.replace("_", " ")) for number, name in names]

    def entries(self) -> list[Entry]:
        """Return every picture with every class that its mask shows."""
        return [Entry(name, label) for name, labels in self._shown().items() for label in labels]

    def episodes(
        self, n: int = 1000, shots: int = 5, seed: int = 0, entries: Sequence[Entry] | None = None
    ) -> list[Episode]:
        """Seeded episodes, see kvtool.datasets.episodes.

        Classes with too few pictures are in `skipped`.
        """
        entries = self.entries() if entries is None else entries
        for class_id, names in images_of_classes(entries).items():
            if len(names) <= shots:
                self.skipped.append(
                    f"{self._masks}: class {self.name_of_class(class_id)} has {len(names)} "
                    "pictures, "
                    f"an episode needs {shots + 1}: no score counts it"
                )
        episodes = draw_episodes(entries, n, shots, seed)
        if not episodes:
            raise DatasetError(
                f"{self._masks}: expected a class with {shots + 1} pictures for {shots}-shot "
                "episodes, "
                "found none; use more pictures or fewer shots"
            )
        return episodes

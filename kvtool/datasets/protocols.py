"""What the tasks, and the questions asked, need of a data set: small protocols, each exactly what
its user calls.

A data set that has the members serves the task, whoever wrote it and whatever it derives from.
Which of them its files allow is said by its `tasks` (kvtool.datasets.base.Dataset). In all of them
an annotation that cannot be used costs itself alone: it is left out and gets a line in `skipped`;
pixels are those of the upright picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from kvtool.datasets.base import Question
    from kvtool.datasets.davis import Video
    from kvtool.datasets.episodes import Entry, Episode
    from kvtool.datasets.records import VideoRef
    from kvtool.datasets.refcoco import Expression
    from kvtool.datasets.spair71k import Pair

Ids = np.ndarray[tuple[int, int], np.dtype[Any]]
"""(height, width) of whole numbers: class ids, object ids, or 0, 1 and 255 for void."""


class LeavesOut(Protocol):
    """What every data set says of what it left out, see kvtool.datasets.base.DatasetBase."""

    @property
    def notes(self) -> Sequence[str]:
        """Lines that a user should see, but that count nothing as left out."""
        ...

    @property
    def skipped(self) -> Sequence[str]:
        """One line for each annotation that had to be left out."""
        ...


@dataclass(frozen=True)
class LabelConvention:
    """How label maps name the classes.

    first_id: the id of the first class; those of the others follow in the order of the classes'
    names. ignored_id: marks pixels that no metric counts. has_other: whether the ids below the
    first one stand for everything that is of no class.
    """

    first_id: int
    ignored_id: int
    has_other: bool


@runtime_checkable
class HasEpisodes(LeavesOut, Protocol):
    """Few-shot episodes of single classes: foreground segmentation."""

    def entries(self) -> list[Entry]:
        """Return every image with every class that it serves, in a fixed order."""
        ...

    def episodes(
        self, n: int = ..., shots: int = ..., seed: int = ..., entries: Sequence[Entry] | None = ...
    ) -> list[Episode]:
        """Seeded episodes of these entries, or of all.

        Raises DatasetError where no class has enough of them.
        """
        ...

    def truth_file(self, image_id: str) -> Path:
        """Return where an image's label map is, or should be."""
        ...

    def label_map(self, image_id: str) -> Ids:
        """Return class ids, 255 for void. Raises DatasetError where it cannot be used."""
        ...

    def class_mask(self, image_id: str, class_id: int) -> Ids:
        """1 where the class is, 255 where the annotation is void, else 0."""
        ...

    def name_of_class(self, class_id: int) -> str:
        """Return the name of a class by its id."""
        ...


@runtime_checkable
class HasGroups(LeavesOut, Protocol):
    """Groups of images that share a class: co-segmentation."""

    def groups(self) -> dict[str, tuple[str, ...]]:
        """Return class -> ids of its images."""
        ...

    def truth_file(self, image_id: str) -> Path:
        """Return an image's mask. Raises DatasetError where it has none."""
        ...

    def group_mask(self, image_id: str, category: str) -> Ids:
        """1 the class, 0 anything else, 255 void. Raises DatasetError where it cannot be used."""
        ...


@runtime_checkable
class HasLabelMaps(LeavesOut, Protocol):
    """A class id at every pixel, and the classes' names: semantic segmentation."""

    def labelled_ids(self) -> list[str]:
        """Return ids of the images that have a label map, in a fixed order."""
        ...

    def class_texts(self) -> Sequence[str]:
        """Return the classes' names in the order of their ids; their vectors are those of
        `texts()`.
        """
        ...

    def label_convention(self) -> LabelConvention:
        """Return how label maps number classes and what is void."""
        ...

    def single_class(self, image_id: str) -> int | None:
        """Index among the names of the one class that the image is asked about; None where that is
        every class of its label map. Raises DatasetError where it cannot be known.
        """
        ...

    def truth_file(self, image_id: str) -> Path:
        """Return an image's label map. Raises DatasetError where it has none."""
        ...

    def label_map(self, image_id: str) -> Ids:
        """Return ids as label_convention() has them. Raises DatasetError where it cannot be
        used.
        """
        ...


@runtime_checkable
class HasExpressions(LeavesOut, Protocol):
    """Sentences about objects, and the objects' masks: referring expression."""

    def expressions(self) -> list[Expression]:
        """Return the expressions that can be used, in a fixed order."""
        ...

    def expression_texts(self) -> Sequence[str]:
        """Return the sentences, each once; their vectors are those of `texts()`."""
        ...

    def place_of(self, expression: Expression) -> str:
        """Return where an expression's object stands, for messages."""
        ...

    def image_wh_px(self, expression: Expression) -> tuple[int, int]:
        """Return (width, height) that the annotation gives the picture. Raises DatasetError."""
        ...

    def object_mask(self, expression: Expression) -> Ids:
        """1 where the object is, else 0. Raises DatasetError."""
        ...


@runtime_checkable
class HasPairs(LeavesOut, Protocol):
    """Pairs of images with corresponding keypoints: semantic correspondence."""

    def pairs(self) -> list[Pair]:
        """Return the pairs that can be used, in a fixed order."""
        ...


@runtime_checkable
class HasVideos(LeavesOut, Protocol):
    """Sequences of frames with object ids: temporal correspondence."""

    @property
    def n_sequences(self) -> int:
        """How many sequences there are, those that cannot be used among them."""
        ...

    def videos(self) -> list[Video]:
        """Return the videos that can be used, in a fixed order."""
        ...

    def truth_file(self, image_id: str) -> Path:
        """Return where a frame's annotation is, or should be."""
        ...

    def has_label_map(self, image_id: str) -> bool:
        """Return whether a frame has an annotation."""
        ...

    def label_map(self, image_id: str) -> Ids:
        """0 background, 1.. object, 255 void. Raises DatasetError where it cannot be used."""
        ...


@runtime_checkable
class HasMaskFiles(Protocol):
    """Pictures of which some may have no mask."""

    def has_label_map(self, image_id: str) -> bool:
        """Return whether a picture has one."""
        ...


@runtime_checkable
class HasClips(Protocol):
    """Videos that a model can be given in one context: `--view video`."""

    def clips(self) -> Sequence[VideoRef]:
        """Return the videos with their frames in order; their ids, and those of all frames, are
        unique.
        """
        ...


@runtime_checkable
class HasQuestions(LeavesOut, Protocol):
    """Questions about images, with answers: knockout, paired, correlate."""

    def questions(self) -> list[Question]:
        """Return the questions that can be used, in a fixed order."""
        ...


@runtime_checkable
class HasCaptions(LeavesOut, Protocol):
    """Sentences about whole pictures: what is compared between a picture and its text."""

    def captions(self) -> Mapping[str, Sequence[str]]:
        """Return image id -> its sentences, of the images that have some.

        Raises DatasetError where there are none to use.
        """
        ...


@runtime_checkable
class HasConcepts(LeavesOut, Protocol):
    """Words of what pictures show, and where they show it."""

    def concepts(self) -> Sequence[str]:
        """Return the words as people write them ("potted plant"), each once."""
        ...

    def concept_masks(self, image_id: str) -> Mapping[str, Ids]:
        """Return the mask of each concept that the image is annotated for: (height, width), 1
        where it is, 0 where it is not, 255 where the annotation is void.

        A concept that is annotated to be absent has a mask of zeros; one that nobody looked for
        has none. Masks are not to be written to: several may be one array. Raises DatasetError
        where the image has no usable annotation.
        """
        ...

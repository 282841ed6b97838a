"""The patches whose streams are read, and which concepts they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kvtool.datasets.protocols import HasConcepts
from kvtool.errors import DatasetError, KvtoolError
from kvtool.features.concepts import ABSENT, PRESENT, UNSURE, concept_labels
from kvtool.features.residual import sample_cells, tokens_of_cells
from kvtool.store import Run
from kvtool.store.tokens import Indices
from kvtool.tasks.truth import check_shape
from kvtool.types import HIDDEN, Sample

if TYPE_CHECKING:
    from kvtool.datasets.protocols import Ids

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LabeledPatches:
    """Patches of images one after the other, and what they show.

    Attributes:
        concepts: The words that some patch shows and some does not.
        tokens: The image tokens of the patches by image id, (token,).
        labels: 1 where a patch shows a concept, 0 where not, -1 where neither is sure, (patch,
            concept) int8.
        skipped: A line for each image that is left out.
    """

    concepts: tuple[str, ...]
    tokens: Mapping[str, Indices]
    labels: Array
    skipped: tuple[str, ...]

    @property
    def images(self) -> Array:
        """Return the number of each patch's image, (patch,)."""
        return np.repeat(np.arange(len(self.tokens)), list(map(len, self.tokens.values())))


def label_patches(
    run: Run, dataset: HasConcepts, ids: Sequence[str], count: int | Literal["all"], seed: int
) -> LabeledPatches:
    """Choose patches of images and label them by the masks of a data set.

    Images without a usable annotation are left out. Raises KvtoolError where no patch shows a
    concept.
    """
    concepts = tuple(dataset.concepts())
    tokens: dict[str, Indices] = {}
    labels: list[Array] = []
    skipped: list[str] = []
    for image in ids:
        sample = run.image(image).sample
        # The same patches for one seed, whichever images are left out.
        cells = sample_cells(sample, count, seed)
        try:
            image_labels = _labels_of(sample, dataset.concept_masks(image), concepts, cells)
        except DatasetError as error:
            skipped.append(f"image {image}: {error}")
            continue
        tokens[image] = tokens_of_cells(sample, cells)
        labels.append(image_labels)
    joined = np.concatenate(labels) if labels else np.zeros((0, len(concepts)), np.int8)
    # A concept is told apart where patches with and without it are there.
    is_both = (joined == PRESENT).any(axis=0) & (joined == ABSENT).any(axis=0)
    if not is_both.any():
        reason = f"; the first image left out: {skipped[0]}" if skipped else ""
        raise KvtoolError(
            f"lens: expected patches that show one of {len(concepts)} concepts, found none in "
            f"{len(tokens)} images{reason}"
        )
    # Labels stand by concept from here on: columns of the others go.
    kept_concepts = tuple(np.array(concepts, object)[is_both])
    return LabeledPatches(kept_concepts, tokens, joined[:, is_both], tuple(skipped))


def _labels_of(
    sample: Sample, masks: Mapping[str, Ids], concepts: Sequence[str], cells: Indices
) -> Array:
    """Return the labels (cell, concept) of cells of an image. Raises DatasetError."""
    span = sample.base(HIDDEN)
    # A concept without a mask is neither shown nor absent: nobody looked for it.
    labels = np.full((len(cells), len(concepts)), UNSURE, np.int8)
    # Absent concepts may share one mask, which is looked at once.
    by_mask: dict[int, Array] = {}
    for column, concept in enumerate(concepts):
        if (mask := masks.get(concept)) is None:
            continue
        if id(mask) not in by_mask:
            check_shape(mask, sample.image_wh_px, f"{sample.id}: {concept}")
            by_mask[id(mask)] = concept_labels(mask, span)[cells]
        labels[:, column] = by_mask[id(mask)]
    return labels

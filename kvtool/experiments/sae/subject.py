"""What is studied: images of a run, the captions that they have, and what their patches show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from kvtool.datasets.protocols import HasCaptions, HasConcepts
from kvtool.errors import DatasetError, KvtoolError, UsageError
from kvtool.features.concepts import UNSURE, concept_labels
from kvtool.features.residual import sample_cells, tokens_of_cells
from kvtool.store import Run
from kvtool.types import Sample

Array = np.ndarray[Any, Any]
Tokens = int | Literal["all"]

MOST_CAPTIONS = 5
"""So many captions of an image are read, as COCO has."""
BATCH_TOKENS = 1024
"""About so many image tokens go through the decoder at a time."""


@dataclass(frozen=True)
class CaptionedImages:
    """Images with captions, by their position in `samples`.

    Attributes:
        run: The run that holds the images.
        samples: The images.
        captions: The sentences of each image.
        concepts: Words that masks are of; none where the data set has no masks.
        cells: Of each image, which patches of the base grid are read, row-major and rising.
        partners: For each image one of equal grid whose masks and captions stand for another
            image's; -1 where there is none.
        is_training: (image,), whose captions choose features and centers; no score of text counts
            them.
        seed: The random seed of all that is drawn.
        skipped: A line for each image or annotation that was left out.
    """

    run: Run
    samples: tuple[Sample, ...]
    captions: tuple[tuple[str, ...], ...]
    concepts: tuple[str, ...]
    cells: tuple[Array, ...]
    partners: Array
    is_training: Array
    seed: int
    dataset: Any
    skipped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.samples)

    def batches(self) -> Iterator[list[int]]:
        """Yield positions of images that can run together: equal numbers of tokens, and grids."""
        # Equal prompts need no padding, and read equally many tokens.
        groups: dict[Any, list[int]] = {}
        for position, sample in enumerate(self.samples):
            key = (*_signature(sample), len(self.cells[position]))
            groups.setdefault(key, []).append(position)
        for positions in groups.values():
            size = max(1, BATCH_TOKENS // max(1, len(self.cells[positions[0]])))
            for first in range(0, len(positions), size):
                yield positions[first : first + size]

    def tokens(self, position: int) -> Array:
        """Return the image tokens of the patches that are read, (n,)."""
        return np.asarray(tokens_of_cells(self.samples[position], self.cells[position]))

    def labels(self, position: int, partner: int | None = None) -> Array:
        """Return what the patches of an image that are read show of each concept, (n, concept).

        Where its masks cannot be used, nothing is sure. `partner` is the image whose masks count
        in place of its own.
        """
        source = position if partner is None else partner
        n_patches = len(self.cells[position])
        labels = np.full((n_patches, len(self.concepts)), UNSURE, np.int8)
        if not self.concepts or source < 0:
            return labels
        span = self.samples[source].base()
        masks = self._masks(source)
        # Concepts that an image does not show share a mask, which is laid on the grid once.
        on_grid = {id(mask): concept_labels(mask, span) for mask in masks.values()}
        for column, concept in enumerate(self.concepts):
            if concept in masks:
                labels[:, column] = on_grid[id(masks[concept])][self.cells[position]]
        return labels

    def _masks(self, position: int) -> Mapping[str, Array]:
        sample = self.samples[position]
        try:
            masks: Mapping[str, Array] = self.dataset.concept_masks(sample.id)
        except DatasetError as error:
            line = f"masks of {sample.id}: {error}"
            if line not in self.skipped:
                self.skipped.append(line)
            return {}
        return masks


def make_subject(
    run: Run, dataset: Any, tokens: Tokens, limit: int | None, seed: int
) -> CaptionedImages:
    """Return the first `limit` images of a run that have captions.

    Raises UsageError where the data set has no captions, KvtoolError where fewer than two images
    have some.
    """
    if not isinstance(dataset, HasCaptions):
        raise UsageError(
            f"run {run.name}: expected a data set with captions, found {dataset.name}: extract "
            f"images of {', '.join(_with_captions())}"
        )
    captions = dataset.captions()
    samples = [sample for sample in run.samples if captions.get(sample.id)]
    # Beyond the limit nothing is skipped: it was not asked for.
    skipped = [f"image {image}: no caption" for image in run.ids if not captions.get(image)]
    selected = samples[:limit]
    if len(selected) < 2:
        raise KvtoolError(
            f"run {run.name}: expected at least two images with captions, found {len(selected)} of "
            f"{len(run.ids)}"
        )
    rng = np.random.default_rng(seed)
    # Words are learned on the captions of one half of the images alone; the same half for the same
    # seed.
    is_training = np.zeros(len(selected), bool)
    is_training[rng.permutation(len(selected))[: len(selected) // 2]] = True
    return CaptionedImages(
        run=run,
        samples=tuple(selected),
        captions=tuple(tuple(captions[sample.id])[:MOST_CAPTIONS] for sample in selected),
        concepts=tuple(dataset.concepts()) if isinstance(dataset, HasConcepts) else (),
        cells=tuple(read_cells(sample, tokens, seed) for sample in selected),
        partners=_partners(selected, rng),
        is_training=is_training,
        seed=seed,
        dataset=dataset,
        skipped=skipped if limit is None or len(samples) <= limit else [],
    )


def read_cells(sample: Sample, tokens: Tokens, seed: int) -> Array:
    """Choose patches of the base grid, from all over it; never the first token of a prompt, which
    takes attention that nothing else wants."""
    cells = sample_cells(sample, tokens, seed)
    # The first token of a sequence is an attention sink, whatever the picture shows there.
    if sample.image_start + sample.base().start == 0:
        return np.unique(np.maximum(cells, 1))
    return np.asarray(cells)


def _partners(samples: Sequence[Sample], rng: np.random.Generator) -> Array:
    """Pair images of equal grids: each with the next in a random circle of them."""
    partners = np.full(len(samples), -1)
    groups: dict[Any, list[int]] = {}
    for position, sample in enumerate(samples):
        groups.setdefault(sample.base().grid, []).append(position)
    for positions in groups.values():
        if len(positions) > 1:
            # A circle gives each image another one, and each serves once.
            circle = rng.permutation(positions)
            partners[circle] = np.roll(circle, 1)
    return partners


def _signature(sample: Sample) -> tuple[Any, ...]:
    span = sample.base()
    advance = sample.next_position - sample.image_start
    return sample.n_tokens, sample.image_start, advance, span.grid, span.start, span.row_stride


def _with_captions() -> list[str]:
    """Return the names of data sets that have captions."""
    from kvtool.datasets import DATASETS

    return [name for name, kind in DATASETS.usable().items() if hasattr(kind, "captions")]


def serves_untrained(sample: Sample) -> bool:
    """Return whether each grid of an image's tokens is a whole number of the tower's patches."""
    grids = [span.grid for span in sample.spans]
    vision = [span.grid for span in sample.vision_spans]
    return len(grids) == len(vision) and all(
        fine[0] % coarse[0] == 0 and fine[1] % coarse[1] == 0
        for fine, coarse in zip(vision, grids, strict=True)
    )

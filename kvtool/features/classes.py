"""Tokens of a class: those whose patches a data set's label maps give to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kvtool.datasets.identity import dataset_of
from kvtool.datasets.masks import VOID
from kvtool.errors import DatasetError, UsageError
from kvtool.features.layers import Array, patch_labels
from kvtool.types import Kind, Sample

if TYPE_CHECKING:
    from kvtool.store import Run

log = logging.getLogger("kvtool")

Masks = dict[str, Callable[[], Array]]
"""Image id -> what reads its mask of a class, (height, width): 1 the class, 0 others, 255 void."""


def class_tokens(
    run: Run,
    category: str,
    kind: Kind = "value",
    ids: Collection[str] | None = None,
    data: str | Path | None = None,
) -> dict[str, Array]:
    """Return the tokens of a class in each image that has some: image id -> (token,) indices, in
    the run's order.

    They are the tokens of the base grid in whose patch most of the pixels that are not void are of
    the class, which is what `probe` trains on. An image whose label map cannot be used is left out,
    with a warning.

    Args:
        run: the run.
        category: the name of the class, as the data set writes it.
        kind: of the vectors; the grid of `vision` may be finer.
        ids: the images to look at; None for all of the run.
        data: the place of the run's data set, if it moved.

    Raises UsageError where the data set has no label maps or no such class, KvtoolError where its
    files are not there.
    """
    masks = _masks_of_class(dataset_of(run, data), category)
    tokens = {}
    for sample in run.samples:
        if sample.id not in masks or (ids is not None and sample.id not in ids):
            continue
        try:
            indices = _tokens_of(sample, masks[sample.id](), kind)
        except DatasetError as error:
            log.warning("class %s: left out: %s", category, error)
            continue
        if len(indices):
            tokens[sample.id] = indices
    return tokens


def _tokens_of(sample: Sample, mask: Array, kind: Kind) -> Array:
    """Return the (token,) indices of a mask's patches. Raises DatasetError for one of another size
    than its picture."""
    # A map of another size would give its classes to the wrong patches.
    if mask.shape != sample.image_wh_px[::-1]:
        width, height = sample.image_wh_px
        raise DatasetError(
            f"{sample.id}: expected a label map of {width} x {height} pixels as the picture, found "
            f"{mask.shape[1]} x {mask.shape[0]}"
        )
    # Void pixels count for neither side of the majority.
    span = sample.base(kind)
    is_class, _ = patch_labels(mask, span)
    # From cells of the grid to tokens: rows may have other tokens between them.
    rows, cols = np.divmod(np.flatnonzero(is_class), span.grid[1])
    indices: Array = span.start + rows * span.row_stride + cols
    return indices


def _masks_of_class(dataset: Any, category: str) -> Masks:
    """Return the masks of a class, of whichever label maps the data set has. Raises UsageError."""
    listed: list[str] = []
    # A data set may have label maps of several tasks: the first with the class counts.
    for task, masks_by_class in MASKS.items():
        if task in dataset.tasks:
            masks = masks_by_class(dataset)
            if category in masks:
                return masks[category]
            listed += masks
    if not listed:
        raise UsageError(
            f"class {category!r}: expected a data set with label maps, found {dataset.name}: "
            "choose tokens by rows, cols or tokens"
        )
    # Names close to the one asked for, else any few, to say what there is.
    similar = get_close_matches(category, listed, n=3, cutoff=0.4) or sorted(listed)[:3]
    raise UsageError(
        f"class {category!r}: {dataset.name} has none of this name among {len(set(listed))}; "
        f"nearest: {', '.join(map(repr, similar))}"
    )


def _by_label_maps(dataset: Any) -> Mapping[str, Masks]:
    """Masks of ids at every pixel (protocol HasLabelMaps)."""
    convention = dataset.label_convention()
    images = dataset.labelled_ids()

    def mask(image: str, class_id: int) -> Array:
        """Read one mask."""
        ids = dataset.label_map(image)
        # Void is no class, and no background either: it counts for neither.
        is_class = (ids == class_id).astype(np.uint8)
        return np.where(ids == convention.ignored_id, np.uint8(VOID), is_class)

    return {
        name: {image: partial(mask, image, class_id) for image in images}
        for class_id, name in enumerate(dataset.class_texts(), convention.first_id)
    }


def _by_entries(dataset: Any) -> Mapping[str, Masks]:
    """Masks of the classes that images are listed with (protocol HasEpisodes)."""
    masks: dict[str, Masks] = {}
    for entry in dataset.entries():
        class_masks = masks.setdefault(dataset.name_of_class(entry.class_id), {})
        class_masks[entry.image_id] = partial(dataset.class_mask, entry.image_id, entry.class_id)
    return masks


def _by_groups(dataset: Any) -> Mapping[str, Masks]:
    """Masks of the classes that groups of images share (protocol HasGroups)."""
    return {
        name: {image: partial(dataset.group_mask, image, name) for image in images}
        for name, images in dataset.groups().items()
    }


MASKS: Mapping[str, Callable[[Any], Mapping[str, Masks]]] = {
    "semantic-segmentation": _by_label_maps,
    "foreground-segmentation": _by_entries,
    "co-segmentation": _by_groups,
}
"""Label maps, by the task that a data set serves with them."""

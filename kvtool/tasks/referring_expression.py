"""Referring expression segmentation on RefCOCO (protocol 4): semantic segmentation with the
sentence as the class.

The vector of a sentence's last token is scored against the image tokens, less each token's mean
over all sentences of the split; what lies above the map's mean is the object. One sample per
sentence.

Memory: the vectors of the sentences at one layer, and one image's maps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kvtool.datasets.protocols import HasExpressions
from kvtool.errors import DatasetError, KvtoolError
from kvtool.features.layers import GridImage, Layer
from kvtool.metrics.segmentation import foreground_units, refcoco_scores
from kvtool.result import Row
from kvtool.tasks.base import Array, Grids, Table
from kvtool.tasks.chance import pixels_unseen
from kvtool.tasks.language import (
    Cutoff,
    Template,
    TextChoice,
    TextVector,
    centred_texts,
    check_cutoff,
    foreground,
)
from kvtool.tasks.maps import (
    COUNTS,
    RANKING,
    TruthMask,
    guessed_counts,
    map_counts,
    undefined,
    with_ranking,
)
from kvtool.tasks.predictions import save_mask
from kvtool.tasks.truth import LeftOut, Size, Sizes, check_shape, check_size
from kvtool.text_templates import DEFAULT
from kvtool.types import Kind

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from kvtool.datasets.refcoco import Expression


class ReferringExpression:
    """The task of segmenting the object that a sentence is about."""

    name: ClassVar[str] = "referring-expression"
    metric: ClassVar[str] = "miou_fgbg"
    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool] = True
    serves: ClassVar[tuple[str, ...]] = ()
    promptable: ClassVar[bool] = True
    kinds: ClassVar[tuple[Kind, ...]] = ("value", "projected")
    drawing: ClassVar[str] = "masks"

    def __init__(
        self,
        dataset: HasExpressions,
        ids: Sizes,
        device: torch.device,
        *,
        limit: int | None = None,
        cutoff: Cutoff = "mean",
        text_vector: TextVector = "last",
        text_template: Template = DEFAULT,
    ) -> None:
        check_cutoff(cutoff)
        self.text_choice = TextChoice(text_vector, text_template)
        self.dataset, self.device, self.limit, self.cutoff = dataset, device, limit, cutoff
        self.sizes = ids
        self.expressions, left_out = self._usable(dataset, ids)
        self.n, self.skipped, self.n_skipped = len(self.expressions), left_out.lines, left_out.count
        self.n_unusable = left_out.unusable
        self.texts = tuple(dataset.expression_texts())
        # All sentences of a picture are scored while it is in memory.
        self._sentences: defaultdict[str, list[int]] = defaultdict(list)
        for index, expression in enumerate(self.expressions):
            self._sentences[expression.image_id].append(index)
        self._saved = list(self._sentences)

    def _usable(self, dataset: HasExpressions, ids: Sizes) -> tuple[list[Expression], LeftOut]:
        """Return the sentences whose image the run holds and whose object can be used. Raises
        KvtoolError for none.
        """
        listed = dataset.expressions()
        left_out = LeftOut.of(dataset)
        present = [expression for expression in listed if expression.image_id in ids]
        left_out.many(
            len(listed) - len(present), "sentences are about images that the run does not hold"
        )
        if not present:
            raise KvtoolError(
                f"{self.name}: the run holds the image of none of {len(listed)} sentences: extract "
                "more"
            )
        usable = left_out.usable(
            present,
            lambda expression: check_object(dataset, expression, ids[expression.image_id]),
            self.limit,
        )
        if not usable:
            raise left_out.none_left(
                self.name, f"the objects of none of {len(present)} sentences can be used"
            )
        return usable, left_out

    def settings(self) -> dict[str, Any]:
        """Return the options that the numbers depend on."""
        return {"cutoff": self.cutoff, "limit": self.limit, **asdict(self.text_choice)}

    def images(self) -> set[str]:
        """Return the ids of the images that sentences are about."""
        return set(self._sentences)

    def measure(self, layer: Layer) -> Array:
        """(head, sentence, 7): map_counts of the mask of every sentence and its map."""
        counts = np.zeros((len(layer.heads), self.n, COUNTS))
        for image, sentences in self._predict(layer):
            # Masks are kept for one image: the sentences about an object follow each other there.
            masks: dict[int, Array] = {}
            for index, maps, predicted in sentences:
                mask = self._truth(self.expressions[index], image.wh_px, masks)
                counts[:, index] = map_counts(predicted, maps, TruthMask(mask, None, image.span))
        return counts

    def guesses(self, grids: Grids, seed: int) -> Iterator[tuple[str, Array]]:
        """What knows nothing of the images gets, as `measure` gives it."""
        return guessed_counts(self._truths(grids), self._cut, self.n, seed)

    def _truths(self, grids: Grids) -> Iterator[tuple[int, TruthMask]]:
        """Every sentence's index, and its truth."""
        for image, indices in self._sentences.items():
            masks: dict[int, Array] = {}
            for index in indices:
                mask = self._truth(self.expressions[index], self.sizes[image], masks)
                yield index, TruthMask(mask, None, grids[image])

    def _cut(self, maps: Tensor, truth: TruthMask) -> Array:
        return foreground(maps, truth.span, truth.mask.shape[::-1], self.cutoff)

    def unseen(self, grids: Grids) -> Array:
        """(sentence, 2): pixels of its image outside the grid's cover, and all of them."""
        images = (expression.image_id for expression in self.expressions)
        return np.array([pixels_unseen(grids[image], self.sizes[image]) for image in images])

    def only(self, images: Collection[str]) -> None:
        """The sentences about them."""
        self._saved = [image for image in self._sentences if image in images]

    def save(self, layer: Layer, index: int, folder: Path) -> list[Row]:
        """<sent_id>.png: the mask of a sentence."""
        files: dict[int, Row] = {}
        for image, sentences in self._predict(layer):
            for number, _, predicted in sentences:
                expression = self.expressions[number]
                fields = {
                    "sent_id": expression.sent_id,
                    "sent": expression.text,
                    "image": image.id,
                    "ann_id": expression.ann_id,
                }
                files[number] = {
                    "file": f"{expression.sent_id}.png",
                    **fields,
                    "ref_id": expression.ref_id,
                }
                save_mask(folder / files[number]["file"], predicted[index])
        return [files[number] for number in sorted(files)]

    def truth(self, record: Row) -> Array:
        """Return the mask of the object of a record's sentence, (height, width)."""
        expression = next(
            candidate for candidate in self.expressions if candidate.sent_id == record["sent_id"]
        )
        return self.dataset.object_mask(expression)

    def _predict(
        self, layer: Layer
    ) -> Iterator[tuple[GridImage, Iterator[tuple[int, Array, Array]]]]:
        """Every image with its sentences: their indices, maps (head, token) and masks (head,
        height, width).
        """
        import torch

        # The mean is over the data set's sentences, not over those in use: a limit moves no score.
        vectors = centred_texts(layer, self.texts, self.name, self.text_choice)
        # Sentences that two pictures share have one vector.
        row_of = {text: row for row, text in enumerate(self.texts)}
        for image in layer.each(self._saved):
            rows = {
                index: row_of[self.expressions[index].text] for index in self._sentences[image.id]
            }
            # A map is each token's dot product with the sentence, computed when it is asked for.
            scored = (
                (index, torch.bmm(image.values, vectors[:, row, :, None])[:, :, 0])
                for index, row in rows.items()
            )
            grid = image.span, image.wh_px, self.cutoff
            masks = ((index, maps.cpu().numpy(), foreground(maps, *grid)) for index, maps in scored)
            yield image, masks

    def _truth(self, expression: Expression, wh_px: Size, masks: dict[int, Array]) -> Array:
        # Sentences about one object share its mask.
        if expression.ann_id not in masks:
            masks[expression.ann_id] = self.dataset.object_mask(expression) == 1
            check_shape(masks[expression.ann_id], wh_px, self.dataset.place_of(expression))
        return masks[expression.ann_id]

    def tables(self, measured: Array) -> Iterator[Table]:
        """Yield the summary over all sentences."""
        # Counts of pixels are the units; what the ranking of tokens adds stands behind them.
        units = foreground_units(measured[..., :2], measured[..., 2:4])
        k = units.shape[-1]
        # Sentences about an image share it, whichever object they mean.
        images = np.array([expression.image_id for expression in self.expressions])
        yield Table(
            {},
            np.concatenate([units, measured[..., RANKING]], axis=-1),
            with_ranking(refcoco_scores, slice(k, None)),
            clusters=images,
            facts=undefined(measured),
        )


def check_object(dataset: HasExpressions, expression: Expression, wh_px: Size) -> None:
    """Raises DatasetError where an expression's object cannot be used, is on a picture of another
    size, or is empty.
    """
    location = dataset.place_of(expression)
    check_size(dataset.image_wh_px(expression), wh_px, location)
    if not dataset.object_mask(expression).any():
        raise DatasetError(
            f"{location}: expected polygons or run lengths that enclose pixels, found none"
        )

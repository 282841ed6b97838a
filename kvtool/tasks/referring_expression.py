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
from kvtool.metrics.segmentation import binary_counts, foreground_units, refcoco_scores
from kvtool.result import Row
from kvtool.tasks.base import Array, Table
from kvtool.tasks.language import (
    Cutoff,
    Template,
    TextChoice,
    TextVector,
    centred_texts,
    check_cutoff,
    foreground,
)
from kvtool.tasks.predictions import save_mask
from kvtool.tasks.truth import LeftOut, Size, Sizes, check_shape, check_size
from kvtool.text_templates import DEFAULT
from kvtool.types import Kind

if TYPE_CHECKING:
    import torch

    from kvtool.datasets.refcoco import Expression


class ReferringExpression:
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
        listed = dataset.expressions()
        left_out = LeftOut.of(dataset)
        held = [expression for expression in listed if expression.image_id in ids]
        left_out.many(
            len(listed) - len(held), "sentences are about images that the run does not hold"
        )
        if not held:
            raise KvtoolError(
                f"{self.name}: the run holds the image of none of {len(listed)} sentences: extract "
                "more"
            )
        self.expressions = left_out.usable(
            held, lambda one: check_object(dataset, one, ids[one.image_id]), limit
        )
        self.n, self.skipped, self.n_skipped = len(self.expressions), left_out.lines, left_out.count
        self.n_unusable = left_out.unusable
        if not self.expressions:
            raise left_out.none_left(
                self.name, f"the objects of none of {len(held)} sentences can be used"
            )
        self.texts = tuple(dataset.expression_texts())
        self._of_image: defaultdict[str, list[int]] = defaultdict(list)
        for index, expression in enumerate(self.expressions):
            self._of_image[expression.image_id].append(index)
        self._saved = list(self._of_image)

    def settings(self) -> dict[str, Any]:
        return {"cutoff": self.cutoff, "limit": self.limit, **asdict(self.text_choice)}

    def images(self) -> set[str]:
        return set(self._of_image)

    def measure(self, layer: Layer) -> Array:
        """(head, sentence, 4): pixels of background and foreground intersection, then union."""
        counts = np.zeros((len(layer.heads), self.n, 4), np.int64)
        for image, sentences in self._predict(layer):
            known: dict[int, Array] = {}
            for index, predicted in sentences:
                truth = self._truth(self.expressions[index], image, known)
                counts[:, index] = np.concatenate(binary_counts(predicted, truth), axis=-1)
        return counts

    def only(self, images: Collection[str]) -> None:
        """The sentences about them."""
        self._saved = [image for image in self._of_image if image in images]

    def save(self, layer: Layer, index: int, folder: Path) -> list[Row]:
        """<sent_id>.png: the mask of a sentence."""
        files: dict[int, Row] = {}
        for image, sentences in self._predict(layer):
            for number, predicted in sentences:
                one = self.expressions[number]
                about = {
                    "sent_id": one.sent_id,
                    "sent": one.text,
                    "image": image.id,
                    "ann_id": one.ann_id,
                }
                files[number] = {"file": f"{one.sent_id}.png", **about, "ref_id": one.ref_id}
                save_mask(folder / files[number]["file"], predicted[index])
        return [files[number] for number in sorted(files)]

    def truth(self, record: Row) -> Array:
        expression = next(one for one in self.expressions if one.sent_id == record["sent_id"])
        return self.dataset.object_mask(expression)

    def _predict(self, layer: Layer) -> Iterator[tuple[GridImage, Iterator[tuple[int, Array]]]]:
        """Every image with its sentences: their indices and masks (head, height, width)."""
        import torch

        vectors = centred_texts(layer, self.texts, self.name, self.text_choice)
        row_of = {text: row for row, text in enumerate(self.texts)}
        for image in layer.each(self._saved):
            rows = {
                index: row_of[self.expressions[index].text] for index in self._of_image[image.id]
            }
            maps = (
                (index, torch.bmm(image.values, vectors[:, row, :, None])[:, :, 0])
                for index, row in rows.items()
            )
            yield image, ((index, foreground(one, image, self.cutoff)) for index, one in maps)

    def _truth(self, expression: Expression, image: GridImage, known: dict[int, Array]) -> Array:
        if expression.ann_id not in known:
            known[expression.ann_id] = self.dataset.object_mask(expression) == 1
            check_shape(known[expression.ann_id], image.wh_px, self.dataset.place_of(expression))
        return known[expression.ann_id]

    def tables(self, measured: Array) -> Iterator[Table]:
        yield Table({}, foreground_units(measured[..., :2], measured[..., 2:]), refcoco_scores)


def check_object(dataset: HasExpressions, expression: Expression, wh_px: Size) -> None:
    """Raises DatasetError where an expression's object cannot be used, is on a picture of another
    size, or is empty.
    """
    where = dataset.place_of(expression)
    check_size(dataset.image_wh_px(expression), wh_px, where)
    if not dataset.object_mask(expression).any():
        raise DatasetError(
            f"{where}: expected polygons or run lengths that enclose pixels, found none"
        )

"""Referring expression segmentation on RefCOCO (protocol 4): semantic segmentation with the sentence as the class.

The vector of a sentence's last token is scored against the image tokens, less each token's mean over all sentences of
the split; what lies above the map's mean is the object. One sample per sentence.

Memory: the vectors of the sentences at one layer, and one image's maps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch

from kvtool.datasets.refcoco import Expression, RefCoco
from kvtool.errors import KvtoolError
from kvtool.metrics.segmentation import binary_counts, foreground_units, refcoco_scores
from kvtool.probes.base import Array, Table
from kvtool.probes.language import centred_texts, check_cutoff, check_texts, foreground
from kvtool.probes.layers import Layer
from kvtool.probes.semantic_segmentation import check_size
from kvtool.types import Kind


class ReferringExpression:
    name: ClassVar[str] = "referring-expression"
    metric: ClassVar[str] = "miou_fgbg"
    kinds: ClassVar[tuple[Kind, ...]] = ("value",)

    def __init__(
        self,
        dataset: RefCoco,
        ids: set[str],
        device: torch.device,
        *,
        limit: int | None = None,
        cutoff: str = "mean",
    ) -> None:
        check_cutoff(cutoff)
        self.dataset, self.device, self.limit, self.cutoff = dataset, device, limit, cutoff
        listed = dataset.expressions()
        held = [expression for expression in listed if expression.image_id in ids]
        self.expressions = held[:limit]
        self.n, self.n_skipped = len(self.expressions), len(listed) - len(held) + len(dataset.skipped)
        self.skipped = list(dataset.skipped)
        if len(held) < len(listed):
            self.skipped.append(f"{len(listed) - len(held)} sentences are about images that the run does not hold")
        if not held:
            raise KvtoolError(f"{self.name}: the run holds the image of none of {len(listed)} sentences: extract more")
        self.texts = tuple(dataset.texts())
        self._of_image: defaultdict[str, list[int]] = defaultdict(list)
        for index, expression in enumerate(self.expressions):
            self._of_image[expression.image_id].append(index)

    def settings(self) -> dict[str, Any]:
        return {"cutoff": self.cutoff, "limit": self.limit}

    def images(self) -> set[str]:
        return set(self._of_image)

    def measure(self, layer: Layer) -> Array:
        """(head, sentence, 4): pixels of background and foreground intersection, then union."""
        check_texts(layer.run, self.texts, self.name)
        vectors = centred_texts(layer, self.texts)
        row_of = {text: row for row, text in enumerate(self.texts)}
        counts = np.zeros((len(layer.heads), self.n, 4), np.int64)
        for image in layer.each(self._of_image):
            masks: dict[int, Array] = {}
            for index in self._of_image[image.id]:
                expression = self.expressions[index]
                truth = masks.setdefault(expression.ann_id, self._truth(expression, masks))
                check_size(truth, image)
                of_sentence = vectors[:, row_of[expression.text], :, None]
                predicted = foreground(torch.bmm(image.values, of_sentence)[:, :, 0], image, self.cutoff)
                counts[:, index] = np.concatenate(binary_counts(predicted, truth), axis=-1)
        return counts

    def _truth(self, expression: Expression, known: dict[int, Array]) -> Array:
        return known[expression.ann_id] if expression.ann_id in known else self.dataset.mask(expression) == 1

    def tables(self, measured: Array) -> Iterator[Table]:
        yield Table({}, foreground_units(measured[..., :2], measured[..., 2:]), refcoco_scores)

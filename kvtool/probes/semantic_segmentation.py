"""Semantic segmentation on ImageNet-S (protocol 3).

The value vector of the last token of a class's name, the name run through the language model alone, is the class's
vector at each (layer, kv_head); its dot product with an image token, less the token's mean over all classes, is the
score. The image's own class is given: what scores above the map's mean is foreground. With `all_classes` each pixel
also goes to its best class, or to none where that class scores below the mean of its map, for the official metric.

Memory: one image's maps; with `all_classes` three counts per image, class and head.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from kvtool.datasets.imagenet_s import IGNORE, ImageNetS
from kvtool.datasets.masks import VOID
from kvtool.errors import DatasetError, KvtoolError
from kvtool.metrics.segmentation import binary_counts, class_counts, fgbg_scores, foreground_units, imagenet_s_scores
from kvtool.probes.base import Array, Table
from kvtool.probes.language import centred_texts, check_cutoff, check_texts, foreground, thresholds
from kvtool.probes.layers import GridImage, Layer, upsample
from kvtool.probes.predictions import save_ids, save_mask
from kvtool.reports.results import Row
from kvtool.types import Kind

GIVEN = 13
"""Columns of foreground_units; those of class_counts follow."""


class SemanticSegmentation:
    name: ClassVar[str] = "semantic-segmentation"
    metric: ClassVar[str] = "miou_fgbg"
    kinds: ClassVar[tuple[Kind, ...]] = ("value",)

    def __init__(
        self,
        dataset: ImageNetS,
        ids: set[str],
        device: torch.device,
        *,
        limit: int | None = None,
        cutoff: str = "mean",
        all_classes: bool = False,
    ) -> None:
        check_cutoff(cutoff)
        self.dataset, self.device, self.limit = dataset, device, limit
        self.cutoff, self.all_classes = cutoff, all_classes
        labelled = dataset.labelled_ids()
        self.names = [image for image in labelled if image in ids][:limit]
        missing = sum(image not in ids for image in labelled)
        self.skipped = list(dataset.skipped)
        if missing:
            self.skipped.append(f"{missing} images are not in the run")
        self.n, self.n_skipped = len(self.names), missing + len(dataset.skipped)
        if not self.names:
            raise KvtoolError(f"{self.name}: the run holds none of {len(labelled)} labelled images: extract more")
        self.texts = dataset.texts()
        self._rows = {image: row for row, image in enumerate(self.names)}

    def settings(self) -> dict[str, Any]:
        return {"cutoff": self.cutoff, "all_classes": self.all_classes, "limit": self.limit}

    def images(self) -> set[str]:
        return set(self.names)

    def measure(self, layer: Layer) -> Array:
        """(head, image, 4): pixels of background and foreground intersection and union; with all_classes
        (head, image, 4 + 3 (C + 1)): then intersection, prediction and truth of every class."""
        classes = self._classes(layer)
        width = 4 + (3 * (len(self.texts) + 1) if self.all_classes else 0)
        measured = np.zeros((len(layer.heads), self.n, width), np.int32)
        for image in layer.each(self.names):
            row = self._rows[image.id]
            measured[:, row, :4] = self._given(image, classes)
            if self.all_classes:
                measured[:, row, 4:] = self._all(image, classes)
        return measured

    def save(self, layer: Layer, index: int, folder: Path) -> list[Row]:
        """<wnid>/<name>.png: with all_classes maps of ids as the ground truth, else masks of the image's own class."""
        classes = self._classes(layer)
        for image in layer.each(self.names):
            if self.all_classes:
                save_ids(folder / f"{image.id}.png", next(islice(self._ids(image, classes), index, None)))
            else:
                save_mask(folder / f"{image.id}.png", self._foreground(image, classes)[index])
        return [{"file": f"{image}.png", "image": image} for image in self.names]

    def _classes(self, layer: Layer) -> Tensor:
        check_texts(layer.run, self.texts, self.name)
        return centred_texts(layer, self.texts)

    def _given(self, image: GridImage, classes: Tensor) -> Array:
        truth = self.dataset.mask(image.id)
        check_size(truth, image)
        predicted = self._foreground(image, classes)
        return np.concatenate(binary_counts(predicted, truth == 1, truth != VOID), axis=-1)

    def _foreground(self, image: GridImage, classes: Tensor) -> Array:
        """(head, height, width) bool of the image's own class."""
        of_class = classes[:, self.dataset.class_id(image.id) - 1, :, None]
        return foreground(torch.bmm(image.values, of_class)[:, :, 0], image, self.cutoff)

    def _all(self, image: GridImage, classes: Tensor) -> Array:
        """(head, 3 (C + 1)) counts of every class."""
        truth = self.dataset.label_map(image.id)
        said = self._ids(image, classes)
        return np.stack([class_counts(ids, truth, len(self.texts) + 1, IGNORE).reshape(-1) for ids in said])

    def _ids(self, image: GridImage, classes: Tensor) -> Iterator[Array]:
        """(height, width) of each head: the best class of each pixel, 0 where it lies below its map's cut."""
        for values, of_head in zip(image.values, classes, strict=True):
            maps = of_head @ values.T
            best = torch.full(image.wh_px[::-1], -torch.inf, device=maps.device)
            ids = torch.zeros(image.wh_px[::-1], dtype=torch.long, device=maps.device)
            above = torch.zeros_like(ids, dtype=torch.bool)
            for number, (one, cut) in enumerate(zip(maps, thresholds(maps, self.cutoff), strict=True), 1):
                dense = upsample(one, image.span, image.wh_px)
                better = dense > best
                best, ids = torch.where(better, dense, best), torch.where(better, number, ids)
                above = torch.where(better, dense > cut, above)
            yield torch.where(above, ids, 0).cpu().numpy()

    def tables(self, measured: Array) -> Iterator[Table]:
        given = foreground_units(measured[..., 0:2], measured[..., 2:4])
        yield Table({}, np.concatenate([given, measured[..., 4:]], axis=-1), self._scores)
        of_image = np.array([self.dataset.class_id(image) for image in self.names])
        for class_id in np.unique(of_image):
            yield Table({"category": self.texts[class_id - 1]}, given[:, of_image == class_id], fgbg_scores)

    def _scores(self, sums: Array) -> dict[str, Array]:
        official = imagenet_s_scores(sums[..., GIVEN:]) if self.all_classes else {}
        return fgbg_scores(sums[..., :GIVEN]) | official


def check_size(truth: Array, image: GridImage) -> None:
    """Raises DatasetError where a mask is not of its image's size."""
    width, height = image.wh_px
    if truth.shape != (height, width):
        raise DatasetError(
            f"mask of {image.id}: expected {width} x {height} pixels as its image, found "
            f"{truth.shape[1]} x {truth.shape[0]}; download both again"
        )

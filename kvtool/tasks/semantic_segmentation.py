"""Semantic segmentation on ImageNet-S (protocol 3) and BDD-10K (protocol 8).

The value vector of the last token of a class's name, the name run through the language model alone,
is the class's vector at each (layer, kv_head); its dot product with an image token, less the
token's mean over all classes, is the score. The classes of an image are given, its own of
ImageNet-S, all of the ground truth's of BDD: what scores above a class's mean over the image is
foreground. With `all_classes` each pixel also goes to its best class, for the official metric; in
ImageNet-S to none where that class scores below the mean of its map.

Memory: one image's maps; four counts per image, head and given class, with `all_classes` three more
for every class.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from kvtool.datasets.masks import VOID
from kvtool.datasets.protocols import HasLabelMaps
from kvtool.errors import KvtoolError
from kvtool.features.layers import GridImage, Layer, upsample
from kvtool.metrics.segmentation import (
    bdd_scores,
    binary_counts,
    class_counts,
    fgbg_scores,
    foreground_units,
    imagenet_s_scores,
)
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
    thresholds,
)
from kvtool.tasks.options import Flag
from kvtool.tasks.predictions import save_ids, save_labels, save_mask
from kvtool.tasks.truth import LeftOut, Size, Sizes, check_shape
from kvtool.text_templates import DEFAULT
from kvtool.types import Kind

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GIVEN = 13
"""Columns of foreground_units; those of class_counts follow."""


class SemanticSegmentation:
    name: ClassVar[str] = "semantic-segmentation"
    metric: ClassVar[str] = "miou_fgbg"
    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool] = True
    serves: ClassVar[tuple[str, ...]] = ()
    promptable: ClassVar[bool] = True
    kinds: ClassVar[tuple[Kind, ...]] = ("value", "projected")
    drawing: ClassVar[str] = "masks"
    picture_options: ClassVar[Mapping[str, Any]] = {"all_classes": False}
    """A map of all classes has no mask of one: those of the given classes are scored beside it."""

    def __init__(
        self,
        dataset: HasLabelMaps,
        ids: Sizes,
        device: torch.device,
        *,
        limit: int | None = None,
        cutoff: Cutoff = "mean",
        all_classes: Annotated[
            bool, Flag("Each pixel to its best class, for the official miou.")
        ] = False,
        text_vector: TextVector = "last",
        text_template: Template = DEFAULT,
    ) -> None:
        check_cutoff(cutoff)
        self.text_choice = TextChoice(text_vector, text_template)
        self.dataset, self.device, self.limit = dataset, device, limit
        self.cutoff, self.all_classes = cutoff, all_classes
        self.texts = dataset.class_texts()
        labelled = dataset.labelled_ids()
        left_out = LeftOut.of(dataset)
        held = [image for image in labelled if image in ids]
        left_out.many(len(labelled) - len(held), "images are not in the run")
        if not held:
            raise KvtoolError(
                f"{self.name}: the run holds none of {len(labelled)} labelled images: extract more"
            )
        self.names = left_out.usable(
            held, lambda image: check_map(dataset, image, ids[image]), limit
        )
        self.n, self.skipped, self.n_skipped = len(self.names), left_out.lines, left_out.count
        self.n_unusable = left_out.unusable
        if not self.names:
            raise left_out.none_left(
                self.name, f"the maps of none of {len(held)} images can be used"
            )
        self.convention = dataset.label_convention()
        self._single = {image: dataset.single_class(image) for image in self.names}
        self._slots = len(self.texts) if None in self._single.values() else 1
        self._saved = self.names
        self._rows = {image: row for row, image in enumerate(self.names)}

    def settings(self) -> dict[str, Any]:
        return {
            "cutoff": self.cutoff,
            "all_classes": self.all_classes,
            "limit": self.limit,
            **asdict(self.text_choice),
        }

    def images(self) -> set[str]:
        return set(self.names)

    def measure(self, layer: Layer) -> Array:
        """(head, image, 4 slots): pixels of background and foreground intersection and union for
        the image's own class (ImageNet-S: one slot) or for each class (else: zeros where the image
        lacks it); with all_classes (head, image, 4 slots + 3 ids): then intersection, prediction
        and truth of every id.
        """
        classes = self._classes(layer)
        ids = self.convention.first_id + len(self.texts)
        measured = np.zeros(
            (len(layer.heads), self.n, 4 * self._slots + 3 * ids * self.all_classes), np.int32
        )
        for image in layer.each(self.names):
            truth = self.dataset.label_map(image.id)
            check_shape(truth, image.wh_px, str(self.dataset.truth_file(image.id)))
            row = measured[:, self._rows[image.id]]
            for text in self._given(image.id, truth):
                said, kept = (
                    self._foreground(image, classes, text),
                    truth != self.convention.ignored_id,
                )
                counts = binary_counts(said, truth == self.convention.first_id + text, kept)
                row[:, 4 * (text % self._slots) :][:, :4] = np.concatenate(counts, axis=-1)
            if self.all_classes:
                for head, best in enumerate(self._ids(image, classes)):
                    row[head, 4 * self._slots :] = class_counts(
                        best, truth, ids, self.convention.ignored_id
                    ).reshape(-1)
        return measured

    def only(self, images: Collection[str]) -> None:
        self._saved = [image for image in self.names if image in images]

    def save(self, layer: Layer, index: int, folder: Path) -> list[Row]:
        """With all_classes <image>.png, ids as the ground truth has them; else masks of given
        classes: <image>.png of an ImageNet-S image's own, <image>/<id>.png of others'.
        """
        classes, files = self._classes(layer), []
        for image in layer.each(self._saved):
            if self.all_classes:
                files.append({"file": f"{image.id}.png", "image": image.id})
                ids = next(islice(self._ids(image, classes), index, None))
                (save_ids if self._slots == 1 else save_labels)(folder / files[-1]["file"], ids)
                continue
            for text in self._given(image.id, self.dataset.label_map(image.id)):
                name = (
                    f"{image.id}.png"
                    if self._slots == 1
                    else f"{image.id}/{self.convention.first_id + text:02d}.png"
                )
                files.append({"file": name, "image": image.id, "category": self.texts[text]})
                save_mask(folder / name, self._foreground(image, classes, text)[index])
        return sorted(files, key=lambda record: record["file"])

    def truth(self, record: Row) -> Array:
        """Of a given class's record."""
        ids = self.dataset.label_map(record["image"])
        shown = ids == self.convention.first_id + self.texts.index(record["category"])
        return np.where(ids == self.convention.ignored_id, np.uint8(VOID), shown.astype(np.uint8))

    def _classes(self, layer: Layer) -> Tensor:
        return centred_texts(layer, self.texts, self.name, self.text_choice)

    def _given(self, image_id: str, truth: Array) -> list[int]:
        """Indices of the texts of an image's given classes."""
        single, first_id = self._single[image_id], self.convention.first_id
        if single is not None:
            return [single]
        labels = np.unique(truth).tolist()
        return [
            label - first_id for label in labels if first_id <= label != self.convention.ignored_id
        ]

    def _foreground(self, image: GridImage, classes: Tensor, text: int) -> Array:
        """(head, height, width) bool of a class."""
        import torch

        return foreground(
            torch.bmm(image.values, classes[:, text, :, None])[:, :, 0], image, self.cutoff
        )

    def _ids(self, image: GridImage, classes: Tensor) -> Iterator[Array]:
        """(height, width) of each head: the id of each pixel's best class; `other`, where the data
        set has it, below the cut of that class's map.
        """
        import torch

        for values, of_head in zip(image.values, classes, strict=True):
            maps = of_head @ values.T
            best = torch.full(image.wh_px[::-1], -torch.inf, device=maps.device)
            ids = torch.zeros(image.wh_px[::-1], dtype=torch.long, device=maps.device)
            above = torch.zeros_like(ids, dtype=torch.bool)
            cuts = enumerate(
                zip(maps, thresholds(maps, self.cutoff), strict=True), self.convention.first_id
            )
            for number, (one, cut) in cuts:
                dense = upsample(one, image.span, image.wh_px)
                better = dense > best
                best, ids = torch.where(better, dense, best), torch.where(better, number, ids)
                above = torch.where(better, dense > cut, above)
            yield (torch.where(above, ids, 0) if self.convention.has_other else ids).cpu().numpy()

    def tables(self, measured: Array) -> Iterator[Table]:
        given = measured[..., : 4 * self._slots].reshape(*measured.shape[:2], self._slots, 4)
        summary = _units(given.sum(axis=2))
        yield Table(
            {}, np.concatenate([summary, measured[..., 4 * self._slots :]], axis=-1), self._scores
        )
        for text, category in enumerate(self.texts):
            one = given[:, :, text % self._slots]
            if self._slots == 1:
                shown = np.array([self._single[image] == text for image in self.names])
            else:
                shown = one[0].any(axis=-1)
            if shown.any():
                yield Table({"category": category}, _units(one[:, shown]), fgbg_scores)

    def _scores(self, sums: Array) -> dict[str, Array]:
        if not self.all_classes:
            return fgbg_scores(sums[..., :GIVEN])
        official = imagenet_s_scores if self.convention.has_other else bdd_scores
        return fgbg_scores(sums[..., :GIVEN]) | official(sums[..., GIVEN:])


def _units(counts: Array) -> Array:
    return foreground_units(counts[..., :2], counts[..., 2:])


def check_map(dataset: HasLabelMaps, image_id: str, wh_px: Size) -> None:
    """Raises DatasetError where an image's label map cannot be used, or is not of the
    image's size.
    """
    where = str(dataset.truth_file(image_id))
    check_shape(dataset.label_map(image_id), wh_px, where)
    dataset.single_class(image_id)

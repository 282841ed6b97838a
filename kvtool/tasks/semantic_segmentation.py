"""Semantic segmentation on ImageNet-S (protocol 3) and BDD-10K (protocol 8).

The value vector of the last token of a class's name, the name run through the language model alone,
is the class's vector at each (layer, kv_head); its dot product with an image token, less the
token's mean over all classes, is the score. The classes of an image are given, its own of
ImageNet-S, all of the ground truth's of BDD: what scores above a class's mean over the image is
foreground. With `all_classes` each pixel also goes to its best class, for the official metric; in
ImageNet-S to none where that class scores below the mean of its map.

Memory: one image's maps; seven numbers per image, head and given class, with `all_classes` three
more for every class.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from kvtool.datasets.masks import VOID
from kvtool.datasets.protocols import HasLabelMaps
from kvtool.errors import KvtoolError
from kvtool.features.layers import GridImage, Layer
from kvtool.metrics.segmentation import (
    bdd_scores,
    class_counts,
    fgbg_scores,
    foreground_units,
    imagenet_s_scores,
)
from kvtool.result import Row
from kvtool.tasks.base import Array, Grids, Table
from kvtool.tasks.chance import pixels_unseen
from kvtool.tasks.label_maps import LabelMaps, check_map
from kvtool.tasks.language import (
    Cutoff,
    Template,
    TextChoice,
    TextVector,
    best_ids,
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
from kvtool.tasks.options import Flag
from kvtool.tasks.predictions import save_ids, save_labels, save_mask
from kvtool.tasks.truth import LeftOut, Sizes
from kvtool.text_templates import DEFAULT
from kvtool.types import Kind

if TYPE_CHECKING:
    import torch
    from torch import Tensor

N_FOREGROUND = 13
"""Columns of foreground_units; those of ranking_units follow, then those of class_counts."""
RANKED = slice(N_FOREGROUND, N_FOREGROUND + 3)


class SemanticSegmentation:
    """The task of segmenting the classes that are given of an image by their names."""

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
        present = [image for image in labelled if image in ids]
        left_out.many(len(labelled) - len(present), "images are not in the run")
        if not present:
            raise KvtoolError(
                f"{self.name}: the run holds none of {len(labelled)} labelled images: extract more"
            )
        self.names = left_out.usable(
            present, lambda image: check_map(dataset, image, ids[image]), limit
        )
        self.n, self.skipped, self.n_skipped = len(self.names), left_out.lines, left_out.count
        self.n_unusable = left_out.unusable
        if not self.names:
            raise left_out.none_left(
                self.name, f"the maps of none of {len(present)} images can be used"
            )
        self.sizes = ids
        self._maps = LabelMaps(dataset, self.names, ids)
        self.convention = self._maps.convention
        # A single given class needs one slot; of several each class has its own.
        self._slots = len(self.texts) if None in self._maps.single.values() else 1
        self._saved = self.names
        self._rows = {image: row for row, image in enumerate(self.names)}

    def settings(self) -> dict[str, Any]:
        """Return the options that the numbers depend on."""
        return {
            "cutoff": self.cutoff,
            "all_classes": self.all_classes,
            "limit": self.limit,
            **asdict(self.text_choice),
        }

    def images(self) -> set[str]:
        """Return the ids of the images that are scored."""
        return set(self.names)

    def measure(self, layer: Layer) -> Array:
        """(head, image, 7 slots): map_counts for the image's own class (ImageNet-S: one slot) or
        for each (zeros where the image lacks it); with all_classes 3 more numbers for every id.
        """
        classes = self._classes(layer)
        measured = np.zeros((len(layer.heads), self.n, COUNTS * self._slots + 3 * self._n_ids))
        for image in layer.each(self.names):
            labels = self._maps.labels(image.id)
            row = measured[:, self._rows[image.id]]
            for text in self._maps.given(image.id, labels):
                maps, predicted = self._foreground(image, classes, text)
                truth = self._maps.truth(labels, text, image.span)
                row[:, self._slot(text)] = map_counts(predicted, maps, truth)
            if self.all_classes:
                for head, best in enumerate(self._ids(image, classes)):
                    row[head, COUNTS * self._slots :] = self._class_counts(best, labels)
        return measured

    def guesses(self, grids: Grids, seed: int) -> Iterator[tuple[str, Array]]:
        """What knows nothing gets, as `measure` gives it; with all_classes each pixel has id 0."""
        units = [
            (image, text)
            for image in self.names
            for text in self._maps.given(image, self._maps.labels(image))
        ]
        counted = guessed_counts(self._truths(units, grids), self._cut, len(units), seed)
        for name, counts in counted:
            shape = (len(counts), self.n, COUNTS * self._slots + 3 * self._n_ids)
            measured = np.zeros(shape)
            for index, (image, text) in enumerate(units):
                measured[:, self._rows[image], self._slot(text)] = counts[:, index]
            if self.all_classes:
                for image in self.names:
                    labels = self._maps.labels(image)
                    nothing = self._class_counts(np.zeros_like(labels), labels)
                    measured[:, self._rows[image], COUNTS * self._slots :] = nothing
            yield name, measured

    def _truths(
        self, units: Sequence[tuple[str, int]], grids: Grids
    ) -> Iterator[tuple[int, TruthMask]]:
        """The truth of each image and class."""
        labels, read = np.zeros((0, 0), int), ""
        for index, (image, text) in enumerate(units):
            if image != read:
                labels, read = self._maps.labels(image), image
            yield index, self._maps.truth(labels, text, grids[image])

    def _cut(self, maps: Tensor, truth: TruthMask) -> Array:
        return foreground(maps, truth.span, truth.mask.shape[::-1], self.cutoff)

    def unseen(self, grids: Grids) -> Array:
        """(image, 2): pixels outside the grid's cover, and all of them."""
        return np.array([pixels_unseen(grids[image], self.sizes[image]) for image in self.names])

    @property
    def _n_ids(self) -> int:
        """How many ids class counts have, 0 where there are none."""
        return (self.convention.first_id + len(self.texts)) * self.all_classes

    def _slot(self, text: int) -> slice:
        """The columns of a class's map_counts."""
        first = COUNTS * (text % self._slots)
        return slice(first, first + COUNTS)

    def _class_counts(self, predicted: Array, labels: Array) -> Array:
        return class_counts(predicted, labels, self._n_ids, self.convention.ignored_id).reshape(-1)

    def only(self, images: Collection[str]) -> None:
        """Save what is about these images alone from now on."""
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
            for text in self._maps.given(image.id, self.dataset.label_map(image.id)):
                name = (
                    f"{image.id}.png"
                    if self._slots == 1
                    else f"{image.id}/{self.convention.first_id + text:02d}.png"
                )
                files.append({"file": name, "image": image.id, "category": self.texts[text]})
                _, predicted = self._foreground(image, classes, text)
                save_mask(folder / name, predicted[index])
        return sorted(files, key=lambda record: record["file"])

    def truth(self, record: Row) -> Array:
        """Of a given class's record."""
        ids = self.dataset.label_map(record["image"])
        is_category = ids == self.convention.first_id + self.texts.index(record["category"])
        return np.where(
            ids == self.convention.ignored_id, np.uint8(VOID), is_category.astype(np.uint8)
        )

    def _classes(self, layer: Layer) -> Tensor:
        return centred_texts(layer, self.texts, self.name, self.text_choice)

    def _foreground(self, image: GridImage, classes: Tensor, text: int) -> tuple[Array, Array]:
        """The maps (head, token) and masks (head, height, width) of a class."""
        import torch

        maps = torch.bmm(image.values, classes[:, text, :, None])[:, :, 0]
        predicted = foreground(maps, image.span, image.wh_px, self.cutoff)
        return maps.cpu().numpy(), predicted

    def _ids(self, image: GridImage, classes: Tensor) -> Iterator[Array]:
        return best_ids(image, classes, self.cutoff, self.convention)

    def tables(self, measured: Array) -> Iterator[Table]:
        """Yield the summary over all images, then a table for each class that they show."""
        n_given = COUNTS * self._slots
        counts = measured[..., :n_given].reshape(*measured.shape[:2], self._slots, COUNTS)
        # An image's given classes are foreground in turn: their pixels add up.
        summary = _units(counts.sum(axis=2))
        yield Table(
            {},
            np.concatenate([summary, measured[..., n_given:]], axis=-1),
            with_ranking(self._scores, RANKED),
            facts=undefined(counts.reshape(len(counts), -1, COUNTS)),
        )
        for text, category in enumerate(self.texts):
            category_counts = counts[:, :, text % self._slots]
            # An image shows its own class, or every class of which it has pixels.
            if self._slots == 1:
                is_present = np.array(
                    [self._maps.single[image] == text for image in self.names], bool
                )
            else:
                is_present = np.asarray(category_counts[0, :, :4].any(axis=-1))
            if is_present.any():
                yield Table(
                    {"category": category},
                    _units(category_counts[:, is_present]),
                    with_ranking(lambda sums: fgbg_scores(sums[..., :N_FOREGROUND]), RANKED),
                    members=np.flatnonzero(is_present),
                    facts=undefined(category_counts[:, is_present]),
                )

    def _scores(self, sums: Array) -> dict[str, Array]:
        scores = fgbg_scores(sums[..., :N_FOREGROUND])
        if not self.all_classes:
            return scores
        official = imagenet_s_scores if self.convention.has_other else bdd_scores
        return scores | official(sums[..., RANKED.stop :])


def _units(counts: Array) -> Array:
    units = foreground_units(counts[..., :2], counts[..., 2:4])
    return np.concatenate([units, counts[..., RANKING]], axis=-1)

"""What the values of a layer answer to questions: by mean vectors, marked points, or a linear
probe.

A reading gives, for every head and question, the index of the choice it takes; NONE where a vector
is not finite. The first of equal choices wins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

import numpy as np

from kvtool.asking.paired.points import LETTERS, PointQuestion
from kvtool.datasets.spair71k import Pair
from kvtool.features.layers import Layer
from kvtool.metrics.correspondence import ALPHAS
from kvtool.tasks.base import Array
from kvtool.tasks.semantic_correspondence import PRIMARY_ALPHA, SemanticCorrespondence

if TYPE_CHECKING:
    import torch

NONE = -1


def letter(index: int) -> str:
    """Return (A) for 0; nothing for NONE."""
    return "" if index == NONE else f"({chr(ord('A') + index)})"


class ValueReading(Protocol):
    """How values answer questions."""

    further: ClassVar[tuple[str, ...]]
    """Names of further metrics beside the choice."""

    def read(self, layer: Layer) -> Array:
        """Return (head, question, 1 + further).

        That is the choice, then 1 or 0 for right or wrong by each further metric.
        """
        ...


@runtime_checkable
class CosineReading(ValueReading, Protocol):
    """Takes the option for which most speaks, and says how much speaks for each of them."""

    def evidence(self, layer: Layer) -> torch.Tensor:
        """Return what speaks for each option, see option_cosines."""
        ...


def mean_vectors(layer: Layer, ids: Sequence[str]) -> torch.Tensor:
    """Return the mean over the base grid's tokens of each image, (head, image, dim) float32."""
    import torch

    index_of = {image: index for index, image in enumerate(ids)}
    vectors = torch.empty(0)
    for image in layer.each(index_of):
        mean = image.values.mean(dim=1)
        if not len(vectors):
            vectors = mean.new_empty(len(mean), len(index_of), mean.shape[1])
        vectors[:, index_of[image.id]] = mean
    return vectors


def option_cosines(
    first: torch.Tensor, options: torch.Tensor, present: torch.Tensor
) -> torch.Tensor:
    """Return the cosine of each option with the first vector, (head, question, option).

    It is minus infinity of options that there are not.

    Args:
        first: (head, question, dim).
        options: (head, question, option, dim).
        present: (question, option) bool, which options there are.
    """
    import torch
    from torch.nn.functional import normalize

    # Lengths differ between tokens and heads: directions alone are compared.
    scores = torch.einsum("hqd,hqod->hqo", normalize(first, dim=-1), normalize(options, dim=-1))
    return torch.where(present, scores, -torch.inf)


def nearest_choice(scores: torch.Tensor) -> Array:
    """Return the option of the highest score, (head, question); NONE where one is not a number.

    Args:
        scores: (head, question, option).
    """
    import torch

    choices = torch.where(scores.isnan().any(-1), NONE, scores.argmax(-1))
    return np.asarray(choices.cpu())


@dataclass(frozen=True)
class MeanCosine:
    """Takes the option whose mean vector is nearest to the first image's.

    `images` holds for each question the first image's id, then one for each choice.
    """

    images: tuple[tuple[str, ...], ...]
    further: ClassVar[tuple[str, ...]] = ()

    def read(self, layer: Layer) -> Array:
        """Return the choices, (head, question, 1)."""
        return nearest_choice(self.evidence(layer))[:, :, None]

    def evidence(self, layer: Layer) -> torch.Tensor:
        """Return what speaks for each option, see option_cosines."""
        import torch

        # An image in several questions is averaged once.
        ids = list(dict.fromkeys(chain.from_iterable(self.images)))
        width = max(map(len, self.images))
        # Questions of fewer choices are filled up with image 0, which `present` leaves out.
        indices = np.zeros((len(self.images), width), np.int64)
        present = np.zeros((len(self.images), width - 1), bool)
        for row, images in enumerate(self.images):
            indices[row, : len(images)] = [ids.index(image) for image in images]
            present[row, : len(images) - 1] = True
        vectors = mean_vectors(layer, ids)[:, torch.from_numpy(indices).to(layer.device)]
        options = torch.from_numpy(present).to(layer.device)
        return option_cosines(vectors[:, :, 0], vectors[:, :, 1:], options)


@dataclass(frozen=True)
class PointCosine:
    """Takes the marked target point whose token is nearest to the source point's.

    value_pck says whether the nearest token of the whole target picture lies within PCK's distance
    of the right point, as `kvtool probe` scores it.
    """

    questions: tuple[PointQuestion, ...]
    further: ClassVar[tuple[str, ...]] = ("value_pck",)

    def read(self, layer: Layer) -> Array:
        """Return the choices and value_pck, (head, question, 2)."""
        return np.stack([nearest_choice(self.evidence(layer)), self._found(layer)], axis=-1)

    def evidence(self, layer: Layer) -> torch.Tensor:
        """Return what speaks for each option, see option_cosines."""
        import torch

        vectors = self._vectors(layer)
        present = torch.ones(
            vectors.shape[1], vectors.shape[2] - 1, dtype=torch.bool, device=vectors.device
        )
        return option_cosines(vectors[:, :, 0], vectors[:, :, 1:], present)

    def _vectors(self, layer: Layer) -> torch.Tensor:
        """Return the tokens under the source point and under the target points, (head, question, 1
        + option, dim)."""
        import torch

        # Slot 0 is the source point, the others are the options in their order.
        points_of_image: defaultdict[str, list[tuple[int, int, tuple[float, float]]]] = defaultdict(
            list
        )
        for number, question in enumerate(self.questions):
            points_of_image[question.pair.src_id].append((number, 0, question.source_px))
            for slot, point in enumerate(question.targets_px, 1):
                points_of_image[question.pair.trg_id].append((number, slot, point))
        vectors = torch.empty(0)
        for image in layer.each(points_of_image):
            if not len(vectors):
                heads, _, dim = image.values.shape
                vectors = image.values.new_empty(heads, len(self.questions), 1 + len(LETTERS), dim)
            # Each image is read once, whatever the number of questions about it.
            numbers, slots, points = zip(*points_of_image[image.id], strict=True)
            vectors[:, list(numbers), list(slots)] = image.values[:, image.cells(points)]
        return vectors

    def _found(self, layer: Layer) -> Array:
        """Return 1 where the nearest token of the target picture is near enough, (head,
        question)."""
        # PCK is that of the perception task, on pairs of a single keypoint.
        pairs = _Pairs([_of_one_point(question) for question in self.questions])
        sizes = {pair.src_id: pair.src_wh_px for pair in pairs.listed}
        sizes |= {pair.trg_id: pair.trg_wh_px for pair in pairs.listed}
        task = SemanticCorrespondence(pairs, sizes, layer.device)
        return task.measure(layer)[:, :, ALPHAS.index(PRIMARY_ALPHA)]


@dataclass(frozen=True)
class _Pairs:
    """What the probe of semantic correspondence asks of a data set."""

    listed: list[Pair]
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def pairs(self) -> list[Pair]:
        """Return the pairs."""
        return self.listed


def _of_one_point(question: PointQuestion) -> Pair:
    """Return the question's pair with its one keypoint."""
    pair = question.pair
    selection = slice(question.source, question.source + 1)
    return replace(
        pair,
        src_kps_px=pair.src_kps_px[selection],
        trg_kps_px=pair.trg_kps_px[selection],
        kps_ids=pair.kps_ids[selection],
    )


@dataclass(frozen=True)
class LinearProbe:
    """Answers A or B by logistic regression on an image's mean vector, from the other folds'
    questions.

    Features are standardized on the folds that train.

    Args:
        images: each question's image.
        labels: 1 for each question where B is right.
        folds: the fold of each question.
        c: the inverse L2 strength, as in scikit-learn.
    """

    images: tuple[str, ...]
    labels: tuple[int, ...]
    folds: tuple[int, ...]
    c: float
    further: ClassVar[tuple[str, ...]] = ()

    def read(self, layer: Layer) -> Array:
        """Return the choices, (head, question, 1)."""
        return self.choices(self.vectors(layer))[:, :, None]

    def vectors(self, layer: Layer) -> torch.Tensor:
        """Return the mean vector of each question's image, (head, question, dim)."""
        ids = list(dict.fromkeys(self.images))
        return mean_vectors(layer, ids)[:, [ids.index(image) for image in self.images]]

    def choices(self, vectors: torch.Tensor) -> Array:
        """Return what is chosen by the vectors (head, question, dim) of each question's image,
        (head, question).
        """
        import torch

        from kvtool.features import logistic

        # A head with a value that is not finite answers nothing; zeros keep the others' fits sound.
        finite = vectors.isfinite().flatten(1).all(1)
        features = torch.where(finite[:, None, None], vectors, 0.0)
        choices = torch.full(features.shape[:2], NONE, device=features.device)
        labels = torch.tensor(self.labels, device=features.device).bool()[None]
        for fold in sorted(set(self.folds)):
            # Train on all other folds, and answer this one.
            held_out = torch.tensor(
                [number == fold for number in self.folds], device=features.device
            )
            weights = (~held_out).float()[None]
            solution = logistic.fit_standardized(features, labels, weights, c=self.c)
            logits = (
                torch.einsum("hnd,hd->hn", features.double(), solution.weights)
                + solution.bias[:, None]
            )
            choices[:, held_out] = (logits[:, held_out] > 0).long()
        return np.asarray(torch.where(finite[:, None], choices, NONE).cpu())

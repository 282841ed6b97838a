"""What the values of a layer answer to questions: by mean vectors, by marked points, or by a linear
probe.

A reading gives, for every head and question, the index of the choice it takes; NONE where a vector
is not finite. The first of equal choices wins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

import numpy as np

from kvtool.datasets.spair71k import Pair, SPair71k
from kvtool.experiments.paired.points import LETTERS, PointQuestion
from kvtool.features.layers import Layer
from kvtool.metrics.correspondence import ALPHAS
from kvtool.tasks.base import Array
from kvtool.tasks.semantic_correspondence import PRIMARY_ALPHA, SemanticCorrespondence

if TYPE_CHECKING:
    import torch

NONE = -1


class Reading(Protocol):
    further: ClassVar[tuple[str, ...]]
    """Names of other metrics that it gives beside its choice."""

    def read(self, layer: Layer) -> Array:
        """(head, question, 1 + further): the choice, then 1 or 0 for right or wrong by each further
        metric."""
        ...


def mean_vectors(layer: Layer, ids: Sequence[str]) -> torch.Tensor:
    """(head, image, dim) float32: the mean over the base grid's tokens of each image."""
    import torch

    at = {image: index for index, image in enumerate(ids)}
    vectors = torch.empty(0)
    for image in layer.each(at):
        mean = image.values.mean(dim=1)
        if not len(vectors):
            vectors = mean.new_empty(len(mean), len(at), mean.shape[1])
        vectors[:, at[image.id]] = mean
    return vectors


def nearest_choice(first: torch.Tensor, options: torch.Tensor, there: torch.Tensor) -> Array:
    """(head, question) the option nearest to the first vector by cosine.

    first (head, question, dim), options (head, question, option, dim), there (question, option)
    bool: which are.
    """
    import torch
    from torch.nn.functional import normalize

    scores = torch.einsum("hqd,hqod->hqo", normalize(first, dim=-1), normalize(options, dim=-1))
    scores = torch.where(there, scores, -torch.inf)
    chosen = torch.where(scores.isnan().any(-1), NONE, scores.argmax(-1))
    return np.asarray(chosen.cpu())


@dataclass(frozen=True)
class MeanCosine:
    """Which option's mean vector is nearest to the first image's. images: of each question the
    first image's id, then one for each choice."""

    images: tuple[tuple[str, ...], ...]
    further: ClassVar[tuple[str, ...]] = ()

    def read(self, layer: Layer) -> Array:
        import torch

        ids = list(dict.fromkeys(image for of in self.images for image in of))
        width = max(map(len, self.images))
        at = torch.tensor(
            [[ids.index(image) for image in of] + [0] * (width - len(of)) for of in self.images]
        )
        there = torch.tensor([[slot < len(of) for slot in range(1, width)] for of in self.images])
        vectors = mean_vectors(layer, ids)[:, at.to(layer.device)]
        return nearest_choice(vectors[:, :, 0], vectors[:, :, 1:], there.to(layer.device))[
            :, :, None
        ]


@dataclass(frozen=True)
class PointCosine:
    """Which marked target point's token is nearest to the source point's. value_pck: whether the
    nearest token of the whole target picture lies within PCK's distance of the right point, as
    `kvtool probe` scores it."""

    questions: tuple[PointQuestion, ...]
    further: ClassVar[tuple[str, ...]] = ("value_pck",)

    def read(self, layer: Layer) -> Array:
        import torch

        vectors = self._vectors(layer)
        there = torch.ones(
            vectors.shape[1], vectors.shape[2] - 1, dtype=torch.bool, device=vectors.device
        )
        chosen = nearest_choice(vectors[:, :, 0], vectors[:, :, 1:], there)
        return np.stack([chosen, self._found(layer)], axis=-1)

    def _vectors(self, layer: Layer) -> torch.Tensor:
        """(head, question, 1 + option, dim) the tokens under the source point and under the target
        points."""
        import torch

        wanted: defaultdict[str, list[tuple[int, int, tuple[float, float]]]] = defaultdict(list)
        for number, question in enumerate(self.questions):
            wanted[question.pair.src_id].append((number, 0, question.source_px))
            for slot, point in enumerate(question.targets_px, 1):
                wanted[question.pair.trg_id].append((number, slot, point))
        vectors = torch.empty(0)
        for image in layer.each(wanted):
            if not len(vectors):
                heads, _, dim = image.values.shape
                vectors = image.values.new_empty(heads, len(self.questions), 1 + len(LETTERS), dim)
            numbers, slots, points = zip(*wanted[image.id], strict=True)
            vectors[:, list(numbers), list(slots)] = image.values[:, image.cells(points)]
        return vectors

    def _found(self, layer: Layer) -> Array:
        """(head, question) 1 where the nearest token of the target picture is near enough."""
        pairs = _Pairs([_of_one_point(question) for question in self.questions])
        sizes = {pair.src_id: pair.src_wh_px for pair in pairs.listed}
        sizes |= {pair.trg_id: pair.trg_wh_px for pair in pairs.listed}
        task = SemanticCorrespondence(cast(SPair71k, pairs), sizes, layer.device)
        return task.measure(layer)[:, :, ALPHAS.index(PRIMARY_ALPHA)]


@dataclass(frozen=True)
class _Pairs:
    """What the probe of semantic correspondence asks of a data set."""

    listed: list[Pair]
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def pairs(self) -> list[Pair]:
        return self.listed


def _of_one_point(question: PointQuestion) -> Pair:
    """The question's pair with its one keypoint."""
    pair = question.pair
    at = slice(question.source, question.source + 1)
    return replace(
        pair,
        src_kps_px=pair.src_kps_px[at],
        trg_kps_px=pair.trg_kps_px[at],
        kps_ids=pair.kps_ids[at],
    )


@dataclass(frozen=True)
class LinearProbe:
    """A or B by logistic regression on an image's mean vector, from the other folds' questions.

    images, labels: of each question its image, and 1 where B is right. folds: the fold of each
    question. Features are standardised on the folds that train; c is the inverse L2 strength, as in
    scikit-learn.
    """

    images: tuple[str, ...]
    labels: tuple[int, ...]
    folds: tuple[int, ...]
    c: float
    further: ClassVar[tuple[str, ...]] = ()

    def read(self, layer: Layer) -> Array:
        import torch

        from kvtool.features import logistic

        ids = list(dict.fromkeys(self.images))
        vectors = mean_vectors(layer, ids)[:, [ids.index(image) for image in self.images]]
        finite = vectors.isfinite().flatten(1).all(1)
        features = torch.where(finite[:, None, None], vectors, 0.0)
        chosen = torch.full(features.shape[:2], NONE, device=features.device)
        labels = torch.tensor(self.labels, device=features.device).bool()[None]
        for fold in sorted(set(self.folds)):
            held_out = torch.tensor([each == fold for each in self.folds], device=features.device)
            scaled = standardised(features, ~held_out)
            found = logistic.fit(scaled, labels, (~held_out).float()[None], c=self.c)
            logits = (
                torch.einsum("hnd,hd->hn", scaled.double(), found.weights) + found.bias[:, None]
            )
            chosen[:, held_out] = (logits[:, held_out] > 0).long()
        return np.asarray(torch.where(finite[:, None], chosen, NONE).cpu())[:, :, None]


def standardised(features: torch.Tensor, train: torch.Tensor) -> torch.Tensor:
    """(head, n, dim) with mean 0 and deviation 1 over the rows of `train` (n,); a constant feature
    becomes 0."""
    import torch

    of_train = features[:, train]
    mean = of_train.mean(1, keepdim=True)
    deviation = of_train.std(1, correction=0, keepdim=True)
    least = 1e-6 * of_train.abs().amax(1, keepdim=True)
    return torch.where(deviation > least, (features - mean) / deviation.clamp_min(1e-30), 0.0)


def stratified_folds(labels: Sequence[int], folds: int, seed: int) -> tuple[int, ...]:
    """The fold of each question: each label's questions in a drawn order, dealt out in turn."""
    rng = np.random.default_rng(seed)
    found = np.zeros(len(labels), int)
    dealt = 0
    for label in sorted(set(labels)):
        members = rng.permutation(np.flatnonzero(np.asarray(labels) == label))
        found[members] = (dealt + np.arange(len(members))) % folds
        dealt += len(members)
    return tuple(found.tolist())

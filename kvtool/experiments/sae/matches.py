"""Whether the features of images are those of their captions: retrieval and match, by the features
that are not dense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kvtool.autoencoders.matching import (
    MIN_FEATURES,
    eligible_features,
    match_rate,
    retrieval,
    top_features,
)
from kvtool.experiments.sae.describing import Describing
from kvtool.experiments.sae.settings import Filters
from kvtool.experiments.sae.sums import ConditionSums
from kvtool.result import Row
from kvtool.stats.bootstrap import Array

RETRIEVAL = ("recall_1", "recall_5", "recall_10", "median_rank", "mrr")


@dataclass(frozen=True)
class CaptionFeatures:
    """The features of captions, which those of images are compared with.

    Attributes:
        text: The sums of the captions, alone through the decoder.
        image: The sums of the images' own tokens, which tell which features are dense.
        filters: What is dense.
        layer: Of the SAE.
        sentences: The captions of each image.
        describing: Compares descriptions of features with captions.
        seed: The random seed of intervals.
    """

    text: ConditionSums
    image: ConditionSums
    filters: Filters
    layer: int
    sentences: Sequence[Sequence[str]]
    describing: Describing
    seed: int

    @cached_property
    def pooled(self) -> Array:
        """Each feature of each image's captions, (image, m)."""
        return self.text.pooled.read(self.text.sums.n_images)

    @cached_property
    def content_presence(self) -> Array:
        """Which features fire on words that say something, (image, m) bool."""
        return self.text.content_presence()

    @cached_property
    def eligible(self) -> Array:
        """Features that are dense neither in images nor in text, (m,) bool, the same for all
        conditions."""
        # Dense features fire on anything, and would match any image with any caption.
        sums = self.text.sums
        density = sums.counts / max(1, sum(map(len, sums.norms)))
        # Where those who describe features know a density of much text, it counts.
        for feature, share in self.describing.descriptions.densities.get(self.layer, {}).items():
            if feature < len(density):
                density[feature] = share
        return eligible_features(
            self.image.sums.presence,
            sums.presence,
            density,
            self.filters.max_presence,
            self.filters.max_density,
        )

    def fields(self, sums: ConditionSums, partners: Array | None = None) -> Row:
        """Return the fields of a condition.

        Args:
            sums: Of the condition.
            partners: For each image the one whose captions count in place of its own, -1 for none.
        """
        pooled = sums.pooled.read(sums.sums.n_images)
        positions = np.arange(len(pooled)) if partners is None else partners
        # An image without a partner has nothing to be compared with.
        has_captions = positions >= 0
        pooled, positions = pooled[has_captions], positions[has_captions]
        described = self.described(pooled, positions)
        # Retrieval ranks the captions of all images by their pooled features.
        ranks = retrieval(pooled, self.pooled[positions], seed=self.seed)
        fields: Row = described | {name: getattr(ranks, name) for name in RETRIEVAL}
        fields |= {f"{name}_chance": ranks.chance.get(name) for name in RETRIEVAL[:3]}
        n_features = int(self.eligible.sum())
        fields["n_features"] = n_features
        # Among so few features a match says nothing.
        if n_features < MIN_FEATURES:
            return fields
        # A match asks for features of the image among those of its captions' content words.
        top = top_features(pooled, self.eligible)
        match = match_rate(top, self.content_presence[positions], seed=self.seed)
        return fields | {
            "match": match.rate,
            "match_low": match.low,
            "match_high": match.high,
            "match_chance": match.chance,
            "lift": match.lift,
            "lift_low": match.lift_low,
            "lift_high": match.lift_high,
        }

    def described(self, pooled: Array, positions: Array) -> Row:
        """Return how often descriptions of the strongest features of images (image, m) fit the
        captions of the images at `positions`."""
        captions = [self.sentences[position] for position in positions]
        return self.describing.fields(self.layer, pooled, self.eligible, captions)

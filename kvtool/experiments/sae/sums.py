"""What a condition leaves behind in a layer, image by image: sums, and numbers on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kvtool.experiments.sae.dictionaries import Dictionary
from kvtool.experiments.sae.spools import SparseSpool, Spool
from kvtool.features.reconstruction import ReconstructionSums

Array = np.ndarray[Any, Any]

SHARE = 0.9
"""`above` counts the largest features of a token that make up this share of their sum."""
POOLED = 3
"""A feature of an image is the mean of its so many largest activations."""


@dataclass(frozen=True)
class TokenRun:
    """Tokens of several images, one after the other, of one layer and condition.

    Attributes:
        places: The images.
        counts: How many tokens of each.
        x: (token, d) float32, of those that are no outliers.
        usual: Which tokens these are among all, (sum of counts,) bool.
    """

    places: Sequence[int]
    counts: Sequence[int]
    x: torch.Tensor
    usual: Array

    @classmethod
    def of(cls, places: Sequence[int], states: Sequence[torch.Tensor], longest: float) -> TokenRun:
        """Join the states (token, d) of images; those longer than `longest` are outliers, and so
        are those that are not finite."""
        joined = torch.cat([item.float() for item in states])
        lengths = joined.norm(dim=1)
        usual = lengths <= longest
        return cls(places, [len(item) for item in states], joined[usual], usual.cpu().numpy())

    def spread(self, rows: Array) -> Array:
        """Return rows of the usual tokens at their place among all; NaN for the outliers."""
        everything = np.full((len(self.usual), rows.shape[1]), np.nan, np.float32)
        everything[self.usual] = rows
        return everything

    def split(self) -> list[slice]:
        """Return where the usual tokens of each image are."""
        ends = np.cumsum(self.counts)
        n_before = np.concatenate([[0], np.cumsum(self.usual)])
        bounds = n_before[np.concatenate([[0], ends])].tolist()
        return [slice(start, stop) for start, stop in zip(bounds, bounds[1:], strict=False)]


@dataclass
class ConditionSums:
    """The sums of one dictionary under one condition.

    Attributes:
        sums: Of reconstructions.
        above: Of each image, over its tokens: see SHARE.
        n_outliers: Tokens that were dropped.
        scores: The chosen features of every token, (token, concept); NaN for outliers.
        pooled: Of each image, see POOLED.
    """

    sums: ReconstructionSums
    above: Array
    scores: Spool
    pooled: SparseSpool
    n_outliers: int = 0

    @classmethod
    def empty(
        cls, n_images: int, m: int, n_concepts: int, center: torch.Tensor, path: Path
    ) -> ConditionSums:
        """Return the sums over no token; numbers go into files that begin with `path`."""
        return cls(
            ReconstructionSums(n_images, m, center, center),
            np.zeros(n_images),
            Spool(path.with_suffix(".scores"), n_concepts),
            SparseSpool.at(path.with_suffix(".pooled"), m),
        )

    def add(self, tokens: TokenRun, dictionary: Dictionary, chosen: Array) -> torch.Tensor:
        """Add tokens, and return their features (token, m); `chosen` are the concepts' features."""
        features = dictionary.encode(tokens.x)
        decoded = dictionary.decode(features, tokens.x)
        n_above = features_above(features)
        self.n_outliers += int((~tokens.usual).sum())
        self.scores.append(tokens.spread(features[:, chosen].cpu().numpy()))
        for place, rows in zip(tokens.places, tokens.split(), strict=True):
            self.sums.add(place, tokens.x[rows], features[rows], decoded[rows])
            self.above[place] += float(n_above[rows].sum())
            if rows.stop > rows.start:
                self.pooled.append(place, pooled_features(features[rows]).cpu().numpy())
        return features


@dataclass
class DirectionSums:
    """What directions of words give under one condition of a layer.

    Attributes:
        scores: The product of every token with each direction, (token, concept).
        norms: The lengths of all tokens.
        n_tokens: How many tokens each image has, (image,).
        n_outliers: Tokens that were dropped.
    """

    scores: Spool
    n_tokens: Array
    norms: list[Array] = field(default_factory=list)
    n_outliers: int = 0

    def add(self, tokens: TokenRun, directions: torch.Tensor) -> None:
        """Add tokens; directions (concept, d)."""
        self.scores.append(tokens.spread((tokens.x @ directions.T).cpu().numpy()))
        self.norms.append(tokens.x.norm(dim=1).cpu().numpy())
        self.n_outliers += int((~tokens.usual).sum())
        for place, rows in zip(tokens.places, tokens.split(), strict=True):
            self.n_tokens[place] += rows.stop - rows.start


def features_above(features: torch.Tensor) -> torch.Tensor:
    """Count the largest features of each token (token, m) that make up SHARE of their sum."""
    most = int((features > 0).sum(dim=1).max()) if len(features) else 0
    if most == 0:
        return torch.zeros(len(features))
    largest = features.relu().topk(most, dim=1).values.double()
    sums = largest.cumsum(dim=1)
    total = sums[:, -1:]
    # So many sums fall short of the share, and one more feature reaches it.
    n_short = (sums < SHARE * total * (1 - 1e-12)).sum(dim=1)
    return torch.where(total[:, 0] > 0, n_short + 1, 0)


def pooled_features(features: torch.Tensor) -> torch.Tensor:
    """Return the mean of the largest activations of each feature, (m,), over tokens (token, m)."""
    return features.topk(min(POOLED, len(features)), dim=0).values.mean(dim=0)

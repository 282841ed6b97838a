"""What a condition leaves behind in a layer, image by image: sums, and numbers on disk."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kvtool.autoencoders.matching import TOP_PATCHES, pool_tokens
from kvtool.experiments.sae.dictionaries import Dictionary
from kvtool.experiments.sae.spools import SparseSpool, Spool
from kvtool.features.reconstruction import ReconstructionSums

Array = np.ndarray[Any, Any]

SHARE = 0.9
"""`above` counts the largest features of a token that make up this share of their sum."""


@dataclass(frozen=True)
class TokenRun:
    """Tokens of several images, one after the other, of one layer and condition.

    Attributes:
        positions: The images.
        counts: How many tokens of each.
        x: (token, d) float32, of those that are no outliers.
        usual: Which tokens these are among all, (sum of counts,) bool.
        is_content: Of text, which of all tokens are of words that say something; None of patches.
    """

    positions: Sequence[int]
    counts: Sequence[int]
    x: torch.Tensor
    usual: Array
    is_content: Array | None = None

    @classmethod
    def of(
        cls,
        positions: Sequence[int],
        states: Sequence[torch.Tensor],
        longest: float,
        is_content: Array | None = None,
    ) -> TokenRun:
        """Join the states (token, d) of images; those longer than `longest` are outliers, and so
        are those that are not finite."""
        joined = torch.cat([item.float() for item in states])
        lengths = joined.norm(dim=1)
        # Comparisons with NaN are false, which makes such tokens outliers.
        usual = lengths <= longest
        counts = [len(item) for item in states]
        return cls(positions, counts, joined[usual], usual.cpu().numpy(), is_content)

    def spread(self, rows: Array) -> Array:
        """Return rows of the usual tokens at their position among all; NaN for the outliers."""
        everything = np.full((len(self.usual), rows.shape[1]), np.nan, np.float32)
        everything[self.usual] = rows
        return everything

    def split(self) -> list[slice]:
        """Return where the usual tokens of each image are."""
        # Outliers are left out of the joined tokens: bounds count usual ones only.
        ends = np.cumsum(self.counts)
        n_before = np.concatenate([[0], np.cumsum(self.usual)])
        bounds = n_before[np.concatenate([[0], ends])].tolist()
        return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]


@dataclass(frozen=True)
class PictureFeatures:
    """The features of an image's tokens, or of its captions', for pictures.

    Attributes:
        usual: Which tokens are no outliers, (token,) bool.
        features: Of the usual tokens, (token, m), sparse.
    """

    usual: Array
    features: torch.Tensor


@dataclass
class ConditionSums:
    """The sums of one dictionary under one condition.

    Attributes:
        sums: Of reconstructions.
        above: Of each image, over its tokens: see SHARE.
        scores: The chosen features of every token, (token, concept); NaN for outliers.
        pooled: Each feature of each image, see kvtool.autoencoders.matching.pool_tokens.
        content: Which features fire on words of the captions that say something, (image, m / 8)
            packed.
        n_outliers: Tokens that were dropped.
        examples: By the positions of images that pictures are made of.
    """

    sums: ReconstructionSums
    above: Array
    scores: Spool
    pooled: SparseSpool
    content: Array
    n_outliers: int = 0
    examples: dict[int, PictureFeatures] = field(default_factory=dict)

    @classmethod
    def empty(
        cls, n_images: int, m: int, n_concepts: int, center: torch.Tensor, path: Path
    ) -> ConditionSums:
        """Return the sums over no token; numbers go into files that begin with `path`."""
        sums = ReconstructionSums(n_images, m, center, center)
        return cls(
            sums,
            np.zeros(n_images),
            Spool(Path(f"{path}.scores"), n_concepts),
            SparseSpool.at(Path(f"{path}.pooled"), m),
            np.zeros_like(sums.packed_presence),
        )

    def content_presence(self) -> Array:
        """Return which features fire on words that say something, (image, m) bool."""
        return np.unpackbits(self.content, axis=1, count=self.sums.m).astype(bool)

    def add(
        self,
        tokens: TokenRun,
        dictionary: Dictionary,
        concept_features: Array,
        example_positions: Collection[int] = (),
    ) -> None:
        """Add tokens.

        Args:
            tokens: The tokens.
            dictionary: What reads them.
            concept_features: The features of the concepts.
            example_positions: Images whose features are kept.
        """
        features = dictionary.encode(tokens.x)
        decoded = dictionary.decode(features, tokens.x)
        n_above = features_above(features)
        self.n_outliers += int((~tokens.usual).sum())
        # Scores of the concepts' features stand token by token; all else is summed by image.
        self.scores.append(tokens.spread(features[:, concept_features].cpu().numpy()))
        for position, rows in zip(tokens.positions, tokens.split(), strict=True):
            self.sums.add(position, tokens.x[rows], features[rows], decoded[rows])
            self.above[position] += float(n_above[rows].sum())
            # A caption says a word once, and a patch is seldom alone.
            top = TOP_PATCHES if tokens.is_content is None else 1
            self.pooled.append(position, pool_tokens(features[rows], top))
        self._add_content(tokens, features)
        self._keep_examples(tokens, features, example_positions)

    def _add_content(self, tokens: TokenRun, features: torch.Tensor) -> None:
        if tokens.is_content is None:
            return
        is_content = torch.from_numpy(tokens.is_content[tokens.usual]).to(features.device)
        for position, rows in zip(tokens.positions, tokens.split(), strict=True):
            # A caption has a feature where it fires on one of its content words.
            fires = (features[rows][is_content[rows]] != 0).any(dim=0)
            self.content[position] |= np.packbits(fires.cpu().numpy())

    def _keep_examples(
        self, tokens: TokenRun, features: torch.Tensor, example_positions: Collection[int]
    ) -> None:
        bounds = np.cumsum([0, *tokens.counts])
        for index, (position, rows) in enumerate(
            zip(tokens.positions, tokens.split(), strict=True)
        ):
            if position in example_positions:
                usual = tokens.usual[bounds[index] : bounds[index + 1]]
                self.examples[position] = PictureFeatures(usual, features[rows].cpu().to_sparse())


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
        for position, rows in zip(tokens.positions, tokens.split(), strict=True):
            self.n_tokens[position] += rows.stop - rows.start

    def median_norm(self) -> float:
        """Return the median length of the tokens; NaN where there is none."""
        norms = np.concatenate(self.norms)
        return float(np.median(norms)) if norms.size else float("nan")


def features_above(features: torch.Tensor) -> torch.Tensor:
    """Count the largest features of each token (token, m) that make up SHARE of their sum."""
    n_most = int((features > 0).sum(dim=1).max()) if len(features) else 0
    if n_most == 0:
        return torch.zeros(len(features))
    # The sum of the largest ones, for each number of them.
    largest = features.relu().topk(n_most, dim=1).values.double()
    sums = largest.cumsum(dim=1)
    total = sums[:, -1:]
    # So many sums fall short of the share, and one more feature reaches it.
    n_short = (sums < SHARE * total * (1 - 1e-12)).sum(dim=1)
    return torch.where(total[:, 0] > 0, n_short + 1, 0)

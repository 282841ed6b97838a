"""How well an SAE gives vectors back: sums over an image's tokens, and the scores made of them.

Everything is a sum over tokens, kept for each image, so that a study streams over any number of
images and the bootstrap over images costs nothing. The definitions are those of docs/sae.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from kvtool.stats.bootstrap import Array, ratio

UNITS = (
    *("images", "image_error", "tokens", "error", "energy", "product", "reconstructed"),
    *("relative", "cosine", "active", "spread", "text_spread"),
)
"""What is summed for each image, in this order; all are sums over its tokens but the first two."""


@dataclass
class ReconstructionSums:
    """Sums over the tokens of each image, for one layer and one kind of tokens.

    Attributes:
        n_images: How many images there are.
        m: The number of features.
        text_center: The mean of the text's vectors, (d,), the same for all kinds of tokens.
        center: A guess at the mean of these vectors, (d,), from which sums of squares are taken so
            that they do not cancel; what it is off by is corrected at the end.
    """

    n_images: int
    m: int
    text_center: torch.Tensor
    center: torch.Tensor
    sums: Array = field(init=False)
    offset: torch.Tensor = field(init=False)
    packed_presence: Array = field(init=False)
    counts: Array = field(init=False)
    norms: list[Array] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.sums = np.zeros((self.n_images, len(UNITS)))
        self.offset = torch.zeros_like(self.center, dtype=torch.float64)
        self.packed_presence = np.zeros((self.n_images, -(-self.m // 8)), np.uint8)
        self.counts = np.zeros(self.m, np.int64)

    def add(
        self,
        image: int,
        x: torch.Tensor,
        features: torch.Tensor,
        reconstruction: torch.Tensor,
    ) -> None:
        """Add the tokens of one image: vectors and reconstructions (token, d), features (token, m).

        An image without a token adds nothing.
        """
        if not len(x):
            return
        # Any value but 0: features of unrectified SAEs may be negative.
        is_active = features != 0
        vectors = x.double()
        # The mean of all tokens is known at the end alone: see `units`.
        from_center = vectors - self.center.double()
        self.offset += from_center.sum(dim=0)
        sums = self._sums_of(vectors, reconstruction.double(), from_center, is_active)
        self.sums[image] += sums.cpu().numpy()
        # A bit a feature: tens of thousands of features for thousands of images.
        self.packed_presence[image] |= np.packbits(is_active.any(dim=0).cpu().numpy())
        self.counts += is_active.sum(dim=0).cpu().numpy()
        # All lengths are kept, as a median needs them.
        self.norms.append(vectors.square().sum(dim=1).sqrt().float().cpu().numpy())

    def _sums_of(
        self,
        vectors: torch.Tensor,
        decoded: torch.Tensor,
        from_center: torch.Tensor,
        is_active: torch.Tensor,
    ) -> torch.Tensor:
        """Return the numbers of an image in the order of UNITS, (unit,), of its vectors and their
        reconstructions (token, d) and which features fire (token, m).
        """
        # In double precision: sums over some 100,000 tokens of squares of like size.
        errors = (vectors - decoded).square().sum(dim=1)
        energies = vectors.square().sum(dim=1)
        products = (vectors * decoded).sum(dim=1)
        lengths = decoded.square().sum(dim=1)
        return torch.stack(
            [
                errors.new_ones(()),
                errors.mean() / vectors.shape[1],
                errors.new_tensor(float(len(vectors))),
                errors.sum(),
                energies.sum(),
                products.sum(),
                lengths.sum(),
                _quotient(errors, energies).sum(),
                _quotient(products, (energies * lengths).sqrt()).sum(),
                is_active.sum().double(),
                from_center.square().sum(),
                (vectors - self.text_center.double()).square().sum(),
            ]
        )

    @property
    def presence(self) -> Array:
        """Which features fire in each image, (image, feature) bool; a bit each is held."""
        return np.unpackbits(self.packed_presence, axis=1, count=self.m).astype(bool)

    def units(self) -> Array:
        """Return the sums of each image, (image, unit), with the spread about the exact mean.

        The squares about the mean are those about the guess, less the squared distance of the two
        for each token (Steiner): exact over all images.
        """
        units = self.sums.copy()
        n_tokens = units[:, UNITS.index("tokens")].sum()
        distance = float((self.offset / max(n_tokens, 1)).square().sum())
        # Shared out by tokens, so that the sum over images is exact.
        units[:, UNITS.index("spread")] -= distance * units[:, UNITS.index("tokens")]
        return units

    def median_norm(self) -> float:
        """Return the median length of the vectors; NaN where there is none."""
        return float(np.median(np.concatenate(self.norms))) if self.norms else float("nan")


def _quotient(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """Divide; a vector of length 0 counts as 0."""
    return torch.where(denominator > 0, numerator / denominator.clamp_min(1e-300), 0.0)


def reconstruction_scores(d: int, m: int) -> Any:
    """Return the function that turns sums of units (..., unit) into scores by name, for an SAE of d
    dimensions and m features; see kvtool.stats.bootstrap.

    Its scores: `mse` is the mean over images of the mean over tokens and dimensions of the squared
    error, `mse_token` the mean over all tokens. `fvu` is the squared error over the squared
    distance from the mean of the same tokens, `fvu_text` over that from the mean of the text's
    tokens. `nmse` is the mean over tokens of the squared error over the squared length; `cos` the
    mean cosine; `bias` the squared length of the reconstructions over their product with the
    vectors, 1 where nothing shrinks. `l0` is the mean number of active features of a token, and
    `l0_fraction` that over m.
    """

    def scores(sums: Array) -> dict[str, Array]:
        # Ratios of sums, so that the bootstrap resamples numerator and denominator together.
        unit = {name: sums[..., index] for index, name in enumerate(UNITS)}
        l0 = ratio(unit["active"], unit["tokens"])
        return {
            "mse": ratio(unit["image_error"], unit["images"]),
            "mse_token": ratio(unit["error"], unit["tokens"] * d),
            "fvu": ratio(unit["error"], unit["spread"]),
            "fvu_text": ratio(unit["error"], unit["text_spread"]),
            "nmse": ratio(unit["relative"], unit["tokens"]),
            "cos": ratio(unit["cosine"], unit["tokens"]),
            "bias": ratio(unit["reconstructed"], unit["product"]),
            "l0": l0,
            "l0_fraction": l0 / m,
        }

    return scores


def overlap(
    presence: Array, caption_presence: Array, orders: Sequence[Array]
) -> tuple[Array, float]:
    """Compare the features present in images with those of their captions.

    Args:
        presence: (image, feature) bool.
        caption_presence: The same for the captions.
        orders: Permutations (image,) of the captions, by which chance is told.

    Returns the Jaccard index of each image, and its mean over images and permutations.
    """
    # Chance is the same index with captions of other images.
    indices = _jaccard(presence, caption_presence)
    by_chance = [_jaccard(presence, caption_presence[order]).mean() for order in orders]
    return indices, float(np.mean(by_chance)) if by_chance else float("nan")


def _jaccard(first: Array, second: Array) -> Array:
    """Return the Jaccard index of each row of two (row, feature) bool; 0 where both are empty."""
    intersection = (first & second).sum(axis=1)
    union = (first | second).sum(axis=1)
    return ratio(intersection, union, empty=0.0)

"""Whether an SAE fits a language model: it gives the model's own words back, as sparsely as its
makers say.

An SAE that is read wrongly, or belongs to another layer, place or model, fails at words at once;
so other readings of it are tried, and one that fits is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import torch

from kvtool.sae.autoencoder import SparseAutoencoder
from kvtool.sae.hooks import stream_layer

MOST_FVU = 0.9
"""An SAE that misses more of the variance of words than this does not fit."""
L0_FACTOR = 3.0
"""Nor does one whose features are so many times more, or fewer, than was published."""


@dataclass(frozen=True)
class Reading:
    """How well one reading of an SAE gives words back.

    Attributes:
        change: What was changed of what the files say, in words; "as published" for nothing.
        fvu: The share of the words' variance that is missed.
        l0: The mean number of active features of a word.
        fits: Whether both are as they should be.
    """

    change: str
    fvu: float
    l0: float
    fits: bool


@dataclass(frozen=True)
class Check:
    """The published reading of an SAE, and the best other one where that does not fit."""

    published: Reading
    alternative: Reading | None

    @property
    def verdict(self) -> str:
        """Return the outcome in one sentence."""
        if self.published.fits:
            return "fits"
        if self.alternative is None:
            return "does not fit, in no reading: is it of another model?"
        return f"does not fit as published; fits {self.alternative.change}"


def check_sae(autoencoder: SparseAutoencoder, streams: Mapping[int, torch.Tensor]) -> Check:
    """Check an SAE on a language model's words.

    Args:
        autoencoder: The SAE; its width is the stream's.
        streams: Vectors of words (token, d) after each layer, by layer; -1 is the embedding.

    Where the published reading does not fit, others are tried: with and without the decoder's bias
    subtracted, with vectors scaled to a mean length of sqrt(d), with swapped axes of square
    matrices, and all of these on the streams of the other layers.
    """
    layer = _layer(autoencoder)
    published = (
        _read(autoencoder, streams[layer], "as published")
        if layer is not None and layer in streams
        else Reading("as published", float("nan"), float("nan"), False)
    )
    if published.fits:
        return Check(published, None)
    readings = [
        _read(variant, stream, change)
        for number, stream in streams.items()
        for words, variant in _variants(autoencoder, stream)
        # Without a change it is the published reading, which was tried above.
        if (change := _joined(words, _place(number, layer)))
    ]
    fitting = [reading for reading in readings if reading.fits]
    return Check(published, min(fitting, key=lambda reading: reading.fvu, default=None))


def _place(number: int, layer: int | None) -> str:
    """Return in words on which stream an SAE is tried; nothing where it is its own."""
    if number == layer:
        return ""
    return f"on layer {number}" if number >= 0 else "on embeddings"


def _joined(*changes: str) -> str:
    return " ".join(filter(None, changes))


def _layer(autoencoder: SparseAutoencoder) -> int | None:
    """Return the layer after which the SAE's place stands; None where its files do not say."""
    if autoencoder.hook == "embedding":
        return -1
    if autoencoder.layer is None:
        return None
    return stream_layer(autoencoder.layer, autoencoder.hook)


def _variants(
    autoencoder: SparseAutoencoder, stream: torch.Tensor
) -> Iterator[tuple[str, SparseAutoencoder]]:
    """Yield readings of an SAE with what was changed, in words; first the published one."""
    scale = sqrt(autoencoder.d) / float(stream.float().norm(dim=1).mean())
    scales: list[tuple[str, dict[str, Any]]] = [("", {})]
    if autoencoder.normalization in ("none", "constant"):
        scales.append(
            (f"with a scale of {scale:.4g}", {"normalization": "constant", "scale": scale})
        )
        if autoencoder.scale != 1:
            scales.append(("with a scale of 1", {"normalization": "none", "scale": 1.0}))
    swaps: list[tuple[str, dict[str, Any]]] = [("", {})]
    if autoencoder.d == autoencoder.m:
        axes = {"encoder": autoencoder.encoder.T, "decoder": autoencoder.decoder.T}
        swaps.append(("with rows and columns swapped", axes))
    is_centered = autoencoder.is_centered
    centering = "without" if is_centered else "with"
    centers: list[tuple[str, dict[str, Any]]] = [
        ("", {}),
        (f"{centering} the decoder's bias subtracted", {"is_centered": not is_centered}),
    ]
    for scale_words, scaled in scales:
        for swap_words, swapped in swaps:
            for center_words, centered in centers:
                words = ", ".join(filter(None, (scale_words, swap_words, center_words)))
                yield words, replace(autoencoder, **scaled, **swapped, **centered)


def _read(autoencoder: SparseAutoencoder, stream: torch.Tensor, change: str) -> Reading:
    """Return how well a reading gives a stream (token, d) back."""
    x = stream.float()
    features = autoencoder.encode(x)
    error = (x - autoencoder.reconstruct(x)).square().sum()
    fvu = float(error / (x - x.mean(dim=0)).square().sum())
    l0 = float((features != 0).sum(dim=1).float().mean())
    published = autoencoder.origin.published_l0
    is_sparse = published is None or published / L0_FACTOR <= l0 <= published * L0_FACTOR
    return Reading(change, fvu, l0, fvu <= MOST_FVU and is_sparse and l0 > 0)

"""Whether an SAE fits a language model: it gives the model's own words back, as sparsely as its
makers say.

An SAE that is read wrongly, or belongs to another layer, place or model, fails at words at once;
so other readings of it are tried, and one that fits is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import torch

from kvtool.autoencoders.autoencoder import SparseAutoencoder
from kvtool.autoencoders.hooks import stream_layer

MOST_FVU = 0.9
"""An SAE that misses more of the variance of words than this does not fit."""
L0_FACTOR = 3.0
"""Nor does one whose features are so many times more, or fewer, than was published."""
BETTER = 0.8
"""Another layer at which an SAE misses less than this share of what it misses at its own is the
right one: the shipped SAEs miss 1.25 to 4 times as much at the nearest wrong layer.
"""
SAMPLE_TOKENS = 512
"""So many words tell how well a reading fits that is not the published one."""
_BLOCK_TOKENS = 2048


@dataclass(frozen=True)
class SaeReading:
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
    """What came of a check.

    Attributes:
        published: How well the SAE does where and as its files say; NaN where that is no stream.
        alternative: The best other reading, where it fits and the published one does not, or does
            worse.
        unread: Why there was no published reading, in words.
    """

    published: SaeReading
    alternative: SaeReading | None
    unread: str = ""

    @property
    def fits(self) -> bool:
        """Return whether the published reading is the right one."""
        return self.published.fits and self.alternative is None

    @property
    def verdict(self) -> str:
        """Return the outcome in one sentence."""
        if self.alternative is None:
            if self.published.fits:
                return "fits"
            return self.unread or "does not fit, in no reading: is it of another model?"
        change, fvu = self.alternative.change, self.alternative.fvu
        if self.published.fits:
            return f"fits better {change} (fvu {fvu:.3g}): is it of that place?"
        return f"does not fit as published; fits {change}"


def check_sae(autoencoder: SparseAutoencoder, streams: Mapping[int, torch.Tensor]) -> Check:
    """Check an SAE on a language model's words.

    Args:
        autoencoder: The SAE; its width is the stream's.
        streams: Vectors of words (token, d) after each layer, by layer; -1 is the embedding.

    Where the published reading does not fit, others are tried: with and without the decoder's bias
    subtracted, with vectors scaled to a mean length of sqrt(d), with swapped axes of square
    matrices, and all of these on the streams of the other layers. Where it does, the other layers
    are tried all the same, since neighbors in depth are much alike.
    """
    layer = _layer(autoencoder)
    if layer is None or layer not in streams:
        # No stream of its own to be read in: any reading that fits is named.
        nan = float("nan")
        published = SaeReading("as published", nan, nan, False)
        alternative = _best(_readings(autoencoder, streams, layer))
        return Check(published, alternative, _unread(autoencoder, max(streams) + 1))
    published = _read(autoencoder, streams[layer], "as published")
    if not published.fits:
        return Check(published, _best(_readings(autoencoder, streams, layer)))
    # The same few words for all layers, so that the comparison is fair.
    fvu_here = _read(autoencoder, _sample(streams[layer]), "").fvu
    elsewhere = _best(
        _read(autoencoder, _sample(stream), _place(number, layer))
        for number, stream in streams.items()
        if number != layer
    )
    # A little better is no proof: neighbors in depth are much alike.
    is_better = elsewhere is not None and elsewhere.fvu < BETTER * fvu_here
    return Check(published, elsewhere if is_better else None)


def _readings(
    autoencoder: SparseAutoencoder, streams: Mapping[int, torch.Tensor], layer: int | None
) -> Iterator[SaeReading]:
    """Yield all readings but the published one, on a sample of the words."""
    for number, stream in streams.items():
        words = _sample(stream)
        for variant_change, variant in _variants(autoencoder, words):
            # Without a change it is the published reading.
            if change := _joined(variant_change, _place(number, layer)):
                yield _read(variant, words, change)


def _best(readings: Iterable[SaeReading]) -> SaeReading | None:
    """Return the fitting reading that misses least; None where none fits."""
    fitting = [reading for reading in readings if reading.fits]
    return min(fitting, key=lambda reading: reading.fvu, default=None)


def _sample(stream: torch.Tensor) -> torch.Tensor:
    """Return some vectors, spread evenly."""
    # The step is rounded up, so that no more than SAMPLE_TOKENS are left.
    return stream[:: -(-len(stream) // SAMPLE_TOKENS)]


def _unread(autoencoder: SparseAutoencoder, depth: int) -> str:
    """Return in words why an SAE cannot be read where its files say."""
    layer, hook = autoencoder.layer, autoencoder.hook
    if layer is None:
        return "its files name no layer, and it fits none"
    if stream_layer(layer, hook) is None:
        return f"reads {hook} of layer {layer}, of which kvtool has no vectors"
    return f"reads layer {layer} of a decoder that has {depth}, and fits none"


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
    # Libraries that scale vectors bring their mean length to sqrt(d).
    scale = sqrt(autoencoder.d) / float(stream.float().norm(dim=1).mean())
    scales: list[tuple[str, dict[str, Any]]] = [("", {})]
    # Other normalizations leave no constant to guess.
    if autoencoder.normalization in ("none", "constant"):
        scales.append(
            (f"with a scale of {scale:.4g}", {"normalization": "constant", "scale": scale})
        )
        if autoencoder.scale != 1:
            scales.append(("with a scale of 1", {"normalization": "none", "scale": 1.0}))
    swaps: list[tuple[str, dict[str, Any]]] = [("", {})]
    # Only square weights leave open which axis is which.
    if autoencoder.d == autoencoder.m:
        axes = {"encoder": autoencoder.encoder.T, "decoder": autoencoder.decoder.T}
        swaps.append(("with rows and columns swapped", axes))
    is_centered = autoencoder.is_centered
    centering = "without" if is_centered else "with"
    centers: list[tuple[str, dict[str, Any]]] = [
        ("", {}),
        (f"{centering} the decoder's bias subtracted", {"is_centered": not is_centered}),
    ]
    # The first of each list changes nothing, so that the published reading comes first.
    for scale_words, scaled in scales:
        for swap_words, swapped in swaps:
            for center_words, centered in centers:
                words = ", ".join(filter(None, (scale_words, swap_words, center_words)))
                yield words, replace(autoencoder, **scaled, **swapped, **centered)


def _read(autoencoder: SparseAutoencoder, stream: torch.Tensor, change: str) -> SaeReading:
    """Return how well a reading gives a stream (token, d) back."""
    fit = measure_fit(autoencoder, stream)
    # Far more active features than published fit as little as far fewer.
    published = autoencoder.origin.published_l0
    is_sparse = published is None or published / L0_FACTOR <= fit.l0 <= published * L0_FACTOR
    return SaeReading(change, fit.fvu, fit.l0, fit.fvu <= MOST_FVU and is_sparse and fit.l0 > 0)


@dataclass(frozen=True)
class SaeFit:
    """How well an SAE gives vectors back, and how sparsely.

    Attributes:
        fvu: The squared error over the squared distance of the vectors from their mean.
        l0: The mean number of active features of a vector.
        frequencies: The share of vectors at which each feature fires, (m,).
    """

    fvu: float
    l0: float
    frequencies: torch.Tensor


def measure_fit(autoencoder: SparseAutoencoder, stream: torch.Tensor) -> SaeFit:
    """Measure an SAE on vectors (token, d), a block of tokens at a time."""
    error = spread = 0.0
    counts = torch.zeros(autoencoder.m)
    blocks = torch.split(stream, _BLOCK_TOKENS)
    # The mean first, in a pass of its own: sums of squares about 0 would cancel.
    center = sum(block.double().sum(dim=0) for block in blocks) / len(stream)
    for block in blocks:
        x = block.float()
        error += float((x - autoencoder.reconstruct(x)).double().square().sum())
        spread += float((x.double() - center).square().sum())
        counts += (autoencoder.encode(x) != 0).sum(dim=0).cpu()
    # Their sum is L0, the mean number of features that fire.
    frequencies = counts / len(stream)
    return SaeFit(error / spread if spread else float("nan"), float(frequencies.sum()), frequencies)

"""What the model loses of captions where image tokens are replaced by their reconstructions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from kvtool.errors import UsageError
from kvtool.experiments.sae.measure import DictionaryReader, Measured
from kvtool.features.residual import needed_kinds
from kvtool.features.splicing import splice_scores
from kvtool.models.splice import SplicedImage
from kvtool.progress import Progress
from kvtool.result import Row

Losses = dict[tuple[int, str, str], Row]
"""Fields by layer, SAE and condition."""


def splice_losses(measured: Measured, progress: Progress) -> Losses:
    """Return `delta_loss` and `recovered` of the image's tokens through every dictionary.

    Each image is run once for each layer and dictionary, and once for the layer's mean vector,
    before its first caption. Images whose caption has no token are left out.
    """
    subject = measured.streams.subject
    readers = list(_spliced(measured))
    plain: list[float] = []
    averaged: dict[int, list[float]] = {reader.index: [] for reader, _ in readers}
    replaced: list[list[float]] = [[] for _ in readers]
    progress(0, "splice", total=2 * len(subject))
    for position in range(len(subject)):
        progress(1, "splice")
        try:
            image = _image(measured, position)
        except UsageError as error:
            subject.skipped.append(str(error))
            continue
        # The loss with the image as it is: from here what a replacement loses is counted.
        plain.append(image.loss())
        states = measured.streams.images([position], ["image"])["image"][:, 0].float()
        for index, losses in averaged.items():
            # What is lost with the mean vector is all that could be lost: the scale of the other
            # losses.
            mean = _mean(measured, index).expand_as(states[index])
            losses.append(image.spliced_loss(measured.streams.layers[index], mean))
        # Each dictionary's reconstruction takes the place of the same image tokens.
        for losses, (reader, _) in zip(replaced, readers, strict=True):
            losses.append(image.spliced_loss(reader.layer, _decoded(reader, states)))
    return {
        (reader.layer, reader.sae, condition): _fields(
            plain, losses, averaged[reader.index], subject.seed
        )
        for losses, (reader, condition) in zip(replaced, readers, strict=True)
    }


def _spliced(measured: Measured) -> Iterator[tuple[DictionaryReader, str]]:
    """Yield dictionaries that read the image's tokens, and the condition of their row."""
    for reader in measured.readers:
        if "image" in reader.conditions:
            yield reader, reader.conditions["image"]


def _image(measured: Measured, position: int) -> SplicedImage:
    streams = measured.streams
    subject = streams.subject
    sample = subject.samples[position]
    kinds = needed_kinds(subject.run.config)
    arrays: Any = subject.run.read_image(sample.id, kinds, raw=True)
    return SplicedImage(
        streams.model,
        sample,
        arrays,
        subject.tokens(position),
        subject.captions[position][0],
        keys=subject.run.config.keys,
    )


def _mean(measured: Measured, index: int) -> torch.Tensor:
    """Return the mean vector of the image tokens of a layer, (hidden,)."""
    sums = next(
        reader.sums["image"].sums
        for reader in measured.readers
        if reader.index == index and "image" in reader.sums
    )
    # Sums are kept as offsets from a center, so that large means cost no precision.
    n_tokens = sum(map(len, sums.norms))
    return (sums.center.double() + sums.offset / max(n_tokens, 1)).float()


def _decoded(reader: DictionaryReader, states: torch.Tensor) -> torch.Tensor:
    dictionary = reader.open()
    x = states[reader.index]
    return dictionary.decode(dictionary.encode(x), x)


def _fields(plain: list[float], replaced: list[float], averaged: list[float], seed: int) -> Row:
    scores = splice_scores(*map(np.array, (plain, replaced, averaged)), seed=seed)
    return {name: value for name, value in scores._asdict().items() if np.isfinite(value)}

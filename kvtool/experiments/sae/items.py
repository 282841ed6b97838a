"""Features of a few pictures, for cards: where they fire in the image and on which words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from kvtool.autoencoders.matching import MIN_FEATURES, top_features
from kvtool.experiments.sae.matches import CaptionFeatures
from kvtool.experiments.sae.measure import DictionaryReader
from kvtool.experiments.sae.subject import CaptionedImages
from kvtool.experiments.sae.sums import ConditionSums, PictureFeatures
from kvtool.result import Row

MOST_PRESENCE = 0.5
WORDS = 5
"""So many pieces of captions stand for a feature, at most."""


def feature_items(
    reader: DictionaryReader,
    captions: CaptionFeatures,
    subject: CaptionedImages,
    pieces: Mapping[int, Sequence[str]],
    transfer: Mapping[str, float],
    descriptions: Mapping[int, str],
) -> Iterator[Row]:
    """Yield an item for each of the strongest features of each example.

    Args:
        reader: The SAE.
        captions: The features of the captions.
        subject: The images.
        pieces: The tokens of each example's captions, as text.
        transfer: The AUROC of each concept.
        descriptions: Of features, as far as known.
    """
    image, text = captions.image, captions.text
    presence = image.sums.presence.mean(axis=0)
    positions = sorted(image.examples)
    if not positions:
        return
    pooled = image.pooled.read(len(subject))[positions]
    concepts = {
        int(feature): subject.concepts[column]
        for column, feature in zip(
            reader.selection.concepts, reader.selection.features, strict=True
        )
    }
    # A card shows each picture's strongest features, whichever concepts they are of.
    for position, features in zip(positions, top_features(pooled, _shown(captions)), strict=True):
        for feature in features[features >= 0].tolist():
            concept = concepts.get(feature)
            yield {
                "layer": reader.layer,
                "sae": reader.sae,
                "image": subject.samples[position].id,
                "feature": feature,
                "description": descriptions.get(feature),
                "words": _words(text, position, feature, pieces.get(position, ())),
                "presence": float(presence[feature]),
                "concept": concept,
                "transfer": transfer.get(concept) if concept is not None else None,
                **_heat(image.examples[position], subject, position, feature),
            }


def _shown(captions: CaptionFeatures) -> np.ndarray[Any, Any]:
    """Return which features have cards, (m,) bool: those that are not dense, or, where these are
    too few, those that fire in half of the images at most."""
    if captions.eligible.sum() >= MIN_FEATURES:
        return captions.eligible
    presence = captions.image.sums.presence.mean(axis=0)
    return np.asarray((presence > 0) & (presence <= MOST_PRESENCE))


def _heat(example: PictureFeatures, subject: CaptionedImages, position: int, feature: int) -> Row:
    """Return where in the picture a feature fires; outliers are left out."""
    activations = _column(example, feature)
    return {
        "activation": float(activations.max(initial=0.0)),
        "grid": list(subject.samples[position].base().grid),
        "cells": subject.cells[position][example.usual].tolist(),
        "activations": [round(float(value), 4) for value in activations],
    }


def _words(text: ConditionSums, position: int, feature: int, pieces: Sequence[str]) -> list[str]:
    """Return the pieces of an image's captions on which a feature fires most, each once."""
    example = text.examples.get(position)
    if example is None:
        return []
    activations = _column(example, feature)
    # Outliers have no activation, and so no piece that stands for them.
    usual_pieces = [pieces[index] for index in np.flatnonzero(example.usual).tolist()]
    order = np.argsort(-activations, kind="stable")
    strongest = [usual_pieces[index].strip() for index in order if activations[index] > 0]
    return list(dict.fromkeys(strongest))[:WORDS]


def _column(example: PictureFeatures, feature: int) -> np.ndarray[Any, Any]:
    """Return one feature of an example's usual tokens, (token,)."""
    column = torch.index_select(example.features, 1, torch.tensor([feature]))
    return np.asarray(column.to_dense()[:, 0].numpy())

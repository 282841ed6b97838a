"""The text's side of a study: what captions of a training half tell of each layer.

Its mean is the common center, and features and directions are chosen on its words alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kvtool.experiments.sae.dictionaries import Dictionary
from kvtool.experiments.sae.streams import DecoderStreams, TextStream
from kvtool.experiments.sae.subject import CaptionedImages
from kvtool.features.concepts import ABSENT, PRESENT, word_threshold
from kvtool.features.transfer import choose_features, word_directions

Array = np.ndarray[Any, Any]

MOST_TOKENS = 2**14
"""So many tokens of text choose features, at most."""
MOST_NUMBERS = 2**28
"""And no more than so many numbers: tokens times features."""


@dataclass(frozen=True)
class CaptionWords:
    """The streams over captions of the training half, and which tokens are words of concepts.

    Attributes:
        states: (layer, token, hidden), in the model's precision.
        labels: For each concept that occurs, which tokens are its word, (token,) bool.
    """

    states: torch.Tensor
    labels: Mapping[str, Array]


@dataclass(frozen=True)
class LayerWords:
    """What the words tell of a layer.

    Attributes:
        states: (token, hidden) float32, without outliers.
        labels: As in CaptionWords.
        center: (hidden,), their mean.
        longest: Vectors that are longer are outliers.
        concepts: Columns of the subject's concepts that have a direction.
        directions: The direction of each, (concept, hidden).
    """

    states: torch.Tensor
    labels: Mapping[str, Array]
    center: torch.Tensor
    longest: float
    concepts: Array
    directions: torch.Tensor


@dataclass(frozen=True)
class SelectedFeatures:
    """What the words tell of a dictionary's features.

    Attributes:
        concepts: Columns of the subject's concepts that have a feature.
        features: The feature of each, (concept,).
        thresholds: Above which a token counts as the word, (concept,).
        density: The share of tokens at which each feature fires, (m,).
        l0: The mean number of active features of a token.
    """

    concepts: Array
    features: Array
    thresholds: Array
    density: Array
    l0: float


def read_words(streams: DecoderStreams) -> CaptionWords:
    """Run captions of the training half through the decoder, up to MOST_TOKENS tokens."""
    subject = streams.subject
    positions: list[int] = []
    n_tokens = 0
    # Only training images: their words are never scored.
    for position in np.flatnonzero(subject.is_training).tolist():
        n_tokens += sum(
            len(streams.language.token_ids(text)) for text in subject.captions[position]
        )
        # Whole images only, and one at least.
        if positions and n_tokens > MOST_TOKENS:
            break
        positions.append(position)
    items = list(streams.captions(positions))
    labels = np.concatenate([word_labels(streams, item) for item in items])
    is_word = {name: labels[:, i] == PRESENT for i, name in enumerate(subject.concepts)}
    return CaptionWords(
        torch.cat([item.states for item in items], dim=1),
        {concept: mask for concept, mask in is_word.items() if mask.any()},
    )


def word_labels(streams: DecoderStreams, text: TextStream) -> Array:
    """Return which tokens of a text are each concept's word, (token, concept): 1 or 0."""
    subject = streams.subject
    labels = np.full((len(text.ids), len(subject.concepts)), ABSENT, np.int8)
    # Where nothing stands before a text, its first token has no state.
    offset = len(streams.language.token_ids(text.text)) - len(text.ids)
    positions = streams.language.word_positions(text.text, subject.concepts)
    for concept, tokens in positions.items():
        rows = [token - offset for token in tokens if token >= offset]
        labels[rows, subject.concepts.index(concept)] = PRESENT
    return labels


def layer_words(
    words: CaptionWords, index: int, concepts: Sequence[str], outlier: float
) -> LayerWords:
    """Return what the words tell of the layer at an index of the streams."""
    states = words.states[index].float()
    lengths = states.norm(dim=1)
    # A few tokens have vectors many times as long, which would decide means and components.
    longest = outlier * float(lengths.median())
    usual = lengths <= longest
    states = states[usual]
    is_usual = usual.cpu().numpy()
    labels = {concept: is_word[is_usual] for concept, is_word in words.labels.items()}
    directions = word_directions(states.cpu().numpy(), labels)
    vectors = np.array(list(directions.values()), np.float32).reshape(-1, states.shape[1])
    return LayerWords(
        states=states,
        labels=labels,
        center=states.mean(dim=0),
        longest=longest,
        concepts=np.array([concepts.index(concept) for concept in directions], int),
        directions=torch.from_numpy(vectors).to(states),
    )


def select_features(
    words: LayerWords, dictionary: Dictionary, subject: CaptionedImages
) -> SelectedFeatures:
    """Choose the feature of each concept on the words alone."""
    # As many words as their features fit into memory.
    n_tokens = max(1, min(len(words.states), MOST_NUMBERS // dictionary.m))
    features = dictionary.encode(words.states[:n_tokens]).cpu().numpy()
    labels = {concept: is_word[:n_tokens] for concept, is_word in words.labels.items()}
    choice = choose_features(features, labels)
    # Thresholds are chosen on words too: no patch had a say in them.
    thresholds = [
        word_threshold(features[:, item.feature], labels[concept])
        for concept, item in choice.items()
    ]
    # How often each feature fires and how many fire on a token, as the text has it.
    is_active = features != 0
    return SelectedFeatures(
        np.array([subject.concepts.index(concept) for concept in choice], int),
        np.array([item.feature for item in choice.values()], int),
        np.array(thresholds, np.float32),
        is_active.mean(axis=0),
        float(is_active.sum(axis=1).mean()),
    )

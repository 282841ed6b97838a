"""Images that run together under all conditions, and what their tokens are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kvtool.autoencoders.words import content_tokens
from kvtool.experiments.sae.spools import Spool
from kvtool.experiments.sae.streams import DecoderStreams, TextStream
from kvtool.experiments.sae.words import word_labels
from kvtool.features.concepts import UNSURE

Array = np.ndarray[Any, Any]

TEXTS = ("text", "text-prefix")
NOISE_TOKENS = 2048
"""So many image tokens of a layer tell the mean and the covariance of its noise."""
CHUNK_BYTES = 2**30
"""So many bytes of states are in memory where SAEs have to be read again for each chunk."""


@dataclass(frozen=True)
class ConceptTokens:
    """What the tokens of a condition are: their image, and of which concepts they are.

    Attributes:
        positions: The image of each token, (token, 1).
        labels: (token, concept), as kvtool.features.concepts has them.
    """

    positions: Spool
    labels: Spool

    def append(self, position: int, labels: Array) -> None:
        """Append the tokens of an image."""
        self.positions.append(np.full((len(labels), 1), position))
        self.labels.append(labels)


@dataclass
class Notes:
    """What is noted of the tokens while they run.

    Attributes:
        truths: By "text", "text-prefix", "patches" and "partners".
        examples: Positions of images that pictures are made of.
        pieces: The tokens of their captions as text.
        samples: Of each layer some of the image's tokens, which tell its noise.
    """

    truths: dict[str, ConceptTokens]
    examples: frozenset[int]
    pieces: dict[int, list[str]] = field(default_factory=dict)
    samples: list[list[torch.Tensor]] = field(default_factory=list)

    @classmethod
    def empty(cls, streams: DecoderStreams, examples: frozenset[int], folder: Path) -> Notes:
        """Return notes of no token; what grows lies in a folder."""
        n_concepts = len(streams.subject.concepts)
        truths = {
            name: ConceptTokens(
                Spool(folder / f"{name}.positions", 1, "int64"),
                Spool(folder / f"{name}.labels", n_concepts, "int8"),
            )
            for name in (*TEXTS, "patches", "partners")
        }
        return cls(truths, examples, samples=[[] for _ in streams.layers])


@dataclass(frozen=True)
class StreamBatch:
    """Streams of images that ran together.

    Attributes:
        positions: The images.
        states: Condition -> of each image (layer, token, hidden).
        content: Of a condition of text, which tokens of all images are of words that say something.
    """

    positions: list[int]
    states: dict[str, list[torch.Tensor]]
    content: dict[str, Array]


def chunks(
    streams: DecoderStreams, conditions: Sequence[str], notes: Notes, n_batches: int | None
) -> Iterator[list[StreamBatch]]:
    """Yield batches that are in memory together: one, or as many as CHUNK_BYTES hold."""
    batches = (
        _batch(streams, positions, conditions, notes) for positions in streams.subject.batches()
    )
    while first := list(islice(batches, 1)):
        # The first batch tells how large the others will be: all conditions, layers and tokens.
        nbytes = sum(
            item.numel() * item.element_size()
            for items in first[0].states.values()
            for item in items
        )
        n_extra = (n_batches or max(1, CHUNK_BYTES // max(1, nbytes))) - 1
        yield first + list(islice(batches, n_extra))


def _batch(
    streams: DecoderStreams, positions: list[int], conditions: Sequence[str], notes: Notes
) -> StreamBatch:
    """Run images and their captions under all conditions; note what their tokens are."""
    subject = streams.subject
    batch = StreamBatch(positions, {}, {})
    # Captions of the images, and which of their tokens are words of concepts.
    for condition in TEXTS:
        if condition in conditions:
            _add_captions(streams, batch, condition, notes)
    for position in positions:
        notes.truths["patches"].append(position, subject.labels(position))
        # What the image's patches would show if they were its partner's.
        partner = int(subject.partners[position])
        notes.truths["partners"].append(position, subject.labels(position, partner))
    for condition, stream in streams.images(positions, conditions).items():
        batch.states[condition] = list(stream.unbind(1))
    _keep_samples(streams, batch, notes)
    return batch


def _add_captions(
    streams: DecoderStreams, batch: StreamBatch, condition: str, notes: Notes
) -> None:
    """Run the captions of a batch, and note which of their tokens are words of concepts."""
    subject = streams.subject
    items: dict[int, list[TextStream]] = {position: [] for position in batch.positions}
    for item in streams.captions(batch.positions, condition):
        items[item.position].append(item)
    batch.states[condition] = [_joined(streams, texts) for texts in items.values()]
    is_content = [np.empty(0, bool)]
    for position, texts in items.items():
        for text in texts:
            # The training half chose the features, and scores none of them.
            labels = word_labels(streams, text)
            notes.truths[condition].append(
                position, np.full_like(labels, UNSURE) if subject.is_training[position] else labels
            )
            tokens = content_tokens(streams.language.tokenizer, text.text)
            # Where nothing stands before a text, its first token has no state.
            is_content.append(tokens[len(tokens) - len(text.ids) :])
        # Cards show words of a few captions: only their pieces are kept.
        if condition == "text" and position in notes.examples:
            ids = [token for text in texts for token in text.ids]
            notes.pieces[position] = [streams.language.tokenizer.decode([token]) for token in ids]
    batch.content[condition] = np.concatenate(is_content)


def _joined(streams: DecoderStreams, texts: Sequence[TextStream]) -> torch.Tensor:
    """Return the states of an image's captions after each other, (layer, token, hidden)."""
    if texts:
        return torch.cat([text.states for text in texts], dim=1)
    device = streams.language.device
    return torch.empty(len(streams.layers), 0, streams.language.hidden, device=device)


def _keep_samples(streams: DecoderStreams, batch: StreamBatch, notes: Notes) -> None:
    """Keep a few of the images' tokens, from all over, as a sample of each layer."""
    n_images = len(streams.subject)
    # A fixed number of tokens in all: some of each image, or one of every few images.
    per_image = -(-NOISE_TOKENS // n_images)
    image_step = -(-n_images // NOISE_TOKENS)
    for position, states in zip(batch.positions, batch.states["image"], strict=True):
        if position % image_step == 0:
            token_step = max(1, states.shape[1] // per_image)
            for samples, tokens in zip(notes.samples, states[:, ::token_step], strict=True):
                samples.append(tokens[:per_image].clone())

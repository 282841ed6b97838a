"""The residual stream under each condition: what stands at the image's place, run through the
decoder."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kvtool.experiments.sae.subject import CaptionedImages
from kvtool.features.residual import image_streams
from kvtool.models.device import DTYPES, from_numpy
from kvtool.models.hidden import prompt_states
from kvtool.models.language import Language
from kvtool.types import Kind, Sample

Array = np.ndarray[Any, Any]

INPUT_IMAGES = 256
"""So many images tell what the projector's vectors are like."""
UNTRAINED_KINDS: tuple[Kind, ...] = ("projected", "vision")
"""What a random map in place of the projector is made of; other conditions need the first alone."""
REPLACED = ("shuffled", "random", "random-norm", "untrained")
"""Conditions that put other vectors at the image's place."""


@dataclass(frozen=True)
class Inputs:
    """What the projector's vectors are like, and the random map that stands for an untrained one.

    Attributes:
        mean: (hidden,) of the vectors that enter the decoder at image tokens; deviation: of each
            channel.
        weight: (hidden, vision), of a linear layer as it is before training, scaled so that its
            vectors are as long on average; bias: (hidden,). None where no vision features serve.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None


@dataclass(frozen=True)
class TextStream:
    """The stream over one caption of an image.

    Attributes:
        position: The image's place in the subject.
        text: The caption.
        ids: Its token ids that have a state, (token,).
        states: (layer, token, hidden).
    """

    position: int
    text: str
    ids: list[int]
    states: torch.Tensor


@dataclass(frozen=True)
class DecoderStreams:
    """Runs the decoder under the conditions.

    Attributes:
        subject: The images and captions.
        model: The run's model.
        language: Its decoder as a reader of text.
        layers: Of the decoder, whose outputs are wanted.
        inputs: See Inputs.
    """

    subject: CaptionedImages
    model: Any
    language: Language
    layers: tuple[int, ...]
    inputs: Inputs

    def captions(self, positions: Sequence[int], condition: str = "text") -> Iterator[TextStream]:
        """Yield the stream over the captions of images, alone (`text`) or at the image's place
        (`text-prefix`)."""
        for prefix, group in self._by_prefix(positions, condition).items():
            texts = [
                (position, text) for position in group for text in self.subject.captions[position]
            ]
            sentences = [text for _, text in texts]
            for item in self.language.text_states(sentences, self.layers, prefix):
                yield TextStream(*texts[item.index], item.ids, item.states)

    def images(
        self, positions: Sequence[int], conditions: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        """Return the stream at the chosen tokens of images that can run together, by condition:
        (layer, image, n, hidden)."""
        streams = {}
        if "image" in conditions:
            streams["image"] = self._stored(positions)
        # Replaced inputs run through the decoder anew: what is stored is of the image alone.
        if replaced := [name for name in REPLACED if name in conditions]:
            samples = [self.subject.samples[position] for position in positions]
            kinds = UNTRAINED_KINDS if "untrained" in conditions else UNTRAINED_KINDS[:1]
            arrays = [self.subject.run.read_image(item.id, kinds, raw=True) for item in samples]
            for condition in replaced:
                vectors, tokens = self._replaced(condition, positions, arrays)
                streams[condition] = prompt_states(
                    self.model, samples, vectors, tokens, self.layers
                )
        return streams

    def _stored(self, positions: Sequence[int]) -> torch.Tensor:
        """Return the stream at image tokens as the run holds it, or as it follows from that."""
        subject = self.subject
        tokens = {subject.samples[position].id: subject.tokens(position) for position in positions}
        streams = image_streams(subject.run, self.layers, tokens, self.model)
        return torch.stack([stream.states for stream in streams], dim=1)

    def _by_prefix(
        self, positions: Sequence[int], condition: str
    ) -> Mapping[tuple[int, ...] | None, list[int]]:
        """Group images by the token ids before their captions; None is how the chat opens."""
        groups: dict[tuple[int, ...] | None, list[int]] = {}
        for position in positions:
            ids = self.subject.samples[position].prefix_ids if condition == "text-prefix" else None
            groups.setdefault(ids, []).append(position)
        return groups

    def _replaced(
        self,
        condition: str,
        positions: Sequence[int],
        arrays: Sequence[Mapping[str, Array]],
    ) -> tuple[torch.Tensor, Array]:
        """Return what enters the decoder (image, token, hidden), and the tokens to look at, (image,
        n)."""
        dtype = DTYPES[self.subject.run.config.model.dtype]
        # Shuffled vectors move: the tokens to look at move with them.
        scored = np.stack([self.subject.tokens(position) for position in positions])
        rows = []
        for row, (position, stored) in enumerate(zip(positions, arrays, strict=True)):
            vectors = from_numpy(stored["projected"][0, 0], dtype).float()
            # A stream of its own for each image and condition: others change nothing of it.
            generator = _generator(self.subject.seed, condition, position)
            if condition == "shuffled":
                vectors, scored[row] = self._shuffled(position, vectors, generator)
            elif condition == "untrained":
                vision = from_numpy(stored["vision"][-1, 0], dtype).float()
                vectors = untrained(self.subject.samples[position], vectors, vision, self.inputs)
            else:
                vectors = self._gaussian(condition, vectors, generator)
            rows.append(vectors)
        return torch.stack(rows), scored

    def _shuffled(
        self, position: int, vectors: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, Array]:
        """Permute an image's patches; return also where those that are read went."""
        patches = torch.tensor(self.subject.samples[position].base().token_indices())
        # Patches change places, other tokens stay: the contents are the same, their places random.
        order = torch.randperm(len(patches), generator=generator)
        shuffled = vectors.clone()
        shuffled[patches[order]] = vectors[patches]
        moved = patches[order].numpy()
        return shuffled, moved[self.subject.cells[position]]

    def _gaussian(
        self, condition: str, vectors: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        noise: torch.Tensor = torch.randn(vectors.shape, generator=generator)
        if condition == "random":
            return self.inputs.mean + self.inputs.deviation * noise
        # Directions are random, lengths are those of the image's own vectors.
        lengths = vectors.norm(dim=1, keepdim=True)
        random_vectors: torch.Tensor = noise / noise.norm(dim=1, keepdim=True) * lengths
        return random_vectors


def read_inputs(subject: CaptionedImages, wants_untrained: bool) -> Inputs:
    """Return what the projector's vectors are like, of up to INPUT_IMAGES images from all over."""
    run = subject.run
    dtype = DTYPES[run.config.model.dtype]
    step = max(1, len(subject) // INPUT_IMAGES)
    samples = subject.samples[::step][:INPUT_IMAGES]
    kinds = UNTRAINED_KINDS if wants_untrained else UNTRAINED_KINDS[:1]
    vectors = []
    features = []
    for sample in samples:
        stored = run.read_image(sample.id, kinds, raw=True)
        vectors.append(from_numpy(stored["projected"][0, 0], dtype).float())
        if wants_untrained:
            features.append(from_numpy(stored["vision"][-1, 0], dtype).float())
    # Controls have the mean and spread that the projector's vectors have.
    joined = torch.cat(vectors)
    inputs = Inputs(joined.mean(dim=0), joined.std(dim=0))
    if not wants_untrained:
        return inputs
    vision = torch.cat(features)
    generator = torch.Generator().manual_seed(subject.seed)
    # A linear layer before training, as torch makes it: uniform within 1 / sqrt(inputs).
    bound = vision.shape[1] ** -0.5
    weight = (torch.rand(joined.shape[1], vision.shape[1], generator=generator) * 2 - 1) * bound
    bias = (torch.rand(joined.shape[1], generator=generator) * 2 - 1) * bound
    mapped = torch.cat(
        [
            untrained(sample, projected, seen, Inputs(inputs.mean, inputs.deviation, weight, bias))
            for sample, projected, seen in zip(samples, vectors, features, strict=True)
        ]
    )
    # Mapped vectors get the mean length of real ones: the decoder would see length alone.
    factor = joined.norm(dim=1).mean() / mapped.norm(dim=1).mean()
    return Inputs(inputs.mean, inputs.deviation, weight * factor, bias * factor)


def untrained(
    sample: Sample, projected: torch.Tensor, vision: torch.Tensor, inputs: Inputs
) -> torch.Tensor:
    """Return vision features through the random map in place of the projector's vectors (token,
    hidden); tokens that are no patches stay. Patches that share a token are averaged first."""
    assert inputs.weight is not None
    assert inputs.bias is not None
    vectors = projected.clone()
    for span, fine in zip(sample.spans, sample.vision_spans, strict=True):
        (rows, cols), (fine_rows, fine_cols) = span.grid, fine.grid
        # Patches of the tower that one token stands for are a block of the finer grid.
        patches = vision[fine.token_indices()]
        blocks = patches.reshape(rows, fine_rows // rows, cols, fine_cols // cols, -1)
        features = blocks.mean(dim=(1, 3)).flatten(0, 1)
        vectors[span.token_indices()] = features @ inputs.weight.T + inputs.bias
    return vectors


def _generator(seed: int, condition: str, position: int) -> torch.Generator:
    """Return a generator of one image's own, so that batches change nothing."""
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {condition} {position}".encode()))

"""A study with a planted truth, without a model: text and image tokens of the same sparse codes,
the image's turned away from the text's in chosen layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kvtool.autoencoders.activations import JumpReLU
from kvtool.autoencoders.autoencoder import Origin, SparseAutoencoder
from kvtool.experiments.sae.autoencoders import LayerSae, Shelf, layer_saes
from kvtool.experiments.sae.describing import make_describing
from kvtool.experiments.sae.measure import measure
from kvtool.experiments.sae.rows import RowMaker, Scores
from kvtool.experiments.sae.settings import DescribedBy, Filters
from kvtool.experiments.sae.sources import find_sources
from kvtool.experiments.sae.streams import TextStream
from kvtool.experiments.sae.subject import CaptionedImages
from kvtool.experiments.sae.words import read_words
from kvtool.progress import silent
from kvtool.types import GridSpan, Sample

D = 32
GRID = (4, 4)
N_TOKENS = GRID[0] * GRID[1]
CONCEPTS = ("crab", "bird", "lamp", "kite", "fish", "tree", "boat", "bell")
"""Concept c is direction c; other directions say nothing."""
VOCABULARY = (*CONCEPTS, *(f"f{letter}" for letter in "abcdefghijklmnopqrst"))
ACTIVE = 3
N_LAYERS = 4
N_UNKNOWN = 4
"""So many of the other directions are not in the dictionary."""


def dictionary(layer: int, threshold: float = 0.5) -> SparseAutoencoder:
    """An SAE whose features are the axes, but for the last N_UNKNOWN."""
    axes = torch.eye(D)[:, : D - N_UNKNOWN]
    return SparseAutoencoder(
        axes,
        torch.zeros(D - N_UNKNOWN),
        axes.T.contiguous(),
        torch.zeros(D),
        JumpReLU(torch.tensor(threshold)),
        Origin("planted", f"layer_{layer}", layer=layer),
    )


@dataclass(frozen=True)
class Words:
    """A tokenizer and a language of one token a word."""

    hidden: int = D
    device: str = "cpu"

    @property
    def tokenizer(self) -> Any:
        return self

    def __call__(self, text: str, **_options: Any) -> Any:
        words = text.split()
        ends = np.cumsum([len(word) + 1 for word in words])
        spans = [
            (int(end) - len(word) - 1, int(end) - 1) for word, end in zip(words, ends, strict=False)
        ]
        return type("Encoded", (), {"offset_mapping": spans, "input_ids": self.token_ids(text)})

    def token_ids(self, text: str) -> list[int]:
        return [VOCABULARY.index(word) for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(VOCABULARY[number] for number in ids)

    def word_positions(self, text: str, words: Sequence[str]) -> dict[str, list[int]]:
        tokens = text.split()
        return {
            word: [index for index, token in enumerate(tokens) if token == word]
            for word in words
            if word in tokens
        }


class World:
    """Images of 16 patches: two concepts each, and captions that name them.

    Attributes:
        patch_concepts: The concept of each patch, (image, token); -1 for none.
    """

    def __init__(self, n_images: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.root = None
        self.name = "planted"
        self.patch_concepts = np.full((n_images, N_TOKENS), -1)
        captions = []
        for image in range(n_images):
            first, second = self.rng.choice(len(CONCEPTS), 2, replace=False)
            patches = self.rng.permutation(N_TOKENS)
            self.patch_concepts[image, patches[:4]] = first
            self.patch_concepts[image, patches[4:8]] = second
            fillers = [VOCABULARY[number] for number in self.rng.integers(8, 28, 6)]
            words = self.rng.permutation([CONCEPTS[first], CONCEPTS[second], *fillers])
            captions.append((" ".join(words),))
        self.all_captions = captions

    def concept_masks(self, image: str) -> dict[str, Any]:
        concepts = self.patch_concepts[int(image)].reshape(GRID)
        return {word: (concepts == number).astype(np.uint8) for number, word in enumerate(CONCEPTS)}

    def codes(self, concept: int) -> Any:
        """A token's codes, (D,): a concept's, if any, and others up to ACTIVE."""
        codes = np.zeros(D, np.float32)
        remainder = self.rng.choice(
            np.arange(len(CONCEPTS), D), ACTIVE - (concept >= 0), replace=False
        )
        codes[remainder] = self.rng.uniform(1, 2, len(remainder))
        if concept >= 0:
            codes[concept] = self.rng.uniform(1, 2)
        return codes


@dataclass
class PlantedStreams:
    """Streams of the codes: of text as they are, of images scaled, and turned before `aligned`.

    Attributes:
        aligned: The first layer whose image tokens have the text's directions; N_LAYERS for none.
        scale: The length of image tokens, over the text's.
    """

    subject: CaptionedImages
    world: World
    aligned: int
    scale: float = 1.0
    layers: tuple[int, ...] = tuple(range(N_LAYERS))
    language: Any = Words()

    def __post_init__(self) -> None:
        self.text_codes = [
            np.stack(
                [
                    self.world.codes(CONCEPTS.index(word) if word in CONCEPTS else -1)
                    for word in caption.split()
                ]
            )
            for (caption,) in self.world.all_captions
        ]
        self.image_codes = [
            np.stack([self.world.codes(int(concept)) for concept in concepts])
            for concepts in self.world.patch_concepts
        ]

    def captions(self, positions: Sequence[int], _condition: str = "text") -> Iterator[TextStream]:
        for position in positions:
            (text,) = self.subject.captions[position]
            states = torch.from_numpy(self.text_codes[position]).expand(len(self.layers), -1, -1)
            yield TextStream(position, text, self.language.token_ids(text), states)

    def images(
        self, positions: Sequence[int], conditions: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        codes = torch.from_numpy(np.stack([self.image_codes[position] for position in positions]))
        # A turn by 90 degrees in the planes of two axes each: no direction keeps its meaning.
        turned = torch.roll(codes, D // 2, dims=-1)
        states = [turned if layer < self.aligned else codes for layer in self.layers]
        streams = {"image": self.scale * torch.stack(states)}
        if "random" in conditions:
            streams["random"] = torch.randn(streams["image"].shape)
        return streams


def planted_subject(world: World, seed: int = 0) -> CaptionedImages:
    n_images = len(world.patch_concepts)
    rows, cols = GRID
    span = GridSpan("base", 0, GRID, cols, (0.0, 0.0, float(cols), float(rows)))
    samples = tuple(
        Sample(str(i), i, (cols, rows), N_TOKENS, (span,), 0, (), "", (1,), 1, 1 + N_TOKENS)
        for i in range(n_images)
    )
    run: Any = type("PlantedRun", (), {"name": "planted"})
    is_training = np.zeros(n_images, bool)
    is_training[::2] = True
    return CaptionedImages(
        run,
        samples,
        tuple(world.all_captions),
        CONCEPTS,
        tuple(np.arange(N_TOKENS) for _ in samples),
        np.roll(np.arange(n_images), 1),
        is_training,
        seed,
        world,
    )


def planted_streams(aligned: int = 2, scale: float = 1.0, n_images: int = 60) -> PlantedStreams:
    world = World(n_images, seed=0)
    return PlantedStreams(planted_subject(world), world, aligned, scale)


def planted_scores(
    folder: Path,
    *,
    aligned: int = 2,
    scale: float = 1.0,
    n_images: int = 60,
    conditions: tuple[str, ...] = ("text", "image", "other-image"),
    saes: Sequence[SparseAutoencoder] | None = None,
    threshold: float = 0.5,
    outlier: float = 1e6,
    described_by: DescribedBy | None = None,
) -> Scores:
    """The rows of a planted study."""
    streams: Any = planted_streams(aligned, scale, n_images)
    sources = [dictionary(layer, threshold) for layer in range(N_LAYERS)] if saes is None else saes
    layer_sources = find_sources(list(sources), range(N_LAYERS))
    entries: list[LayerSae] = layer_saes(layer_sources, D, range(N_LAYERS))[0]
    folder.mkdir(parents=True, exist_ok=True)
    measured = measure(
        streams,
        read_words(streams),
        entries,
        Shelf(torch.device("cpu")),
        conditions,
        outlier,
        folder,
        silent,
    )
    by = described_by or DescribedBy()
    describing = make_describing(by, by.read(), streams.language, "cpu", 0)
    return RowMaker(measured, Filters(0.5, 0.5), describing).scores(conditions)

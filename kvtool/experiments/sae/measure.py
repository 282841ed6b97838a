"""One pass over the store for all layers: every condition through every dictionary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kvtool.experiments.sae.autoencoders import LayerSae, Shelf
from kvtool.experiments.sae.batches import TEXTS, Notes, StreamBatch, chunks
from kvtool.experiments.sae.dictionaries import (
    Dictionary,
    TurnedSae,
    principal_axes,
    random_rotation,
)
from kvtool.experiments.sae.spools import Spool
from kvtool.experiments.sae.streams import REPLACED, DecoderStreams
from kvtool.experiments.sae.sums import ConditionSums, DirectionSums, TokenRun
from kvtool.experiments.sae.words import (
    CaptionWords,
    LayerWords,
    SelectedFeatures,
    layer_words,
    select_features,
)
from kvtool.progress import Progress
from kvtool.tasks.spread import spread

Array = np.ndarray[Any, Any]

EXAMPLES = 4
"""So many pictures have cards."""


@dataclass(frozen=True)
class DictionaryReader:
    """A dictionary of a layer, and the streams that it reads.

    Attributes:
        index: Of the layer among those of the streams.
        layer: The decoder's layer.
        sae: The SAE's name.
        open: Returns the dictionary.
        conditions: Stream -> the condition of the row.
        selection: What words tell of its features.
        sums: By condition.
    """

    index: int
    layer: int
    sae: str
    open: Callable[[], Dictionary]
    conditions: Mapping[str, str]
    selection: SelectedFeatures
    sums: dict[str, ConditionSums]


@dataclass
class Measured:
    """All that rows are made of.

    Attributes:
        streams: The streams.
        readers: Dictionaries with their sums.
        words: Of each layer.
        directions: By index of the layer and condition.
        notes: What the tokens are.
    """

    streams: DecoderStreams
    readers: list[DictionaryReader]
    words: list[LayerWords]
    directions: dict[tuple[int, str], DirectionSums]
    notes: Notes


def measure(
    streams: DecoderStreams,
    words: CaptionWords,
    entries: Sequence[LayerSae],
    shelf: Shelf,
    conditions: Sequence[str],
    outlier: float,
    folder: Path,
    progress: Progress,
) -> Measured:
    """Run every condition through every dictionary; numbers that grow lie in a folder."""
    subject = streams.subject
    # The text's side comes first: features are chosen on words alone, before any image is read.
    texts = [
        layer_words(words, index, subject.concepts, outlier) for index in range(len(streams.layers))
    ]
    readers = [
        reader
        for entry in entries
        for reader in _readers(entry, streams, texts, shelf, conditions, folder)
    ]
    examples = frozenset(spread(range(len(subject)), EXAMPLES))
    measured = Measured(streams, readers, texts, {}, Notes.empty(streams, examples, folder))
    # SAEs that all fit into memory are at hand for each batch; others are read again for each
    # chunk, which then has to be large.
    n_batches = 1 if shelf.holds(entries) else None
    progress(0, "", total=len(subject))
    # A layer at a time within a chunk: only its dictionaries are in use.
    for chunk in chunks(streams, conditions, measured.notes, n_batches):
        for index in range(len(streams.layers)):
            _add_directions(measured, chunk, index, folder)
            for reader in readers:
                if reader.index == index:
                    _add_features(reader, chunk, texts[index].longest, examples)
        progress(sum(len(batch.positions) for batch in chunk))
    if "noise-residual" in conditions:
        _add_noise(measured)
    return measured


def _readers(
    entry: LayerSae,
    streams: DecoderStreams,
    texts: Sequence[LayerWords],
    shelf: Shelf,
    conditions: Sequence[str],
    folder: Path,
) -> Iterator[DictionaryReader]:
    """Yield the dictionaries of an SAE: itself, turned at random, and the text's components."""
    subject = streams.subject
    index = streams.layers.index(entry.layer)
    text = texts[index]

    def reader(
        open_dictionary: Callable[[], Dictionary], conditions: Mapping[str, str]
    ) -> DictionaryReader:
        """Return a reader with features chosen and nothing added."""
        dictionary = open_dictionary()
        selection = select_features(text, dictionary, subject)
        sums = {}
        for condition in conditions.values():
            path = folder / f"{entry.layer}-{entry.digest}-{condition}"
            n_concepts = len(selection.concepts)
            sums[condition] = ConditionSums.empty(
                len(subject), dictionary.m, n_concepts, text.center, path
            )
        return DictionaryReader(
            index, entry.layer, entry.name, open_dictionary, conditions, selection, sums
        )

    plain = reader(
        lambda: shelf.get(entry),
        {
            name: name
            for name in (*TEXTS, "image", *REPLACED, "noise-residual")
            if name in conditions
        },
    )
    yield plain
    if "random-sae" in conditions:
        # A random rotation keeps lengths and angles but no direction: what remains is chance.
        d = text.center.shape[0]
        rotation = random_rotation(d, subject.seed, text.center.device)
        turned = lambda: TurnedSae(shelf.get(entry), rotation, text.center)  # noqa: E731
        yield reader(turned, {"image": "random-sae"})
    if "pca" in conditions:
        # As many components as features fire on a token of text: an equally sparse description.
        axes = principal_axes(text.states, round(plain.selection.l0))
        yield reader(lambda: axes, {"image": "pca"})


def _add_directions(
    measured: Measured, chunk: Sequence[StreamBatch], index: int, folder: Path
) -> None:
    words = measured.words[index]
    for batch in chunk:
        for condition, states in batch.states.items():
            # Tokens longer than the longest usual one of text are left out, as in the text.
            tokens = TokenRun.of(batch.positions, [item[index] for item in states], words.longest)
            sums = measured.directions.get((index, condition))
            if sums is None:
                path = folder / f"{index}-{condition}.directions"
                n_images = len(measured.streams.subject)
                sums = DirectionSums(Spool(path, len(words.concepts)), np.zeros(n_images, int))
                measured.directions[index, condition] = sums
            sums.add(tokens, words.directions)


def _add_features(
    reader: DictionaryReader, chunk: Sequence[StreamBatch], longest: float, examples: frozenset[int]
) -> None:
    dictionary = reader.open()
    for batch in chunk:
        for stream, condition in reader.conditions.items():
            if stream in batch.states:
                states = [item[reader.index] for item in batch.states[stream]]
                tokens = TokenRun.of(batch.positions, states, longest, batch.content.get(stream))
                # Pictures show the image's features, and the words of the text's.
                card_examples = examples if condition in ("text", "image") else frozenset[int]()
                reader.sums[condition].add(
                    tokens, dictionary, reader.selection.features, card_examples
                )


def _add_noise(measured: Measured) -> None:
    """Read Gaussian vectors with the mean and covariance of the image tokens of each layer."""
    subject = measured.streams.subject
    for reader in measured.readers:
        sums = reader.sums.get("noise-residual")
        if sums is None:
            continue
        dictionary = reader.open()
        # Noise of their mean and covariance shows what these two alone explain.
        sample = torch.cat(measured.notes.samples[reader.index]).float()
        mean = sample.mean(dim=0)
        centered = (sample - mean) / (len(sample) - 1) ** 0.5
        # One stream of noise over the images: each has as many vectors as its tokens.
        generator = torch.Generator().manual_seed(subject.seed)
        for positions in subject.batches():
            counts = [len(subject.cells[position]) for position in positions]
            noise = torch.randn(sum(counts), len(sample), generator=generator).to(sample)
            # Sums of the sample's deviations have its covariance.
            states = (mean + noise @ centered).split(counts)
            tokens = TokenRun.of(positions, states, float("inf"))
            sums.add(tokens, dictionary, reader.selection.features)

"""One pass over the store for all layers: every condition through every dictionary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kvtool.experiments.sae.autoencoders import LayerSae, Shelf
from kvtool.experiments.sae.dictionaries import (
    Dictionary,
    TurnedSae,
    principal_axes,
    random_rotation,
)
from kvtool.experiments.sae.spools import Spool
from kvtool.experiments.sae.streams import REPLACED, Streams, TextStream
from kvtool.experiments.sae.sums import ConditionSums, DirectionSums, TokenRun
from kvtool.experiments.sae.words import (
    ChosenWords,
    LayerWords,
    Words,
    choose_words,
    layer_words,
    word_labels,
)
from kvtool.features.concepts import UNSURE
from kvtool.progress import Progress
from kvtool.sae.words import content_tokens
from kvtool.tasks.spread import spread

Array = np.ndarray[Any, Any]

TEXTS = ("text", "text-prefix")
NOISE_TOKENS = 2048
"""So many image tokens of a layer tell the mean and the covariance of its noise."""
EXAMPLES = 4
"""So many pictures have cards."""
CHUNK_BYTES = 2**30
"""So many bytes of states are in memory where SAEs have to be read again for each chunk."""


@dataclass(frozen=True)
class Reader:
    """A dictionary of a layer, and the streams that it reads.

    Attributes:
        index: Of the layer among those of the streams.
        layer: The decoder's layer.
        sae: The SAE's name.
        open: Returns the dictionary.
        conditions: Stream -> the condition of the row.
        chosen: What words tell of its features.
        sums: By condition.
    """

    index: int
    layer: int
    sae: str
    open: Callable[[], Dictionary]
    conditions: Mapping[str, str]
    chosen: ChosenWords
    sums: dict[str, ConditionSums]


@dataclass(frozen=True)
class Truth:
    """What the tokens of a condition are: their image, and of which concepts they are.

    Attributes:
        places: The image of each token, (token, 1).
        labels: (token, concept), as kvtool.features.concepts has them.
    """

    places: Spool
    labels: Spool

    def append(self, place: int, labels: Array) -> None:
        """Append the tokens of an image."""
        self.places.append(np.full((len(labels), 1), place))
        self.labels.append(labels)


@dataclass
class Measured:
    """All that rows are made of.

    Attributes:
        streams: The streams.
        readers: Dictionaries with their sums.
        words: Of each layer.
        directions: By index of the layer and condition.
        truths: By "text", "text-prefix", "patches" and "partners".
        examples: Places of images that pictures are made of.
        pieces: The tokens of their captions as text.
        noise: Of each layer, a sample of the image's tokens.
    """

    streams: Streams
    readers: list[Reader]
    words: list[LayerWords]
    directions: dict[tuple[int, str], DirectionSums]
    truths: dict[str, Truth]
    examples: frozenset[int]
    pieces: dict[int, list[str]] = field(default_factory=dict)
    noise: list[list[torch.Tensor]] = field(default_factory=list)


@dataclass(frozen=True)
class _Batch:
    """Streams of images that ran together.

    Attributes:
        places: The images.
        states: Condition -> of each image (layer, token, hidden).
        content: Of a condition of text, which tokens of all images are of words that say something.
    """

    places: list[int]
    states: dict[str, list[torch.Tensor]]
    content: dict[str, Array]


def measure(
    streams: Streams,
    words: Words,
    entries: Sequence[LayerSae],
    shelf: Shelf,
    conditions: Sequence[str],
    outlier: float,
    folder: Path,
    progress: Progress,
) -> Measured:
    """Run every condition through every dictionary; numbers that grow lie in a folder."""
    subject = streams.subject
    texts = [
        layer_words(words, index, subject.concepts, outlier)
        for index in range(len(streams.layers))
    ]
    readers = [
        reader
        for entry in entries
        for reader in _readers(entry, streams, texts, shelf, conditions, folder)
    ]
    examples = frozenset(spread(range(len(subject)), EXAMPLES))
    truths = _truths(len(subject.concepts), folder)
    measured = Measured(streams, readers, texts, {}, truths, examples)
    measured.noise = [[] for _ in streams.layers]
    n_batches = 1 if shelf.holds(entries) else None
    progress(0, "", total=len(subject))
    for chunk in _chunks(streams, conditions, measured, n_batches):
        for index in range(len(streams.layers)):
            _add_directions(measured, chunk, index, folder)
            for reader in readers:
                if reader.index == index:
                    _add_features(reader, chunk, texts[index].longest, examples)
        progress(sum(len(batch.places) for batch in chunk))
    if "noise-residual" in conditions:
        _add_noise(measured)
    return measured


def _readers(
    entry: LayerSae,
    streams: Streams,
    texts: Sequence[LayerWords],
    shelf: Shelf,
    conditions: Sequence[str],
    folder: Path,
) -> Iterator[Reader]:
    """Yield the dictionaries of an SAE: itself, turned at random, and the text's components."""
    subject = streams.subject
    index = streams.layers.index(entry.layer)
    text = texts[index]

    def reader(
        open_dictionary: Callable[[], Dictionary], conditions: Mapping[str, str]
    ) -> Reader:
        """Return a reader with features chosen and nothing added."""
        dictionary = open_dictionary()
        chosen = choose_words(text, dictionary, subject)
        sums = {}
        for condition in conditions.values():
            path = folder / f"{entry.layer}-{entry.digest}-{condition}"
            n_concepts = len(chosen.concepts)
            sums[condition] = ConditionSums.empty(
                len(subject), dictionary.m, n_concepts, text.center, path
            )
        return Reader(
            index, entry.layer, entry.name, open_dictionary, conditions, chosen, sums
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
        d = text.center.shape[0]
        rotation = random_rotation(d, subject.seed, text.center.device)
        turned = lambda: TurnedSae(shelf.get(entry), rotation, text.center)  # noqa: E731
        yield reader(turned, {"image": "random-sae"})
    if "pca" in conditions:
        axes = principal_axes(text.states, round(plain.chosen.l0))
        yield reader(lambda: axes, {"image": "pca"})


def _truths(n_concepts: int, folder: Path) -> dict[str, Truth]:
    return {
        name: Truth(
            Spool(folder / f"{name}.places", 1, "int64"),
            Spool(folder / f"{name}.labels", n_concepts, "int8"),
        )
        for name in (*TEXTS, "patches", "partners")
    }


def _chunks(
    streams: Streams, conditions: Sequence[str], measured: Measured, n_batches: int | None
) -> Iterator[list[_Batch]]:
    """Yield batches that are in memory together: one, or as many as CHUNK_BYTES hold."""
    batches = (
        _batch(streams, places, conditions, measured) for places in streams.subject.batches()
    )
    while first := list(islice(batches, 1)):
        nbytes = sum(
            item.numel() * item.element_size()
            for items in first[0].states.values()
            for item in items
        )
        more = (n_batches or max(1, CHUNK_BYTES // max(1, nbytes))) - 1
        yield first + list(islice(batches, more))


def _batch(
    streams: Streams, places: list[int], conditions: Sequence[str], measured: Measured
) -> _Batch:
    """Run images and their captions under all conditions; note what their tokens are."""
    subject = streams.subject
    batch = _Batch(places, {}, {})
    for condition in TEXTS:
        if condition in conditions:
            _add_captions(streams, batch, condition, measured)
    for place in places:
        measured.truths["patches"].append(place, subject.labels(place))
        partner = int(subject.partners[place])
        measured.truths["partners"].append(place, subject.labels(place, partner))
    for condition, stream in streams.images(places, conditions).items():
        batch.states[condition] = list(stream.unbind(1))
    _keep_noise(streams, batch.states["image"], measured)
    return batch


def _add_captions(streams: Streams, batch: _Batch, condition: str, measured: Measured) -> None:
    """Run the captions of a batch, and note which of their tokens are words of concepts."""
    subject = streams.subject
    items: dict[int, list[TextStream]] = {place: [] for place in batch.places}
    for item in streams.captions(batch.places, condition):
        items[item.place].append(item)
    batch.states[condition] = [_joined(streams, texts) for texts in items.values()]
    is_content = [np.empty(0, bool)]
    for place, texts in items.items():
        for text in texts:
            # The training half chose the features, and scores none of them.
            labels = word_labels(streams, text)
            measured.truths[condition].append(
                place, np.full_like(labels, UNSURE) if subject.is_training[place] else labels
            )
            tokens = content_tokens(streams.language.tokenizer, text.text)
            # Where nothing stands before a text, its first token has no state.
            is_content.append(tokens[len(tokens) - len(text.ids) :])
        if condition == "text" and place in measured.examples:
            ids = [token for text in texts for token in text.ids]
            measured.pieces[place] = [streams.language.tokenizer.decode([token]) for token in ids]
    batch.content[condition] = np.concatenate(is_content)


def _joined(streams: Streams, texts: Sequence[TextStream]) -> torch.Tensor:
    """Return the states of an image's captions after each other, (layer, token, hidden)."""
    if texts:
        return torch.cat([text.states for text in texts], dim=1)
    device = streams.language.device
    return torch.empty(len(streams.layers), 0, streams.language.hidden, device=device)


def _keep_noise(
    streams: Streams, images: Sequence[torch.Tensor], measured: Measured
) -> None:
    """Keep a few tokens of each image, from all over, as a sample of each layer."""
    per_image = -(-NOISE_TOKENS // len(streams.subject))
    for states in images:
        step = max(1, states.shape[1] // per_image)
        for kept_states, layer_states in zip(measured.noise, states[:, ::step], strict=True):
            kept_states.append(layer_states[:per_image].clone())


def _add_directions(
    measured: Measured, chunk: Sequence[_Batch], index: int, folder: Path
) -> None:
    words = measured.words[index]
    for batch in chunk:
        for condition, states in batch.states.items():
            tokens = TokenRun.of(batch.places, [item[index] for item in states], words.longest)
            sums = measured.directions.get((index, condition))
            if sums is None:
                path = folder / f"{index}-{condition}.directions"
                n_images = len(measured.streams.subject)
                sums = DirectionSums(Spool(path, len(words.concepts)), np.zeros(n_images, int))
                measured.directions[index, condition] = sums
            sums.add(tokens, words.directions)


def _add_features(
    reader: Reader, chunk: Sequence[_Batch], longest: float, examples: frozenset[int]
) -> None:
    dictionary = reader.open()
    for batch in chunk:
        for stream, condition in reader.conditions.items():
            if stream in batch.states:
                states = [item[reader.index] for item in batch.states[stream]]
                tokens = TokenRun.of(batch.places, states, longest, batch.content.get(stream))
                # Pictures show the image's features, and the words of the text's.
                shown = examples if condition in ("text", "image") else frozenset[int]()
                reader.sums[condition].add(tokens, dictionary, reader.chosen.features, shown)


def _add_noise(measured: Measured) -> None:
    """Read Gaussian vectors with the mean and covariance of the image tokens of each layer."""
    subject = measured.streams.subject
    for reader in measured.readers:
        sums = reader.sums.get("noise-residual")
        if sums is None:
            continue
        dictionary = reader.open()
        sample = torch.cat(measured.noise[reader.index]).float()
        mean = sample.mean(dim=0)
        centered = (sample - mean) / (len(sample) - 1) ** 0.5
        generator = torch.Generator().manual_seed(subject.seed)
        for places in subject.batches():
            counts = [len(subject.cells[place]) for place in places]
            noise = torch.randn(sum(counts), len(sample), generator=generator).to(sample)
            # Sums of the sample's deviations have its covariance.
            states = (mean + noise @ centered).split(counts)
            tokens = TokenRun.of(places, states, float("inf"))
            sums.add(tokens, dictionary, reader.chosen.features)

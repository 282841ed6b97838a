"""Rows of the lens: how well what is read at a layer finds the patches that words name.

Two measures over the same patches. `lens`: the logit that the final norm and the head give the
word's first piece. `directions`: the stream along the word's direction, which is made of sentences
alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kvtool.experiments.lens.patches import LabeledPatches
from kvtool.features.residual import image_streams
from kvtool.features.transfer import permuted_auroc, transfer
from kvtool.progress import Progress
from kvtool.result import Row
from kvtool.store import Run

if TYPE_CHECKING:
    import torch

    from kvtool.features.word_states import SentenceWords, WordStates
    from kvtool.models.base import LanguageModel
    from kvtool.models.language import Language

Array = np.ndarray[Any, Any]
CHANCE = 0.5
LAYER_BYTES = 2**31
"""What the layers that are measured together take at most, unless a single one takes more."""
TOP_RANK = 10


@dataclass
class LayerScores:
    """What is read at all patches after one layer; NaN until a patch was read.

    Attributes:
        lens: Logits of the pieces (patch, concept).
        ranks: Ranks of the pieces in the vocabulary (patch, concept).
        directions: Along the words' directions (patch, concept).
    """

    lens: Array
    ranks: Array
    directions: Array

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> LayerScores:
        """Return scores of patches that were not read."""
        return cls(*(np.full(shape, np.nan, np.float32) for _ in range(3)))


@dataclass
class Measuring:
    """What is measured of a run, and how.

    Attributes:
        run: The run.
        patches: The patches and what they show.
        model: What computes the streams; None where the run stores them.
        language: The run's language model.
        pieces: The first piece of each concept's word that has one.
        sentences: What directions are made of; None for no directions.
        seed: The random seed of intervals and permutations.
        skipped: A line for each image that could not be read.
    """

    run: Run
    patches: LabeledPatches
    model: LanguageModel | None
    language: Language
    pieces: Mapping[str, int]
    sentences: SentenceWords | None
    seed: int
    skipped: list[str] = field(default_factory=list)

    def rows(self, layers: Sequence[int], progress: Progress) -> list[Row]:
        """Measure layers, as many together as LAYER_BYTES allow; the images are read once for
        each such group.
        """
        # Scores of a layer are held until all images are read, so memory bounds the layers at once.
        size = max(1, LAYER_BYTES // self._bytes_of_layer())
        groups = [layers[start : start + size] for start in range(0, len(layers), size)]
        progress(0, "", len(groups) * len(self.patches.tokens))
        rows: list[Row] = []
        for group in groups:
            # Word directions are made of sentences, before any image is read.
            words = {} if self.sentences is None else self.sentences.read(group)
            scores = self._scores(group, words, progress)
            for layer in group:
                rows += self._rows_of_layer(layer, scores[layer], words.get(layer))
        return rows

    def _bytes_of_layer(self) -> int:
        """Return about what one layer takes: scores of all patches, and states of all words."""
        n_words = 0 if self.sentences is None else self.sentences.count_tokens()
        return 3 * 4 * self.patches.labels.size + 4 * n_words * self.language.hidden

    def _scores(
        self, layers: Sequence[int], words: Mapping[int, WordStates], progress: Progress
    ) -> dict[int, LayerScores]:
        """Read all images after some layers."""
        directions = {layer: states.directions() for layer, states in words.items()}
        scores = {layer: LayerScores.empty(self.patches.labels.shape) for layer in layers}
        # Patches of all images stand one below the other, in the order in which they are read.
        start = 0
        for stream in image_streams(self.run, layers, self.patches.tokens, self.model):
            stop = start + len(stream.tokens)
            if stream.states.isfinite().all():
                for row, layer in enumerate(layers):
                    self._read(
                        scores[layer],
                        slice(start, stop),
                        stream.states[row].to(self.language.device),
                        directions.get(layer, {}),
                    )
            else:
                # Its rows stay NaN, which counts as not read.
                self.skipped.append(
                    f"image {stream.sample.id}: expected a finite stream, found NaN or infinity: "
                    "extract it again, with --dtype bfloat16 where it is float16"
                )
            start = stop
            progress(1, stream.sample.id)
        return scores

    def _read(
        self,
        scores: LayerScores,
        patches: slice,
        states: torch.Tensor,
        directions: Mapping[str, Array],
    ) -> None:
        """Fill in what is read in the states (patch, hidden) of one image."""
        from kvtool.features.lens import read_pieces

        columns = self._columns(self.pieces)
        reading = read_pieces(self.language, states, list(self.pieces.values()))
        scores.lens[patches, columns] = reading.logits
        scores.ranks[patches, columns] = reading.ranks
        if directions:
            # The stream along the directions of all words, in one product.
            vectors = np.stack(list(directions.values()), axis=1)
            on_host = states.float().cpu().numpy()
            scores.directions[patches, self._columns(directions)] = on_host @ vectors

    def _columns(self, words: Mapping[str, Any]) -> list[int]:
        return [self.patches.concepts.index(word) for word in words]

    def _rows_of_layer(
        self, layer: int, scores: LayerScores, words: WordStates | None
    ) -> list[Row]:
        """Return the rows of a layer, one for each measure that can be taken."""
        rows = []
        if self.pieces:
            text = None if words is None else self._lens_on_text(words)
            row = measure_row(layer, "lens", scores.lens, self.patches, text=text, seed=self.seed)
            rows.append(row | ranks_of(scores.ranks, self.patches.labels))
        # A word that no sentence has gives no direction.
        if words is not None and not np.isnan(scores.directions).all():
            text = words.directions_auroc()
            rows.append(
                measure_row(
                    layer, "directions", scores.directions, self.patches, text=text, seed=self.seed
                )
            )
        return rows

    def _lens_on_text(self, words: WordStates) -> float:
        from kvtool.features.lens import piece_logits

        states = words.states.to(self.language.device)
        logits = piece_logits(self.language, states, list(self.pieces.values()))
        return words.scores_auroc(logits, list(self.pieces))


def measure_row(
    layer: int,
    measure: str,
    scores: Array,
    patches: LabeledPatches,
    *,
    text: float | None = None,
    seed: int = 0,
) -> Row:
    """Return the row of a measure: how well its scores find the patches that concepts name.

    Args:
        layer: the layer.
        measure: its name.
        scores: (patch, concept), NaN where a patch was not read and for concepts without a score.
        patches: what the patches show.
        text: what the measure gets on words in sentences.
        seed: the random seed of the interval and the permutations.
    """
    # Patches of images that were not read, and words without a score, are left out of both sides.
    is_read = ~np.isnan(scores).all(axis=1)
    columns = np.flatnonzero(~np.isnan(scores).all(axis=0))
    names = [patches.concepts[column] for column in columns]
    labels = patches.labels[is_read][:, columns]
    values = scores[is_read][:, columns]
    images = patches.images[is_read]
    # Intervals resample images, since patches of one picture are alike.
    area = transfer(
        dict(zip(names, values.T, strict=True)),
        dict(zip(names, labels.T, strict=True)),
        images,
        seed=seed,
    )
    numbers = {
        "auroc": area.value,
        "auroc_low": area.low,
        "auroc_high": area.high,
        "chance": CHANCE,
        "permuted": permuted_auroc(values, labels, seed=seed),
        "text": text,
    }
    return {
        "layer": layer,
        "measure": measure,
        "n_images": len(np.unique(images)),
        "n_concepts": len(area.by_concept),
        "rank": None,
        **{name: None if is_undefined(value) else value for name, value in numbers.items()},
        "rank_background": None,
        "top_10": None,
    }


def is_undefined(value: float | None) -> bool:
    """Return whether a measure has no value."""
    return value is None or bool(np.isnan(value))


def ranks_of(ranks: Array, labels: Array) -> Row:
    """Return where words stand in the vocabulary: the median rank on patches that show them and on
    those that do not, and the share of the former in which a word is among the first ten.

    Args:
        ranks: (patch, concept), NaN where a patch was not read.
        labels: (patch, concept), see LabeledPatches.

    Each is the median, the share the mean, over concepts of what it is for one.
    """
    medians: list[float] = []
    background_medians: list[float] = []
    top_shares: list[float] = []
    for column in range(ranks.shape[1]):
        is_read = ~np.isnan(ranks[:, column])
        word_ranks = ranks[is_read & (labels[:, column] == 1), column]
        background_ranks = ranks[is_read & (labels[:, column] == 0), column]
        # A concept counts where both patches with it and without it were read.
        if word_ranks.size and background_ranks.size:
            medians.append(float(np.median(word_ranks)))
            background_medians.append(float(np.median(background_ranks)))
            top_shares.append(float((word_ranks <= TOP_RANK).mean()))
    if not medians:
        return {}
    # Medians over concepts: common ones do not outweigh the others.
    return {
        "rank": float(np.median(medians)),
        "rank_background": float(np.median(background_medians)),
        "top_10": float(np.mean(top_shares)),
    }

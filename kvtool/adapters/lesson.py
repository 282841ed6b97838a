"""What a layer learns, and what it is examined on: captions of pictures, some of them held out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kvtool.adapters.examples import Exchange, TrainingExample, examples
from kvtool.adapters.pictures import PooledPictures, read_pictures
from kvtool.adapters.reading import AnswerScores, answer_scores
from kvtool.adapters.sources import Captioned
from kvtool.adapters.starts import (
    BACKGROUND,
    Fitted,
    Layer,
    concept_targets,
    random_layer,
    ridge_layer,
    word_embedding,
)
from kvtool.datasets.protocols import HasConcepts
from kvtool.errors import DatasetError, UsageError
from kvtool.models.families.linear_adapter import LinearAdapter, pooled
from kvtool.store import Run

MOST_HELD_OUT = 500
_HELD_OUT_SHARE = 0.1
_FEWEST = 4


@dataclass(frozen=True)
class Lesson:
    """Captions of pictures as a model reads them.

    Attributes:
        model: The frozen models, with the layer.
        pictures: The pictures and their features.
        training: The captions of those to learn from, all of each.
        held_out: A caption of each of the others.
        seed: The random seed of what is held out, and of a random layer.
    """

    model: LinearAdapter
    pictures: PooledPictures
    training: tuple[TrainingExample, ...]
    held_out: tuple[TrainingExample, ...]
    seed: int

    @property
    def n_held_out(self) -> int:
        """Return how many pictures are held out."""
        return len(self.held_out)

    def random_start(self) -> Layer:
        """Return a random layer."""
        return random_layer(self.model, self.pictures.tokens, self.seed)

    def ridge_start(self, dataset: Any) -> Layer:
        """Return the layer that comes closest to the words for what patches show.

        Raises UsageError where the data set has no masks of concepts.
        """
        name = dataset.name
        if not isinstance(dataset, HasConcepts):
            raise UsageError(
                f"--start ridge: expected a data set with masks of concepts, found {name}; "
                "start at random"
            )
        words = (*dataset.concepts(), BACKGROUND)
        vectors = {word: word_embedding(self.model, word) for word in words}
        fitted = self._fitted(dataset, vectors)
        if (first := next(fitted, None)) is None:
            raise UsageError(
                f"--start ridge: expected pictures with masks of concepts, found none in {name}; "
                "start at random"
            )
        return ridge_layer(chain([first], fitted))

    def _fitted(self, dataset: Any, vectors: dict[str, torch.Tensor]) -> Iterator[Fitted]:
        """Yield of each picture to learn from its features and what they should become."""
        pool = self.model.adapter.pool
        for row in sorted({example.image for example in self.training}):
            try:
                masks = dataset.concept_masks(self.pictures.ids[row])
            except DatasetError:
                # Its captions serve all the same.
                continue
            if not masks:
                continue
            span = self.pictures.spans[row]
            targets, counts = concept_targets(masks, span, vectors)
            # A token stands for its patches as far as they are sure.
            together = pooled((targets * counts[:, None])[None], span.grid, pool)[0]
            weight = pooled(counts[None, :, None], span.grid, pool)[0, :, 0]
            yield self.pictures.tokens[row], together / weight.clamp_min(1e-9)[:, None], weight

    def examine(self, layer: Layer, *, swapped: bool = False) -> AnswerScores:
        """Score the captions held out; with `swapped`, each behind the next one's picture."""
        rows = [example.image for example in self.held_out]
        # A cycle: each caption stands behind the picture of the next.
        pictures = rows[1:] + rows[:1] if swapped else rows
        tokens = self.pictures.tokens[pictures]
        # Images by their place among these tokens.
        exam = [
            TrainingExample(position, example.ids, example.start)
            for position, example in enumerate(self.held_out)
        ]
        return answer_scores(self.model, layer, tokens, exam)


def make_lesson(
    model: LinearAdapter, captions: Captioned, run: Run, question: str, seed: int, path: Path
) -> Lesson:
    """Return what is learned of the pictures of a run that have captions.

    Args:
        model: The frozen models.
        captions: The captions.
        run: The run that holds the tower's features.
        question: What is asked of each picture.
        seed: The random seed of what is held out.
        path: A file for the features.

    Raises UsageError for fewer than four pictures.
    """
    # Captions of pictures that the run lacks are named, and left out.
    stored = set(run.ids)
    ids = [image for image in captions.sentences if image in stored]
    if len(ids) < _FEWEST:
        raise UsageError(
            f"adapter train: expected {_FEWEST} pictures with captions or more, found {len(ids)}"
        )
    pictures = read_pictures(run, ids, model.adapter.layer, model.adapter.pool, path)
    absent = [f"image {image}: not stored" for image in captions.sentences if image not in stored]
    n_pictures = len(pictures.ids)
    # Two at least, so that each has another picture to be tried behind.
    n_held_out = min(MOST_HELD_OUT, max(2, round(n_pictures * _HELD_OUT_SHARE)))
    order = np.random.default_rng(seed).permutation(n_pictures).tolist()
    held_out, training = sorted(order[:n_held_out]), sorted(order[n_held_out:])
    texts = [captions.sentences[image] for image in pictures.ids]
    # Every caption of a training picture is learned, one a held-out picture is tried.
    lessons = [Exchange(row, question, text) for row in training for text in texts[row]]
    exam = [Exchange(row, question, texts[row][0]) for row in held_out]
    return Lesson(
        model=model,
        pictures=PooledPictures(
            pictures.ids, pictures.spans, pictures.tokens, (*absent, *pictures.skipped)
        ),
        training=tuple(examples(model, lessons)),
        held_out=tuple(examples(model, exam)),
        seed=seed,
    )

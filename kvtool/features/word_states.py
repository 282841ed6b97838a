"""Words in sentences, as a decoder's residual stream has them: what image tokens are compared with.

Each sentence runs alone, without an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kvtool.features.transfer import auroc, word_directions
from kvtool.models.language import Language

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class WordStates:
    """The residual stream over sentences after one layer, and which tokens are words.

    Attributes:
        states: (token, hidden) in the model's precision, of all sentences one after the other.
        labels: For each word that occurs, which tokens are its last one, (token,) bool.
        texts: The number of each token's sentence, (token,).
    """

    states: torch.Tensor
    labels: Mapping[str, Array]
    texts: Array

    def directions(self) -> dict[str, Array]:
        """Return the direction (hidden,) of each word, see word_directions."""
        return word_directions(_host(self.states), self.labels)

    def directions_auroc(self) -> float:
        """Return how well directions tell their words from other tokens, the mean AUROC over words.

        Directions of one half of the sentences are tried on the other, and the other way round:
        on the tokens that they were made of they would look better than they are. NaN where no
        word occurs in both halves.
        """
        # Split by sentence, as tokens of one sentence are alike.
        is_even = self.texts % 2 == 0
        areas = [self._tried(is_even), self._tried(~is_even)]
        # The same words on both sides, or the halves would weigh words differently.
        shared = areas[0].keys() & areas[1].keys()
        return _mean([half[word] for half in areas for word in shared])

    def scores_auroc(self, scores: Array, words: Sequence[str]) -> float:
        """Return how well scores (token, word) tell their words from other tokens, the mean AUROC
        over the words that occur; NaN where none does.
        """
        areas = [
            float(auroc(scores[:, [column]], self.labels[word])[0])
            for column, word in enumerate(words)
            if word in self.labels
        ]
        return _mean(areas)

    def _tried(self, is_fitted: Array) -> dict[str, float]:
        """Return the AUROC of each word by directions of some tokens (token,) on the others."""
        states = _host(self.states)
        # Labels of the fitted tokens alone, in the same order.
        fitted = {word: is_word[is_fitted] for word, is_word in self.labels.items()}
        areas = {}
        for word, direction in word_directions(states[is_fitted], fitted).items():
            scores = states[~is_fitted] @ direction
            area = float(auroc(scores[:, None], self.labels[word][~is_fitted])[0])
            if not np.isnan(area):
                areas[word] = area
        return areas


@dataclass(frozen=True)
class SentenceWords:
    """Sentences that are run with a language model, and the words that are looked for."""

    language: Language
    sentences: Sequence[str]
    words: Sequence[str]

    def count_tokens(self) -> int:
        """Return how many tokens all sentences have."""
        return sum(len(self.language.token_ids(sentence)) for sentence in self.sentences)

    def read(self, layers: Sequence[int]) -> dict[int, WordStates]:
        """Run all sentences and return what each layer puts out.

        Sentences in which a value is not finite are left out of all layers. Memory: all of these
        states.
        """
        states: list[torch.Tensor] = []
        labels: dict[str, list[Array]] = {word: [] for word in self.words}
        texts: list[Array] = []
        for item in self.language.text_states(self.sentences, layers):
            # One bad sentence would spoil every mean that it enters.
            if not item.states.isfinite().all():
                continue
            sentence = self.sentences[item.index]
            n_tokens = item.states.shape[1]
            # A sentence's first token is left out where nothing stands before it.
            n_left_out = len(self.language.token_ids(sentence)) - n_tokens
            positions = self.language.word_positions(sentence, self.words)
            for word in self.words:
                is_word = np.zeros(n_tokens + n_left_out, bool)
                # Positions count from the sentence's start, before tokens are left out.
                is_word[positions.get(word, [])] = True
                labels[word].append(is_word[n_left_out:])
            states.append(item.states.cpu())
            texts.append(np.full(n_tokens, item.index))
        if not states:
            return {}
        joined = torch.cat(states, dim=1)
        joined_labels = {word: np.concatenate(parts) for word, parts in labels.items()}
        occurring = {word: flags for word, flags in joined_labels.items() if flags.any()}
        numbers = np.concatenate(texts)
        return {
            layer: WordStates(joined[row], occurring, numbers) for row, layer in enumerate(layers)
        }


def _host(states: torch.Tensor) -> Array:
    array: Array = states.float().cpu().numpy()
    return array


def _mean(areas: Sequence[float]) -> float:
    return float(np.mean(areas)) if areas else float("nan")

"""The lens: what a decoder's final norm and head read in its residual stream after any layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from kvtool.models.language import Language

Array = np.ndarray[Any, Any]
AT_ONCE = 128
"""Tokens whose logits over the whole vocabulary are held together."""
_ARTICLE = "a "


class VocabularyReading(NamedTuple):
    """How a decoder reads some pieces of its vocabulary in states.

    Attributes:
        logits: Of each piece, (token, piece) float32.
        ranks: Of each piece among the whole vocabulary, (token, piece) int32; 1 is the likeliest,
            and equals share the best of their ranks.
    """

    logits: Array
    ranks: Array


class TopWord(NamedTuple):
    """A piece of the vocabulary as text, and its probability."""

    text: str
    probability: float


def first_pieces(language: Language, words: Sequence[str]) -> dict[str, int]:
    """Return the token id of each word's first piece as it stands in the middle of a sentence.

    A tokenizer may write a space as a token of its own, or as part of the word's first piece: the
    piece is the first token that holds a letter of the word. Words that have none, such as those
    that the tokenizer does not know, are left out.
    """
    pieces = {}
    for word in words:
        # After an article, as in a sentence: many tokenizers join the space to the word.
        encoded = language.tokenizer(
            _ARTICLE + word, add_special_tokens=False, return_offsets_mapping=True
        )
        ends = zip(encoded.input_ids, encoded.offset_mapping, strict=True)
        # Tokens that end beyond the article hold letters of the word.
        ids = [token for token, (_, end) in ends if end > len(_ARTICLE)]
        if ids and ids[0] != language.tokenizer.unk_token_id:
            pieces[word] = ids[0]
    return pieces


def read_pieces(
    language: Language, states: torch.Tensor, pieces: Sequence[int]
) -> VocabularyReading:
    """Read pieces of the vocabulary in the outputs of a layer, (token, hidden)."""
    piece_ids = torch.tensor(list(pieces), dtype=torch.long, device=states.device)
    readings = [_reading(logits, piece_ids) for logits in _logits(language, states)]
    if not readings:
        # Of no token there is nothing to join.
        return VocabularyReading(
            np.zeros((0, len(piece_ids)), np.float32), np.zeros((0, len(piece_ids)), np.int32)
        )
    return VocabularyReading(*(np.concatenate(arrays) for arrays in zip(*readings, strict=True)))


def top_words(language: Language, states: torch.Tensor, count: int) -> list[list[TopWord]]:
    """Return the likeliest pieces of each token in the outputs of a layer, (token, hidden), the
    likeliest first; a token whose logits are not all finite has none.
    """
    words: list[list[TopWord]] = []
    for logits in _logits(language, states):
        # Of the whole vocabulary, so that probabilities are those of the model.
        best, ids = logits.softmax(dim=-1).topk(min(count, logits.shape[-1]))
        for probabilities, token_ids in zip(best.tolist(), ids.tolist(), strict=True):
            # Each piece by itself: together they would be decoded as one text.
            texts = (language.tokenizer.decode([token]).strip() for token in token_ids)
            pairs = list(map(TopWord, texts, probabilities))
            words.append(pairs if np.isfinite(probabilities).all() else [])
    return words


def _logits(language: Language, states: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the logits (token, vocabulary) of a few tokens at a time."""
    for start in range(0, len(states), AT_ONCE):
        yield language.logits(states[start : start + AT_ONCE])


def piece_logits(language: Language, states: torch.Tensor, pieces: Sequence[int]) -> Array:
    """Return the logits of pieces of the vocabulary in the outputs of a layer, (token, hidden), as
    (token, piece) float32: what read_pieces reads, without the ranks.
    """
    piece_ids = torch.tensor(list(pieces), dtype=torch.long, device=states.device)
    parts = [logits[:, piece_ids].cpu().numpy() for logits in _logits(language, states)]
    return np.concatenate(parts) if parts else np.zeros((0, len(piece_ids)), np.float32)


def _reading(logits: torch.Tensor, pieces: torch.Tensor) -> tuple[Array, Array]:
    """Return logits and ranks (token, piece) of pieces in logits (token, vocabulary)."""
    scores = logits[:, pieces].cpu().numpy()
    vocabulary = logits.cpu().numpy()
    # How many of the vocabulary stand above a piece: all less those that do not. NumPy counts them
    # row by row in a fifth of the time that it takes along an axis, and faster than it sorts.
    ranks = np.empty(scores.shape, np.int32)
    for row, row_scores, row_ranks in zip(vocabulary, scores, ranks, strict=True):
        for piece, score in enumerate(row_scores):
            row_ranks[piece] = len(row) - np.count_nonzero(row <= score) + 1
    return scores, ranks

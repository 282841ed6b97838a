"""Descriptions of features by token lift: the words on which a feature fires far more than chance.

They are a readable start where nobody has written descriptions, and enough in a small world.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from kvtool.stats.bootstrap import Array

LEAST_FIRINGS = 5
"""A token counts for a feature that fires on it so often, or more."""
LEAST_SHARE = 0.2
"""Of a feature's firings, for a token that is not the one of highest lift."""
LEAST_LIFT = 0.2
"""Of the highest lift, for such a token."""
MOST_TOKENS = 3
CONTEXT_TOKENS = 6
"""Tokens of a context before the one at which a feature fires."""


def describe_by_lift(features: torch.Tensor, ids: Sequence[int], tokenizer: Any) -> dict[int, str]:
    """Describe features by the tokens at which they fire.

    Args:
        features: (token, m); a feature fires where it is not 0.
        ids: The token ids of the text, (token,).
        tokenizer: Turns ids into text.

    Returns feature -> up to three tokens of highest lift, P(token | fires) / P(token), the highest
    first. Each fired five times or more; where there are several, each makes at least a fifth of
    the feature's firings, with at least a fifth of the highest lift. Features without such a token
    are left out.
    """
    descriptions: dict[int, str] = {}
    for feature, tokens in lifted_tokens(features, ids).items():
        words = [str(tokenizer.decode([token])).strip() for token in tokens]
        # Two pieces of one spelling, with and without a blank before them, are one word.
        if text := ", ".join(dict.fromkeys(word for word in words if word)):
            descriptions[feature] = text
    return descriptions


def lifted_tokens(features: torch.Tensor, ids: Sequence[int]) -> dict[int, list[int]]:
    """Return the token ids that describe each feature, see describe_by_lift."""
    text = np.asarray(ids)
    positions, numbers = (index.numpy() for index in (features != 0).nonzero(as_tuple=True))
    occurrences = np.bincount(text)
    tokens: dict[int, list[int]] = {}
    # Firings sorted by feature, so that each feature's are one slice.
    order = np.argsort(numbers, kind="stable")
    numbers, fired = numbers[order], text[positions[order]]
    edges = np.searchsorted(numbers, np.arange(features.shape[1] + 1))
    for feature in range(features.shape[1]):
        firings = fired[edges[feature] : edges[feature + 1]]
        if ranked := _ranked(firings, occurrences):
            tokens[feature] = ranked
    return tokens


def _ranked(firings: Array, occurrences: Array) -> list[int]:
    """Return the tokens of one feature's firings (token ids) that describe it.

    Args:
        firings: The token id of each firing.
        occurrences: How often each id is in the text.
    """
    tokens, counts = np.unique(firings, return_counts=True)
    frequent = counts >= LEAST_FIRINGS
    tokens, counts = tokens[frequent], counts[frequent]
    # P(token | fires) / P(token), but for a factor that is the same for all tokens.
    lift = counts / occurrences[tokens]
    # Of equal lifts the token that fires more often comes first.
    order = np.lexsort((-counts, -lift))
    shares = counts[order] / max(len(firings), 1)
    is_usual = (shares >= LEAST_SHARE) & (lift[order] >= LEAST_LIFT * lift.max(initial=0))
    usual: list[int] = tokens[order][is_usual].tolist()
    first: list[int] = tokens[order[:1]].tolist()
    return usual[:MOST_TOKENS] or first


def strongest_contexts(
    features: torch.Tensor, ids: Sequence[int], starts: Sequence[int], tokenizer: Any, count: int
) -> dict[int, list[str]]:
    """Return the texts in which features fire strongest, up to the token at which they do.

    Args:
        features: (token, m).
        ids: The token ids of the text, (token,).
        starts: The index at which each token's document starts, (token,).
        tokenizer: Turns ids into text.
        count: Contexts a feature at most; equal ones count once.
    """
    # More than are asked for, since equal contexts count once.
    n_top = min(8 * count, len(ids))
    values, positions = features.topk(n_top, dim=0)
    contexts: dict[int, list[str]] = {}
    for feature in range(features.shape[1]):
        ends = positions[values[:, feature] > 0, feature].tolist()
        texts = [
            tokenizer.decode(list(ids[max(starts[end], end - CONTEXT_TOKENS) : end + 1]))
            for end in ends
        ]
        if distinct := list(dict.fromkeys(texts)):
            contexts[feature] = distinct[:count]
    return contexts

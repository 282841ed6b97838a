"""Descriptions by token lift, against counting by hand."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
import torch

from kvtool.autoencoders.lift import describe_by_lift, lifted_tokens, strongest_contexts

WORDS = ("a", "red", "blue", "cat", "dog", "is", "left")


class WordTokenizer:
    """A token is a word."""

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(WORDS[token] for token in ids)


def firing(ids: Sequence[int], *rows: Sequence[int]) -> torch.Tensor:
    """Features (token, m) that fire on the tokens of a row each."""
    return torch.tensor([[float(token in row) for row in rows] for token in ids])


def test_a_feature_is_the_word_it_fires_on() -> None:
    ids = [0, 1, 3, 0, 2, 4] * 6
    features = firing(ids, [3], [1, 2], [0], [6])
    features[0, 0] = 1.0  # once on "a", which is too seldom
    descriptions = describe_by_lift(features, ids, WordTokenizer())
    assert descriptions == {0: "cat", 1: "red, blue", 2: "a"}


def test_four_firings_are_too_few() -> None:
    ids = [3] * 20 + [4] * 20
    features = torch.zeros(40, 2)
    features[:4, 0] = 1.0
    features[:5, 1] = 1.0
    assert describe_by_lift(features, ids, WordTokenizer()) == {1: "cat"}


def by_hand(features: torch.Tensor, ids: Sequence[int]) -> dict[int, list[int]]:
    """The definition, one feature and token at a time."""
    n = len(ids)
    tokens = {}
    for feature in range(features.shape[1]):
        fired = [ids[i] for i in range(n) if features[i, feature] != 0]
        counts = Counter(fired)
        lift = {
            token: (count / len(fired)) / (ids.count(token) / n)
            for token, count in counts.items()
            if count >= 5
        }
        ranked = sorted(lift, key=lambda token: (-lift[token], -counts[token], token))
        usual = [
            token
            for token in ranked
            if counts[token] >= 0.2 * len(fired) and lift[token] >= 0.2 * lift[ranked[0]]
        ]
        if ranked:
            tokens[feature] = usual[:3] or ranked[:1]
    return tokens


@pytest.mark.parametrize("seed", range(6))
def test_drawn_features(seed: int) -> None:
    rng = random.Random(seed)
    ids = rng.choices(range(len(WORDS)), weights=[9, 3, 3, 2, 2, 5, 1], k=160)
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(160, 12, generator=generator) - torch.linspace(0.2, 0.98, 12)
    expected = by_hand(features.relu(), ids)
    assert lifted_tokens(features.relu(), ids) == expected
    assert 0 < len(expected) <= 12


def test_contexts_end_where_a_feature_fires_strongest() -> None:
    ids = [0, 1, 3, 5, 0, 2, 4, 6]
    starts = [0, 0, 0, 0, 4, 4, 4, 4]
    features = torch.zeros(8, 2)
    features[2, 0], features[6, 0] = 1.0, 2.0
    contexts = strongest_contexts(features, ids, starts, WordTokenizer(), count=2)
    assert contexts == {0: ["a blue dog", "a red cat"]}
    assert strongest_contexts(features, ids, starts, WordTokenizer(), count=1) == {
        0: ["a blue dog"]
    }

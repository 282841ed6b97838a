"""Whether descriptions fit: planted truths, slow references, nulls."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest

from kvtool.autoencoders.described import (
    Described,
    by_embedding,
    by_judge,
    calibrated,
    described_features,
    descriptions_of,
    lexical,
)
from kvtool.stats.bootstrap import Array

CATEGORIES = ["dog", "cat", "boat", "kite", "tree", "car", "cup", "lamp"]


def test_descriptions_of_the_strongest_features() -> None:
    texts = {3: "dogs", 5: "cats"}
    assert descriptions_of(np.array([[3, 4, 5], [-1, -1, -1]]), texts) == [["dogs", "cats"], []]
    assert described_features(7, texts).tolist() == [False, False, False, True, False, True, False]


def captions(rng: np.random.Generator, n: int) -> list[list[str]]:
    """A caption of two things each; "picture" is in all of them."""
    pairs = [rng.choice(CATEGORIES, size=2, replace=False) for _ in range(n)]
    return [[f"A picture of a {first} and two {second}s."] for first, second in pairs]


def test_common_words_equal_a_slow_reference() -> None:
    rng = np.random.default_rng(0)
    texts = captions(rng, 24)
    texts[5] = []
    descriptions = [[f"words about {name}s", "a picture"] for name in rng.choice(CATEGORIES, 24)]
    descriptions[7] = []

    def fits(image: int, owner: int) -> bool:
        # "picture" is in every text and tells nothing; every category is rarer.
        text = " ".join(texts[owner]).replace("s.", ".").split()
        names = {word.strip(".") for word in text} & set(CATEGORIES)
        return any(f"{name}s" in " ".join(descriptions[image]) for name in names)

    score = lexical(descriptions, texts)
    assert score.rate == pytest.approx(np.mean([fits(i, i) for i in range(24)]))
    assert score.chance == pytest.approx(
        np.mean([fits(i, j) for i, j in permutations(range(24), 2)])
    )
    assert score.low < score.rate < score.high
    assert score.n == 24
    assert np.isnan(score.cut)


def test_words_of_every_caption_are_no_match() -> None:
    texts = captions(np.random.default_rng(1), 12)
    assert lexical([["a picture of and"]] * 12, texts).rate == 0.0
    planted = [[f"{row[0].split()[4]}, and the like"] for row in texts]
    assert lexical(planted, texts).rate > 0.9


def embed(texts: Sequence[str]) -> Array:
    """Counts of categories, and much of what all texts have in common."""
    counts = [[text.count(name) for name in CATEGORIES] for text in texts]
    return np.hstack([np.array(counts), np.full((len(texts), 1), 50.0)])


@pytest.mark.slow
def test_embeddings_find_planted_descriptions_and_not_permuted_ones() -> None:
    rng = np.random.default_rng(2)
    names = [f"{a}{b}" for a, b in rng.choice(CATEGORIES, size=(80, 2))]
    texts = [[f"a {name}"] for name in names]
    descriptions = [[name, "something else"] for name in names]
    score = by_embedding(descriptions, texts, embed)
    assert score.rate > 0.9
    assert score.chance <= 0.05
    permuted = by_embedding(descriptions, [texts[i] for i in rng.permutation(80)], embed)
    assert permuted.low <= 0.05 <= permuted.high
    nothing = by_embedding([[] for _ in texts], texts, embed)
    assert (nothing.rate, nothing.chance) == (0.0, 0.0)


def test_a_judge_is_asked_each_question_once() -> None:
    texts = [[name] for name in CATEGORIES * 10]
    descriptions = [[f"a {name}", "the sky"] for name in CATEGORIES * 10]
    requests: list[tuple[str, str]] = []

    def judge(pairs: Sequence[tuple[str, str]]) -> Array:
        requests.extend(pairs)
        return np.array([0.9 if text in description else 0.2 for description, text in pairs])

    score = by_judge(descriptions, texts, judge, shifts=7)
    assert len(requests) == len(set(requests))
    # An eighth of other images show the same, more than 5 %: no cut below their score is fair.
    assert (score.rate, score.cut) == (0.0, 0.9)
    rarer = by_judge(descriptions, texts, lambda pairs: judge(pairs) + _jitter(pairs), shifts=7)
    assert rarer.chance <= 0.05


def _jitter(pairs: Sequence[tuple[str, str]]) -> Array:
    return np.random.default_rng(0).uniform(0, 0.05, len(pairs))


def test_what_a_judge_leaves_open_is_left_out() -> None:
    texts = [[f"text {number}"] for number in range(40)]
    descriptions = [[f"description {number}"] for number in range(40)]

    def judge(pairs: Sequence[tuple[str, str]]) -> Array:
        fits = [d.split()[1] == t.split()[1] for d, t in pairs]
        return np.array(
            [np.nan if "1" in d else float(o) for (d, _), o in zip(pairs, fits, strict=True)]
        )

    score = by_judge(descriptions, texts, judge)
    assert score.n == sum("1" not in str(number) for number in range(40))
    assert (score.rate, score.cut) == (1.0, 0.0)
    silent = by_judge(descriptions, texts, lambda pairs: np.full(len(pairs), np.nan))
    assert silent.n == 0
    assert np.isnan([silent.rate, silent.cut]).all()


def test_the_cut_is_where_five_percent_of_pairs_pass() -> None:
    rng = np.random.default_rng(3)
    pairs = np.stack([np.arange(400) % 40, (np.arange(400) * 7 + 1) % 40], axis=1)
    scores = rng.permutation(400).astype(float)
    matched = np.linspace(300, 420, 40)
    score = calibrated(matched, pairs, scores, draws=50)
    assert (scores > score.cut).sum() == 20
    assert score.chance == 0.05
    assert score.rate == pytest.approx((matched > 379).mean())
    few = calibrated(matched, pairs[:10], scores[:10], draws=50)
    assert (few.chance, few.cut) == (0.0, scores[:10].max())


@pytest.mark.parametrize(("effect", "shifts"), [(0.0, 50), (1.0, 1)])
@pytest.mark.slow
def test_intervals_hold_five_percent_where_nothing_fits(effect: float, shifts: int) -> None:
    """Images and texts with effects of their own and nothing between them: the true rate is 5 %."""
    rng = np.random.default_rng(4)
    covered = 0
    rates = []
    for seed in range(100):
        images, owners = rng.normal(size=(2, 80)) * effect
        order = rng.permutation(80)
        pairs = np.concatenate([np.stack([order, np.roll(order, s + 1)], 1) for s in range(shifts)])
        noise = rng.normal(size=80 + len(pairs))
        scores = images[pairs[:, 0]] + owners[pairs[:, 1]] + noise[80:]
        score: Described = calibrated(
            images + owners + noise[:80], pairs, scores, seed=seed, draws=200
        )
        covered += score.low <= 0.05 <= score.high
        rates.append(score.rate)
    assert covered >= 88
    assert abs(np.mean(rates) - 0.05) < 0.015

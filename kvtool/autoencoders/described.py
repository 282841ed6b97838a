"""Whether the descriptions of an image's strongest features say what the image shows.

Three measures, none of which asks anyone outside: common words, the cosine of embeddings, and a
language model's yes or no. Each is beside its chance: common words beside that of other images'
texts, the other two cut where 5 % of an image's descriptions with another image's text pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from kvtool.autoencoders.matching import match_rate
from kvtool.autoencoders.words import content_words, document_frequency
from kvtool.stats.bootstrap import Array, Estimate, ratio, resample_weights
from kvtool.stats.proportions import widened

FALSE_RATE = 0.05
"""So many of the descriptions with another image's text pass the cut of the last two measures."""
SHIFTS = 50
"""With so many other texts each image's descriptions are compared for the cut by embeddings."""
JUDGE_SHIFTS = 1
"""The same for a judge, which reads each pair."""

Embed = Callable[[Sequence[str]], Array]
"""Turns texts into vectors (text, d)."""
Judge = Callable[[Sequence[tuple[str, str]]], Array]
"""Says how surely a description fits a text, for pairs (description, text): (pair,), NaN where it
says nothing.
"""


class Described(NamedTuple):
    """How often the descriptions of an image's strongest features fit its text.

    Attributes:
        rate: The share of images; low and high are its 95 % interval over images.
        chance: The share with another image's text.
        cut: The score above which a pair passes; NaN where words are compared.
        n: The number of images that were scored.
    """

    rate: float
    low: float
    high: float
    chance: float
    cut: float
    n: int


def descriptions_of(top: Array, texts: Mapping[int, str]) -> list[list[str]]:
    """Return the descriptions of each image's strongest features (image, count), -1 for none.

    Features without a description are passed over; leave them out before the strongest are
    chosen, see described_features.
    """
    return [[texts[feature] for feature in row if feature in texts] for row in top.tolist()]


def described_features(m: int, texts: Mapping[int, str]) -> Array:
    """Tell which of m features have a description, (m,) bool."""
    return np.isin(np.arange(m), list(texts))


def lexical(
    descriptions: Sequence[Sequence[str]], texts: Sequence[Sequence[str]], *, seed: int = 0
) -> Described:
    """Count the images of which a description and a text have a telling word in common.

    Args:
        descriptions: Those of each image's strongest features.
        texts: Captions, category names or expressions of each image.
        seed: The random seed of the interval.

    Words are compared in lower case, without inflection and stop words. Telling are those whose
    inverse document frequency among the images' texts is not below the median over all words that
    the texts have, each counted once an image. Chance is exact over all pairs of two images.
    """
    documents = [set(chain.from_iterable(map(content_words, row))) for row in texts]
    frequency = document_frequency([list(words) for words in documents])
    # A word stands in the list once for each image that has it.
    counts = [frequency[word] for words in documents for word in words]
    # The rarer a word, the larger its inverse document frequency.
    median_count = np.median(counts) if counts else 0
    number_of = {
        word: number
        for number, word in enumerate(
            word for word, count in frequency.items() if count <= median_count
        )
    }
    # (image, word): the telling words of each image's texts.
    presence = np.zeros((len(documents), len(number_of)), bool)
    for image, words in enumerate(documents):
        presence[image, [number_of[word] for word in words if word in number_of]] = True
    described = [
        sorted(
            {number_of[word] for text in row for word in content_words(text) if word in number_of}
        )
        for row in descriptions
    ]
    # Telling words in place of features, filled up with -1, as match_rate takes them.
    numbers = np.full((len(described), max(map(len, described), default=0)), -1)
    for image, row in enumerate(described):
        numbers[image, : len(row)] = row
    match = match_rate(numbers, presence, seed=seed)
    return Described(match.rate, match.low, match.high, match.chance, float("nan"), len(documents))


def by_embedding(
    descriptions: Sequence[Sequence[str]],
    texts: Sequence[Sequence[str]],
    embed: Embed,
    *,
    seed: int = 0,
) -> Described:
    """Count the images of which a description is nearer to a text than 5 % of other images' are.

    Args:
        descriptions: Those of each image's strongest features.
        texts: Captions, category names or expressions of each image.
        embed: Turns texts into vectors, see kvtool.models.sentences.
        seed: The random seed of the pairs and the interval.

    The score of an image is the largest cosine of one of its descriptions and one of its texts,
    both less the mean of their side: what all descriptions, or all texts, have in common tells
    nothing.
    """
    vectors = _centered(descriptions, embed)
    targets = _centered(texts, embed)

    def score(image: int, owner: int) -> float:
        """Return the largest cosine of an image's descriptions with texts."""
        # Nothing to compare has the lowest cosine, which passes no cut.
        if not len(vectors[image]) or not len(targets[owner]):
            return -1.0
        return float((vectors[image] @ targets[owner].T).max())

    pairs = _pairs(len(texts), SHIFTS, seed)
    matched = np.array([score(image, image) for image in range(len(texts))])
    return calibrated(matched, pairs, np.array([score(i, j) for i, j in pairs]), seed=seed)


def by_judge(
    descriptions: Sequence[Sequence[str]],
    texts: Sequence[Sequence[str]],
    judge: Judge,
    *,
    seed: int = 0,
    shifts: int = JUDGE_SHIFTS,
) -> Described:
    """Count the images of which a judge finds a description fitter than 5 % of other images' are.

    Args:
        descriptions: Those of each image's strongest features.
        texts: Captions, category names or expressions of each image; the judge reads them as one.
        judge: A language model's, see kvtool.autoencoders.judge, or answers out of a file.
        seed: The random seed of the pairs and the interval.
        shifts: With so many other images' texts the descriptions are judged for the cut.

    The score of an image is that of its best description. Images for which the judge says nothing
    are left out, and so are such pairs.
    """
    joined = [" ".join(row) for row in texts]
    # Each image beside its own text, then beside other images' texts, which tell the cut.
    pairs = _pairs(len(texts), shifts, seed)
    sides = [(image, image) for image in range(len(texts))] + [(int(i), int(j)) for i, j in pairs]
    # The judge is asked once for each text and image, and all at once: it answers in batches.
    requests = list(
        dict.fromkeys((text, joined[owner]) for i, owner in sides for text in descriptions[i])
    )
    answers = dict(zip(requests, np.asarray(judge(requests), np.float64).tolist(), strict=True))

    def score(image: int, owner: int) -> float:
        """Return the surest answer; NaN where there is none, below all where nothing was asked."""
        values = np.array([answers[text, joined[owner]] for text in descriptions[image]])
        if not values.size:
            return -1.0
        return float("nan") if np.isnan(values).all() else float(np.nanmax(values))

    scores = np.array([score(i, j) for i, j in sides])
    return calibrated(scores[: len(texts)], pairs, scores[len(texts) :], seed=seed)


def calibrated(
    own_scores: Array, pairs: Array, pair_scores: Array, *, seed: int = 0, draws: int = 1000
) -> Described:
    """Count the images that score above a cut which 5 % of pairs of two images pass, at most.

    Args:
        own_scores: Each image with its own text, (image,); NaN for images to leave out.
        pairs: Images and the owners of other texts, (pair, 2).
        pair_scores: The scores of the pairs, (pair,); NaN for pairs to leave out.
        seed: The random seed of the interval.
        draws: The number of resamples; each draws images, and with them their pairs and the cut.
    """
    is_scored = ~np.isnan(own_scores)
    is_usable = ~np.isnan(pair_scores)
    scores, sides = pair_scores[is_usable], pairs[is_usable]
    n = int(is_scored.sum())
    if not n or not len(scores):
        nothing = float("nan")
        return Described(nothing, nothing, nothing, nothing, nothing, n)
    # From the highest score down, so that the cut of every resample is found along one order.
    order = np.argsort(-scores, kind="stable")
    scores, sides = scores[order], sides[order]
    # An image without a score never passes, and is left out of the divisor, too.
    image_scores = np.where(is_scored, own_scores, -np.inf)

    def rate(weights: Array) -> tuple[float, float]:
        """Return the rate and the cut where images weigh so."""
        # A pair is in a resample as often as both of its images are.
        cut = _cut(scores, weights[sides[:, 0]] * weights[sides[:, 1]])
        passed = float(weights[image_scores > cut].sum())
        return float(ratio(np.array(passed), weights[is_scored].sum())), cut

    # The cut is uncertain too: each resample of the images has its own.
    value, cut = rate(np.ones(len(image_scores)))
    weights = resample_weights(len(image_scores), draws, np.random.default_rng(seed))
    rates = np.array([rate(row)[0] for row in weights])
    low, high = np.nanquantile(rates, [0.025, 0.975])
    estimate = Estimate(*map(np.asarray, (value, low, high)))
    estimate = widened({"rate": estimate}, n)["rate"]
    chance = float((scores > cut).mean())
    return Described(value, float(estimate.low), float(estimate.high), chance, cut, n)


def _cut(scores: Array, weights: Array) -> float:
    """Return the score, of scores in falling order, that at most FALSE_RATE of the weight is above;
    that of the first where there is none.
    """
    total = weights.sum()
    above = np.cumsum(weights)
    # So many pairs from the top weigh FALSE_RATE at most together.
    n_above = int(np.searchsorted(above, FALSE_RATE * total, "right")) if total else 0
    return float(scores[min(n_above, len(scores) - 1)])


def _pairs(n: int, shifts: int, seed: int) -> Array:
    """Return pairs of an image and another one, (pair, 2): each image with `shifts` others, and as
    often its text with other images.
    """
    # A random cycle: a step along it pairs every image with another one.
    order = np.random.default_rng(seed).permutation(n)
    steps = range(1, min(shifts, n - 1) + 1)
    rows = [np.stack([order, np.roll(order, step)], axis=1) for step in steps]
    return np.concatenate(rows) if rows else np.zeros((0, 2), int)


def _centered(texts: Sequence[Sequence[str]], embed: Embed) -> list[Array]:
    """Return the vectors of each row's texts (text, d), less the mean of all and of length 1."""
    distinct = list(dict.fromkeys(chain.from_iterable(texts)))
    if not distinct:
        return [np.zeros((0, 0)) for _ in texts]
    # Each text is embedded once, however often it occurs.
    number_of = {text: number for number, text in enumerate(distinct)}
    vectors = np.asarray(embed(distinct), np.float64)
    # The mean counts a text as often as it occurs.
    occurrences = [number_of[text] for text in chain.from_iterable(texts)]
    vectors = vectors - vectors[occurrences].mean(axis=0)
    # Unit vectors: their products are cosines. A text at the mean has none.
    units = ratio(vectors, np.linalg.norm(vectors, axis=1, keepdims=True), empty=0.0)
    return [units[[number_of[text] for text in row]] for row in texts]

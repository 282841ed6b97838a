"""Studies without a difference: two blocks score the same units equally well on average, each with
errors of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np

from kvtool.stats.bootstrap import ratio
from kvtool.tasks.base import Array, Table
from kvtool.tasks.differences import difference, difference_p


def _mean(sums: Array) -> dict[str, Array]:
    return {"score": ratio(sums[..., 0], sums[..., 1])}


def _classes(sums: Array) -> dict[str, Array]:
    """Intersection over union accumulated over units, mean over classes: units (k of 2 * class)."""
    intersection, union = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 2), -1, 0)
    return {"score": ratio(intersection, union).mean(axis=-1)}


def _shares(logits: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-logits)))


def _table(values: Array, clusters: Array | None = None, strata: Array | None = None) -> Table:
    units = np.stack([values, np.ones_like(values)], axis=-1)[None]
    return Table({}, units, _mean, strata, clusters)


def images(rng: np.random.Generator, n: int) -> tuple[Table, Table]:
    """A score an image, some images being harder for both."""
    hardness = rng.normal(size=n)
    first, second = (_table(_shares(hardness + rng.normal(size=n))) for _ in range(2))
    return first, second


def sentences(rng: np.random.Generator, n: int) -> tuple[Table, Table]:
    """Four sentences an image: a block's error on an image is one for all of its sentences."""
    clusters = np.repeat(np.arange(n), 4)
    hardness = rng.normal(size=n)
    first, second = (
        _table(
            _shares((hardness + rng.normal(size=n))[clusters] + rng.normal(size=4 * n)), clusters
        )
        for _ in range(2)
    )
    return first, second


def pairs(rng: np.random.Generator, n: int) -> tuple[Table, Table]:
    """All ordered pairs of the n images of each of three categories; an image's error is in all of
    its pairs.
    """
    joined = np.array(
        [pair for start in range(3) for pair in permutations(range(start * n, start * n + n), 2)]
    )
    category = joined[:, 0] // n
    hardness = rng.normal(size=3 * n)
    tables = []
    for _ in range(2):
        effects = hardness + rng.normal(size=3 * n)
        score = 0.5 + 0.15 * effects[joined].sum(axis=1) + 0.1 * rng.normal(size=len(joined))
        tables.append(_table(np.clip(score, 0, 1), joined, category))
    return tables[0], tables[1]


def episodes(rng: np.random.Generator, n: int) -> tuple[Table, Table]:
    """Episodes of five classes, their intersections and unions accumulated by class; two of a
    picture.
    """
    clusters = np.repeat(np.arange(n // 2), 2)
    hardness = rng.normal(size=n // 2)[clusters]
    label = rng.integers(5, size=n)
    sizes = rng.gamma(2.0, 50.0, size=n)
    tables = []
    for _ in range(2):
        overlap = _shares(hardness + rng.normal(size=n // 2)[clusters] + rng.normal(size=n))
        units = np.zeros((1, n, 5, 2))
        units[0, np.arange(n), label] = np.stack([overlap * sizes, sizes], axis=-1)
        tables.append(Table({}, units.reshape(1, n, 10), _classes, clusters=clusters))
    return tables[0], tables[1]


Null = Callable[[np.random.Generator, int], tuple[Table, Table]]
NULLS: dict[str, tuple[Null, int]] = {
    "images": (images, 40),
    "few images": (images, 12),
    "sentences": (sentences, 30),
    "episodes": (episodes, 120),
    "pairs": (pairs, 8),
}
"""What the units are, and how many (pairs: images a category)."""


def share_sure(name: str, studies: int) -> float:
    """Return the share of studies without a difference of which p is below .05."""
    make, n = NULLS[name]
    rng = np.random.default_rng(len(name))
    sure = 0
    for seed in range(studies):
        ours, without = make(rng, n)
        row = difference(ours, without, "score", seed)
        p = difference_p(ours, without, "score", row, seed)
        sure += p is not None and p < 0.05
    return sure / studies

"""Few-shot episodes: a query and some supports of one class, drawn from a list as HSNet
draws them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Entry:
    """An image and one of its classes, by the id that label maps have for it."""

    image_id: str
    class_id: int


@dataclass(frozen=True)
class Episode:
    """A query and its supports, all of one class; supports are distinct and never the query's
    image.
    """

    index: int
    class_id: int
    query_id: str
    support_ids: tuple[str, ...]


def images_of_classes(entries: Sequence[Entry]) -> dict[int, list[str]]:
    """Return class id -> its images, in the order of the entries; of a class without entries,
    none.
    """
    images_by_class: defaultdict[int, list[str]] = defaultdict(list)
    for entry in entries:
        images_by_class[entry.class_id].append(entry.image_id)
    return images_by_class


def draw_episodes(entries: Sequence[Entry], n: int, shots: int, seed: int) -> list[Episode]:
    """Seeded episodes: the query is entry `index` modulo their number, its supports are drawn from
    its class.

    Supports do not repeat, unlike HSNet's. Episode i does not depend on n. Classes with too few
    images for one episode have none; where no class has enough there is no episode at all.
    """
    images_by_class = images_of_classes(entries)
    # A query needs as many other images of its class as there are supports.
    queries = [entry for entry in entries if len(images_by_class[entry.class_id]) > shots]
    if not queries:
        return []
    return [_episode(i, queries[i % len(queries)], images_by_class, shots, seed) for i in range(n)]


def _episode(
    index: int, query: Entry, images_by_class: dict[int, list[str]], shots: int, seed: int
) -> Episode:
    candidates = [name for name in images_by_class[query.class_id] if name != query.image_id]
    # Seeded by episode, so that an episode is the same however many are drawn.
    rng = np.random.default_rng([seed, index])
    picks = rng.choice(len(candidates), size=shots, replace=False)
    return Episode(index, query.class_id, query.image_id, tuple(candidates[i] for i in picks))

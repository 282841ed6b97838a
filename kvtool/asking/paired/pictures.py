"""Which questions share pictures: what intervals resample, and what tests move together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np

from kvtool.asking.records import numbered
from kvtool.stats.bootstrap import Array


def picture_clusters(pictures: Sequence[Sequence[str]]) -> Array | None:
    """Return what is resampled in place of questions, see kvtool.stats.bootstrap.

    Of questions about one picture each it is the picture, (question,), of those about two it is
    both, (question, 2). Where some are about more, pictures that questions join, directly or by way
    of others, are one thing, (question,). None where no two questions share a picture.
    """
    # Pictures that no two questions share make each question independent.
    counts = Counter(chain.from_iterable(map(set, pictures)))
    if max(counts.values(), default=0) < 2:
        return None
    numbers = numbered(chain.from_iterable(pictures))
    widths = {len(names) for names in pictures}
    if widths == {1}:
        return numbers
    return numbers.reshape(-1, 2) if widths == {2} else _joined(pictures, numbers)


def _joined(pictures: Sequence[Sequence[str]], numbers: Array) -> Array:
    """Return the connected part that each question is in, (question,): questions and pictures are
    nodes, `numbers` are those of all questions' pictures one after another.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(pictures)
    # Questions and pictures are one graph: chains of shared pictures are one independent part.
    question = np.repeat(np.arange(n), [len(names) for names in pictures])
    size = n + len(set(numbers.tolist()))
    edges = coo_array((np.ones(len(numbers)), (question, n + numbers)), shape=(size, size))
    _, part = connected_components(edges, directed=False)
    parts: Array = part[:n]
    return parts


def same_pictures(pictures: Sequence[Sequence[str]]) -> Array:
    """Number the questions by the pictures that they are about, in any order, (question,)."""
    return numbered(map(frozenset, pictures))

"""Captions of scenes that nobody draws: texts alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kvtool.demo.language import caption
from kvtool.demo.world import sample_scene


def scene_captions(count: int, seed: int) -> Iterator[str]:
    """Yield a caption of each of `count` random scenes, every other one without where things are.

    Caption i depends on the seed and i alone.
    """
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        yield caption(sample_scene(rng), rng, spots=number % 2 == 0)

"""A store with a run of each prefix condition, planted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

import kvtool
from kvtool.datasets.spair71k import Pair, SPair71k
from kvtool.engine.prefixes import prefix_texts
from kvtool.store import Store
from kvtool.tasks.base import Array
from kvtool.types import Sample
from tests.support.tasks.semantic_correspondence import GRID, WH, planted
from tests.support.units import DIM, PLANTED, Fill, noise, sample, write_run

TASK = "semantic-correspondence"
WITHOUT = (2, 0)
"""The block that holds one category's answer without prefix, and that alone with the incorrect one.
"""


def half_planted(pairs: list[Pair]) -> Fill:
    """Block WITHOUT finds cat0's keypoints as `planted` does; in cat1 all its tokens are alike.

    PLANTED is noise.
    """
    code, background = planted(pairs), noise(7)

    def fill(s: Sample, layer: int, head: int) -> Array:
        if (layer, head) != WITHOUT:
            return background(s, layer, head)
        return code(s, *PLANTED) if s.id.startswith("cat0/") else np.ones((s.n_tokens, DIM))

    return fill


def write_conditions(path: Path, root: Path, fills: dict[str, Fill]) -> Store:
    """A store with a run of each condition."""
    dataset = SPair71k(root, "test")
    for condition, fill in fills.items():
        texts = prefix_texts(condition, dataset, dataset.images())
        samples = [
            replace(sample(ref.id, i, WH, GRID), prefix=text or "")
            for i, (ref, text) in enumerate(zip(dataset.images(), texts, strict=True))
        ]
        write_run(path, "spair71k", "test", root, samples, fill, name=condition, prefix=condition)
    return kvtool.open(path)

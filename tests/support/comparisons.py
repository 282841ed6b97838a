"""A store with runs of several models over the same pairs of images, planted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import kvtool
from kvtool.datasets.spair71k import SPair71k
from kvtool.store import Run, Store
from tests.support.prefixes import half_planted
from tests.support.tasks.semantic_correspondence import GRID, WH, planted
from tests.support.units import Fill, noise, sample, write_run

TASK = "semantic-correspondence"


def pair_run(store: Path, root: Path, name: str, fill: Fill, n: int = 99, **options: Any) -> Run:
    """A run of a model of its own over the first n images of SPair-71k; `digests` has those of
    pictures that are known.
    """
    digests = options.pop("digests", {})
    samples = [
        replace(sample(ref.id, i, WH, GRID), digest=digests.get(ref.id, ""))
        for i, ref in enumerate(SPair71k(root, "test").images()[:n])
    ]
    options = {"model": f"model of {name}", **options}
    return write_run(store, "spair71k", "test", root, samples, fill, name=name, **options)


def write_runs(path: Path, root: Path) -> Store:
    """Three runs: half finds one category's keypoints in one block, full those of both in another
    one, and small, of fewer layers, finds nothing.
    """
    pairs = SPair71k(root, "test").pairs()
    pair_run(path, root, "half", half_planted(pairs))
    pair_run(path, root, "full", planted(pairs))
    pair_run(path, root, "small", noise(5), layers=4)
    return kvtool.open(path)

"""A store with runs of several models over the same pairs of images, planted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import kvtool
from kvtool.datasets.spair71k import SPair71k
from kvtool.result import Result, Row
from kvtool.store import Run, Store
from kvtool.tasks.base import Array
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


def pairs_of(root: Path) -> Array:
    """(pair, 2) the images that each pair joins."""
    return np.array([(pair.src_id, pair.trg_id) for pair in SPair71k(root, "test").pairs()])


def row_of(result: Result, run: str, choice: str, block: tuple[int, int] | None = None) -> Row:
    (row,) = [
        row
        for row in result.rows
        if (row["run"], row["choice"]) == (run, choice)
        and (choice == "best" or row["kind"] == "value")
        and (block is None or (row["layer"], row["kv_head"]) == block)
    ]
    return row

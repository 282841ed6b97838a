"""A small SPair-71k, and values that find its keypoints in one block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kvtool.datasets.spair71k import Pair, SPair71k
from kvtool.result import Result, Row
from kvtool.store import Run
from kvtool.types import Sample
from tests.support.datasets import pair_record, picture, write_json, write_text
from tests.support.units import DIM, PLANTED, Array, Fill, noise, sample, write_run

WH, GRID, POINTS = (80, 60), (6, 8), 4
TASK = "semantic-correspondence"


def write_spair(root: Path, categories: int = 2, images: int = 6, seed: int = 0) -> Path:
    """Every ordered pair of each category's images; POINTS keypoints anywhere in cells of their
    own.
    """
    rng = np.random.default_rng(seed)
    lines: list[str] = []
    for category in [f"cat{c}" for c in range(categories)]:
        points = {}
        for i in range(images):
            picture(root / f"JPEGImages/{category}/{category}i{i}.jpg", *WH)
            cells = rng.choice(GRID[0] * GRID[1], POINTS, replace=False)
            points[i] = [
                [int(10 * (c % 8) + rng.integers(10)), int(10 * (c // 8) + rng.integers(10))]
                for c in cells
            ]
        for a in range(images):
            for b in range(images):
                if a == b:
                    continue
                src, trg = f"{category}i{a}", f"{category}i{b}"
                line = f"{len(lines):06d}-{src}-{trg}:{category}"
                side = int(rng.integers(20, 70))
                record = pair_record(
                    src,
                    trg,
                    category,
                    src_imsize=[*WH, 3],
                    trg_imsize=[*WH, 3],
                    src_kps=points[a],
                    trg_kps=points[b],
                    kps_ids=[str(k) for k in range(POINTS)],
                    trg_bndbox=[2, 3, 2 + side, 23],
                )
                write_json(root / f"PairAnnotation/test/{line}.json", record)
                lines.append(line)
    write_text(root / "Layout/large/test.txt", "\n".join(lines) + "\n")
    return root


def planted(pairs: list[Pair], seed: int = 1) -> Fill:
    """Noise, but in block PLANTED the token under keypoint k of a category is that keypoint's own
    vector.
    """
    codes = np.random.default_rng(seed).normal(size=(20, DIM))
    points = {}
    for pair in pairs:
        points[pair.src_id], points[pair.trg_id] = pair.src_kps_px, pair.trg_kps_px
    background = noise(seed)

    def fill(s: Sample, layer: int, head: int) -> Array:
        values = background(s, layer, head)
        if (layer, head) == PLANTED:
            for code, point in zip(codes, points[s.id], strict=False):
                values[s.base().token_at(*point)] = 3 * code
        return values

    return fill


def make_run(folder: Path, store: str = "store", **options: Any) -> Run:
    """A run over two categories of four images, in the folder's store; options as write_run's."""
    dataset = SPair71k(write_spair(folder / "data", images=4), "test")
    samples = [sample(ref.id, i, WH, GRID) for i, ref in enumerate(dataset.images())]
    fill = planted(dataset.pairs())
    return write_run(folder / store, "spair71k", "test", folder / "data", samples, fill, **options)


def summary(result: Result, kind: str, layer: int, head: int, **labels: Any) -> Row:
    for row in result.rows:
        block = (row["kind"], row["layer"], row["kv_head"]) == (kind, layer, head)
        if (
            block
            and {k: row.get(k) for k in ("alpha", "category")}
            == {"alpha": None, "category": None} | labels
        ):
            return row
    raise AssertionError("no such row")

"""Runs of small grids, and a search by a double loop over every patch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kvtool.features.neighbors import Metric
from kvtool.result import Result
from kvtool.store import Run
from kvtool.types import Kind, Sample
from tests.support.units import PLANTED, noise, sample, write_run

Array = np.ndarray[Any, Any]
LAYER, HEAD = PLANTED
BLOCK: dict[str, Any] = {"layer": LAYER, "kv_head": HEAD}


def images(count: int = 12) -> list[Sample]:
    """Grids of different shapes, some with newline tokens, some with a token before the grid or a
    cropped cover.
    """
    samples = []
    for i in range(count):
        grid = (3 + i % 3, 4 + i % 2)
        cover = (10.0, 0.0, 70.0, 60.0) if i % 4 == 3 else None
        samples.append(
            sample(f"img{i:02d}", i, (80, 60), grid, newline=i % 2 == 1, start=i % 3, cover=cover)
        )
    return samples


def make_run(
    path: Path, fill: Any = None, samples: list[Sample] | None = None, **options: Any
) -> Run:
    return write_run(
        path / "s.kv", "folder", "all", path, samples or images(), fill or noise(3), **options
    )


def all_patches(
    run: Run, kind: Kind, layer: int, head: int
) -> list[tuple[str, int, int, int, Array]]:
    """(image, row, col, token, vector) of every patch, read image by image."""
    patches = []
    for image in run.samples:
        values = run.read_image(image.id, [kind])[kind][
            run.config.stored_layers(kind).index(layer), head
        ]
        span = image.base(kind)
        for number, token in enumerate(span.token_indices()):
            patches.append(
                (image.id, *divmod(number, span.grid[1]), token, values[token].astype(float))
            )
    return patches


def score(a: Array, b: Array, metric: Metric) -> float:
    if metric == "l2":
        return float(-((a - b) ** 2).sum())
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norm) if norm else 0.0


def by_hand(
    run: Run,
    image: str,
    cell: tuple[int, int],
    k: int,
    metric: Metric,
    kind: Kind,
    layer: int,
    head: int,
) -> Any:
    """(image, token) of the patch itself, then of the others by (score, place), with their
    scores.
    """
    patches = all_patches(run, kind, layer, head)
    query = next(
        i for i, (name, row, col, _, _) in enumerate(patches) if (name, row, col) == (image, *cell)
    )
    scores = [score(patches[query][4], vector, metric) for *_, vector in patches]
    order = sorted(range(len(patches)), key=lambda i: (i != query, -round(scores[i], 6), i))[:k]
    return [(patches[i][0], patches[i][3]) for i in order], [scores[i] for i in order]


def found(result: Result) -> list[tuple[str, int]]:
    return [(row["image"], row["token"]) for row in result.rows]


def centre(run: Run, image: str, row: int, col: int, kind: Kind = "value") -> tuple[float, float]:
    return next(s for s in run.samples if s.id == image).base(kind).centre_px(row, col)

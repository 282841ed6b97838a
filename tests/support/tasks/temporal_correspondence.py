"""A small DAVIS, and a run over it with a planted answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kvtool.features.propagation import Rule
from kvtool.types import Sample
from tests.support.datasets import label_png, picture, write_text
from tests.support.units import DIM, PLANTED, Array, Fill, noise, sample, write_run

TASK = "temporal-correspondence"
GRID, FRAMES = (6, 8), 6


def write_davis(root: Path) -> dict[str, Array]:
    """Two sequences of one patch a pixel; two objects of six patches (more than the five
    neighbours, so that no neighbour is of another id), which move in the second. Returns the label
    maps by id.
    """
    labels = {}
    for name, step in (("one", 0), ("two", 1)):
        for t in range(FRAMES):
            frame = f"{name}/{t:05d}"
            picture(root / f"JPEGImages/480p/{frame}.jpg", GRID[1], GRID[0])
            ids = np.zeros(GRID, np.uint8)
            ids[0:2, step * (t // 2) : step * (t // 2) + 3] = 1
            ids[3:6, 7 - step * (t // 2) - 2 : 7 - step * (t // 2)] = 2
            label_png(root / f"Annotations/480p/{frame}.png", ids)
            labels[frame] = ids
    write_text(root / "ImageSets/2017/val.txt", "one\ntwo\n")
    return labels


def planted(labels: dict[str, Array], lost: str = "") -> Fill:
    """Block PLANTED has one vector for each id; in frame `lost` object 2 looks like background."""
    codes = np.random.default_rng(4).normal(size=(3, DIM))
    background = noise(6)

    def fill(s: Sample, layer: int, head: int) -> Array:
        if (layer, head) != PLANTED:
            return background(s, layer, head)
        ids = labels[s.id].reshape(-1).copy()
        if s.id == lost:
            ids[ids == 2] = 0
        return codes[ids] + 1e-3 * background(s, layer, head)

    return fill


def make_run(folder: Path, lost: str = "", frames: int | None = None) -> Any:
    labels = write_davis(folder / "data")
    samples = [sample(name, i, GRID[::-1], GRID) for i, name in enumerate(labels)]
    fill = planted(labels, lost)
    return write_run(
        folder / "store", "davis", "val", folder / "data", samples[:frames], fill, layers=6
    )


def slow_propagate(
    unit: Array, grid: Any, context: list[tuple[Array, Array, Any]], rule: Rule
) -> Array:
    """(channel, token) from unit vectors (token, dim) of one head: token by token."""
    soft = np.zeros((context[0][1].shape[0], len(unit)))
    for token in range(len(unit)):
        row, col = divmod(token, grid[1])
        candidates = []
        for vectors, masks, other_grid in context:
            for index in range(len(vectors)):
                r, c = divmod(index, other_grid[1])
                if abs(r - row) <= rule.radius and abs(c - col) <= rule.radius:
                    candidates.append((float(unit[token] @ vectors[index]), masks[:, index]))
        fifth = sorted((score for score, _ in candidates), reverse=True)[
            min(rule.top, len(candidates)) - 1
        ]
        neighbors = [
            (np.exp(score / rule.temperature), mask) for score, mask in candidates if score >= fifth
        ]
        soft[:, token] = sum(w * m for w, m in neighbors) / sum(w for w, _ in neighbors)
    return soft

"""PCK of a block, one keypoint after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kvtool.datasets.spair71k import Pair, SPair71k
from kvtool.store import Run


def pairs_of(run: Run) -> list[Pair]:
    assert run.config.dataset_path is not None
    return SPair71k(Path(run.config.dataset_path), "test").pairs()


def slow_pck(
    run: Run, kind: Any, layer: int, head: int, pairs: list[Pair], alpha: float = 0.1
) -> tuple[float, float]:
    """pck_image and pck_point of one block: one keypoint after the other."""
    block, images = run.read(kind, layer, head)
    values = {image.id: block[image.start : image.stop].astype(np.float64) for image in images}
    samples = {image.id: image.sample for image in images}
    per_pair, flags = [], []
    for pair in pairs:
        hits = []
        source, target = samples[pair.src_id].base(kind), samples[pair.trg_id].base(kind)
        for point, truth in zip(pair.src_kps_px, pair.trg_kps_px, strict=True):
            query = values[pair.src_id][source.token_at(*point)]
            scores = {}
            for row in range(target.grid[0]):
                for col in range(target.grid[1]):
                    token = values[pair.trg_id][target.start + row * target.row_stride + col]
                    scores[row, col] = query @ token / np.linalg.norm(query) / np.linalg.norm(token)
            centre = np.array(target.centre_px(*max(scores, key=lambda token: scores[token])))
            x0, y0, x1, y1 = pair.trg_box_xyxy_px
            hits.append(bool(np.linalg.norm(centre - truth) <= alpha * max(x1 - x0, y1 - y0)))
        flags += hits
        per_pair.append(np.mean(hits))
    return float(np.mean(per_pair)), float(np.mean(flags))

"""Matching over pairs, against a matrix product for each pair and block."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from kvtool.datasets.spair71k import Pair
from kvtool.features.layers import Layer
from kvtool.store import Run, RunConfig, float32_to_bits, open_store, part_name
from kvtool.tasks.semantic_correspondence import SemanticCorrespondence
from kvtool.tasks.truth import sizes_of
from kvtool.types import Geometry, GridSpan, ModelInfo, Sample
from tests.bench.probe_blocks import DIM, GRID, HEADS, TOKENS, best_of, rated
from tests.bench.rows import Row
from tests.support.runs import create_run

CPU = torch.device("cpu")


class Pairs:
    """1,000 pairs over 40 images, ten keypoints each: what the probe asks of a data set."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.skipped: list[str] = []
        self.notes: list[str] = []
        points = [
            tuple((float(x), float(y)) for x, y in rng.uniform(0, 378, (10, 2))) for _ in range(40)
        ]
        ordered = [(a, b) for a in range(40) for b in range(40) if a != b]
        picks = [ordered[i] for i in rng.choice(len(ordered), 1000, replace=False)]
        box = (0.0, 0.0, 300.0, 200.0)
        wh, codes = (378, 378), (0, 0, 0, 0, 0)
        self._pairs = [
            Pair(
                f"{a}-{b}",
                "c",
                str(a),
                str(b),
                wh,
                wh,
                points[a],
                points[b],
                tuple(range(10)),
                box,
                box,
                *codes,
            )
            for a, b in picks
        ]

    def pairs(self) -> list[Pair]:
        return self._pairs


def matching() -> Row:
    data = Pairs()
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder), 40)
        task = SemanticCorrespondence(data, sizes_of(run), CPU)

        def ours() -> Any:
            return task.measure(Layer(run, "value", 0, range(HEADS), CPU))

        def peer() -> Any:
            return np.stack([match_block(run, head, data.pairs()) for head in range(HEADS)])

        matches, reference = ours(), peer()
        assert np.mean(matches[:, :, 1] != reference) < 0.01
        timed = [(best_of(2, ours), best_of(1, peer)) for _ in range(4)]
        ours_s, peer_s = (min(seconds) for seconds in zip(*timed, strict=True))
        work = HEADS * len(data.pairs())
        return rated(
            "SPair matching from the store / a product a pair and block",
            "pairs/s",
            work,
            ours_s,
            peer_s,
            3.0,
        )


def match_block(run: Run, head: int, pairs: list[Pair]) -> Any:
    """Keypoints found at alpha 0.1 per pair."""
    block, images = run.read("value", 0, head)
    unit = normalize(torch.from_numpy(block), dim=-1)
    values = {image.id: unit[image.start : image.stop] for image in images}
    span = images[0].sample.base()
    centres = torch.tensor([span.centre_px(r, c) for r in range(GRID[0]) for c in range(GRID[1])])
    counts = []
    for pair in pairs:
        cells = [span.token_at(*point) for point in pair.src_kps_px]
        best = (values[pair.src_id][cells] @ values[pair.trg_id].T).argmax(1)
        away = (centres[best] - torch.tensor(pair.trg_kps_px)).norm(dim=1)
        counts.append(int((away <= 30.0).sum()))
    return np.array(counts)


def write_run(folder: Path, images: int) -> Run:
    span = GridSpan("base", 0, GRID, GRID[1], (0.0, 0.0, 378.0, 378.0))
    samples = [
        Sample(str(i), i, (378, 378), TOKENS, (span,), 0, (), "", (1,), 1, TOKENS + 1)
        for i in range(images)
    ]
    config = RunConfig(
        name="bench",
        model=ModelInfo(
            "bench", "0", "bench", Geometry(1, 28, HEADS, DIM, 8, 0, 8), "bfloat16", "sdpa"
        ),
        dataset="spair71k",
        dataset_path=None,
        split="test",
        prefix="none",
        view="base",
        keys="post-rope",
        kinds=("value",),
        layers=(0,),
        vision_layers=(),
    )
    run = create_run(open_store(folder / "store", create=True), config)
    for start in range(0, images, 10):
        values = torch.randn(1, HEADS, 10 * TOKENS, DIM).numpy()
        text = {"value": float32_to_bits(np.zeros((1, HEADS, 10, DIM), np.float32))}
        part = samples[start : start + 10]
        run.commit_part(
            part_name(start, start + 10), part, {"value": float32_to_bits(values)}, text
        )
    run.refresh()
    return run

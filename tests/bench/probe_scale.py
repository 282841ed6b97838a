"""Whether a probe's time per image and its peak memory stay what they are from 100 to 2,000 images.

Each size runs in a process of its own, over a store of small blocks: categories of 50 images, two
pairs an image. A layer may hold what 100 images take, so that whatever grows beyond it shows in the
peak.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from kvtool.datasets.spair71k import Pair
from kvtool.features import layers
from kvtool.store import Run, RunConfig, float32_to_bits, open_store, part_name
from kvtool.tasks.blocks import plan_blocks
from kvtool.tasks.semantic_correspondence import SemanticCorrespondence
from kvtool.tasks.truth import sizes_of
from kvtool.tasks.walk import score_blocks
from kvtool.types import Geometry, GridSpan, ModelInfo, Sample
from tests.bench.rows import Row, row
from tests.support.runs import create_run

SIZES = (100, 2000)
LAYERS, HEADS, GRID, DIM, CATEGORY = 2, 2, (16, 16), 32, 50
TOKENS = GRID[0] * GRID[1]


def scale() -> list[Row]:
    """Time per image and peak memory of the larger size beside the smaller one's."""
    small, large = (measured(n) for n in SIZES)
    between = "2,000 images / 100 images"
    return [
        row(
            f"probe, time per image: {between}",
            "ms",
            large["ms_per_image"],
            small["ms_per_image"],
            1.1,
            "lower",
        ),
        row(
            f"probe, peak memory: {between}", "MB", large["peak_mb"], small["peak_mb"], 1.1, "lower"
        ),
    ]


def measured(n_images: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder) / "store", n_images)
        command = [sys.executable, "-m", "tests.bench.probe_scale", f"{folder}/store"]
        figures: dict[str, float] = json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout
        )
        return figures


def probe_once(path: Path) -> dict[str, float]:
    run = open_store(path).run()
    layers.HELD_BYTES = SIZES[0] * HEADS * TOKENS * DIM * 2
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        task = SemanticCorrespondence(Neighbours(run.ids), sizes_of(run), torch.device("cpu"))
        score_blocks(
            task, plan_blocks(run, ["value"], None, None), torch.device("cpu"), "max", 0, None
        )
        seconds.append(time.perf_counter() - start)
    return {"ms_per_image": 1e3 * min(seconds) / len(run.ids), "peak_mb": peak_mb()}


def peak_mb() -> float:
    """Of this program alone: getrusage would count what the process was before it became this
    program.
    """
    status = Path("/proc/self/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) / 1000


class Neighbours:
    """Every image paired with the next two of its category, four keypoints each: what the probe
    asks of a data set.
    """

    def __init__(self, ids: list[str]) -> None:
        self.skipped: list[str] = []
        self.notes: list[str] = []
        points = tuple(
            (float(x), float(y)) for x, y in np.random.default_rng(0).uniform(0, 160, (4, 2))
        )
        wh, box, codes = (160, 160), (0.0, 0.0, 150.0, 100.0), (0, 0, 0, 0, 0)
        self._pairs = []
        for index, source in enumerate(ids):
            first = index - index % CATEGORY
            for step in (1, 2):
                target = ids[first + (index - first + step) % CATEGORY]
                ends = (source, target, wh, wh, points, points)
                self._pairs.append(
                    Pair(f"{source}-{target}", str(first), *ends, (0, 1, 2, 3), box, box, *codes)
                )

    def pairs(self) -> list[Pair]:
        return self._pairs


def write_store(path: Path, n_images: int) -> Run:
    span = GridSpan("base", 0, GRID, GRID[1], (0.0, 0.0, 160.0, 160.0))
    samples = [
        Sample(f"{i:05d}", i, (160, 160), TOKENS, (span,), 0, (), "", (1,), 1, TOKENS + 1)
        for i in range(n_images)
    ]
    config = RunConfig(
        name="scale",
        model=ModelInfo(
            "scale", "0", "scale", Geometry(LAYERS, 4, HEADS, DIM, 64, 0, 64), "bfloat16", "sdpa"
        ),
        dataset="spair71k",
        dataset_path=None,
        split="test",
        prefix="none",
        view="base",
        keys="post-rope",
        kinds=("value",),
        layers=tuple(range(LAYERS)),
        vision_layers=(),
    )
    run = create_run(open_store(path, create=True), config)
    rng = np.random.default_rng(0)
    for start in range(0, n_images, 20):
        values = rng.normal(size=(LAYERS, HEADS, 20 * TOKENS, DIM)).astype(np.float32)
        text = {"value": float32_to_bits(np.zeros((LAYERS, HEADS, 20, DIM), np.float32))}
        part = samples[start : start + 20]
        run.commit_part(
            part_name(start, start + 20), part, {"value": float32_to_bits(values)}, text
        )
    run.refresh()
    return run


if __name__ == "__main__":
    print(json.dumps(probe_once(Path(sys.argv[1]))))

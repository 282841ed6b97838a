"""Pictures of many sizes through a Qwen2-VL: batches formed over a window of parts, against batches
formed within each part.

The sizes are drawn as COCO's are: two in five at 640 x 480, the rest over some thirty others, here
at an eighth of the side. What both sides store is compared.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np

from tests.bench.rows import Row, row
from tests.support.runs import create_run

IMAGES = 512
REPEATS = 3
COMMON_PX = ((80, 60), (80, 53), (60, 80), (53, 80))
COMMON_SHARES = (0.4, 0.15, 0.15, 0.05)


def bench() -> list[Row]:
    from tests.support.tiny import noise, qwen2_vl

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "pictures").mkdir()
        for index, size_px in enumerate(sizes_px(IMAGES)):
            noise(*size_px, index).save(root / "pictures" / f"{index:04d}.png")
        model = str(qwen2_vl(root / "model"))
        seconds: dict[int, list[float]] = {8: [], 1: []}
        runs: dict[int, tuple[Any, int]] = {}
        for turn in range(REPEATS):
            for n_parts, times in seconds.items():
                store = root / f"{n_parts}-{turn}.kv"
                run_s, run, n_batches = extracted(store, model, root / "pictures", n_parts)
                times.append(run_s)
                runs[n_parts] = run, n_batches
        (over, n_over), (within, n_within) = runs.values()
        assert_close(over, within)
    name = (
        f"{IMAGES} pictures of COCO's sizes, Qwen2-VL: {n_over} batches over parts, "
        f"{n_within} within each"
    )
    ours, theirs = (IMAGES / median(times) for times in seconds.values())
    return [row(name, "images/s", ours, theirs, 1.05)]


def sizes_px(n_images: int) -> list[tuple[int, int]]:
    """Widths and heights of pictures, some sizes common and many rare."""
    rng = np.random.default_rng(0)
    names = rng.choice(5, n_images, p=[*COMMON_SHARES, 1 - sum(COMMON_SHARES)])
    rare = rng.integers(36, 81, (n_images, 2))
    return [
        COMMON_PX[name] if name < 4 else (80, int(height)) if height % 2 else (int(width), 80)
        for name, (width, height) in zip(names, rare, strict=True)
    ]


def extracted(store: Path, name: str, folder: Path, n_parts: int) -> tuple[float, Any, int]:
    """Seconds of an extraction on loaded weights with windows of so many parts, its run, and the
    number of batches.
    """
    from kvtool.engine.events import Event
    from kvtool.engine.match import open_extraction
    from kvtool.engine.pipeline import run_parts
    from kvtool.engine.plan import Job, make_plan
    from kvtool.models import load_model
    from kvtool.store import open_store

    job = Job(str(store), name, f"folder:{folder}")
    model = load_model(job.model, dtype=job.dtype)
    plan = make_plan(open_extraction(job), model, None, None)
    run = create_run(open_store(store, create=True), plan.config)
    events: list[Event] = []
    options: dict[str, Any] = {"batch_size": "auto", "strict": True, "tell": events.append}
    with patch("kvtool.engine.windows.WINDOW_PARTS", n_parts):
        started = time.perf_counter()
        run_parts(plan, run, model, plan.parts(set()), **options)
        seconds = time.perf_counter() - started
    return seconds, run, sum(event.what == "batch" for event in events)


def assert_close(first: Any, second: Any) -> None:
    """Both hold the same values, but for the order of sums over a batch."""
    for name in first.ids[:64]:
        left, right = (run.read_image(name)["value"] for run in (first, second))
        np.testing.assert_allclose(left, right, atol=0.02)


if __name__ == "__main__":
    for result in bench():
        print(result)

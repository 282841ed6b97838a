"""kvtool extract against a bare transformers prefill of the same prepared tensors in the same
batches.

With the demo model, whose pass over a picture takes as long as preparing and storing it; and with a
decoder of random weights in which the model is most of the work, as it is in those that are used.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from tests.bench.rows import Row, row
from tests.support.runs import create_run

IMAGES = 512
LARGE_IMAGES = 128
BATCH = 32
REPEATS = 3
LARGE: dict[str, Any] = {
    "LAYERS": 24,
    "TEXT_DIM": 512,
    "MLP_DIM": 2048,
    "Q_HEADS": 8,
    "KV_HEADS": 2,
}
"""Sizes of the decoder in which the model is most of the work."""


def bench() -> list[Row]:
    from kvtool.demo.layouts import write_scenes

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        scenes = folder / "scenes"
        write_scenes(scenes, size="medium", only=["coco", "spair71k"])
        large = str(large_model(folder / "large"))
        return [
            compared(folder, scenes, "demo", IMAGES, "demo model", 0.9),
            compared(folder, scenes, large, LARGE_IMAGES, "24 layers x 512", 0.97),
        ]


def large_model(folder: Path) -> Path:
    """The demo model with a larger decoder of random weights."""
    from kvtool.demo.training import config as sizes
    from kvtool.demo.training.export import export_model
    from kvtool.demo.training.model import new_model

    with patch.multiple(sizes, **LARGE):
        export_model(new_model(0), folder)
    return folder


def compared(
    folder: Path, scenes: Path, model: str, n_images: int, name: str, target: float
) -> Row:
    """Medians over turns in which each side runs all pictures."""
    job, plan, batches = prepared_batches(folder, scenes, model, n_images)
    n = sum(map(len, batches))
    ours, peer = [], []
    for turn in range(REPEATS):
        peer.append(n / prefill_seconds(job, batches))
        store = folder / f"{Path(model).name}-{turn}.kv"
        ours.append(n / extract_seconds(job, plan, store))
    return row(f"extract, {n} scenes, {name}", "images/s", median(ours), median(peer), target)


def prepared_batches(
    folder: Path, scenes: Path, model_name: str = "demo", limit: int = IMAGES
) -> tuple[Any, Any, list[list[Any]]]:
    """The job, its plan, and its images prepared in the batches that extract makes of them."""
    from kvtool.engine.batches import PartWork, Pool, Waiting
    from kvtool.engine.match import open_extraction
    from kvtool.engine.plan import Job, make_plan
    from kvtool.engine.ready_parts import prepare_one
    from kvtool.models import load_model

    job = Job(str(folder / "x.kv"), model_name, f"folder:{scenes}", limit=limit, batch_size=BATCH)
    model = load_model(job.model, dtype=job.dtype)
    plan = make_plan(open_extraction(job), model, None, None)
    pool = Pool(lambda _: BATCH)
    images = [prepare_one(plan, model, index, True, lambda _: None) for index in plan.indices]
    pool.add([Waiting(item, PartWork("", [], ExitStack())) for item in images if item])
    batches = [batch for group in pool.take(lambda _: 1, ends=True) for batch in group]
    return job, plan, [[image.item for image in batch] for batch in batches]


def prefill_seconds(job: Any, batches: Sequence[Sequence[Any]]) -> float:
    """transformers' own forward over prefix and image with its own cache and its head left out (its
    model class).
    """
    import torch

    from kvtool.models import load_model
    from kvtool.models.families.llava import Llava
    from tests.bench.bench_capture import transformers_inputs

    model = load_model(job.model, dtype=job.dtype)
    assert isinstance(model, Llava)
    inputs = [transformers_inputs(model, batch) for batch in batches]
    started = time.perf_counter()
    with torch.inference_mode():
        for batch in inputs:
            model.net.model(**batch, use_cache=True)
    return time.perf_counter() - started


def extract_seconds(job: Any, plan: Any, store: Path) -> float:
    """The whole work of extract on loaded weights: decode, preprocess, run, write with fsync,
    commit.
    """
    from kvtool.engine.pipeline import run_parts
    from kvtool.models import load_model
    from kvtool.store import open_store

    model = load_model(job.model, dtype=job.dtype)
    run = create_run(open_store(store, create=True), plan.config)
    started = time.perf_counter()
    run_parts(
        plan, run, model, plan.parts(set()), batch_size=BATCH, strict=True, tell=lambda _: None
    )
    return time.perf_counter() - started

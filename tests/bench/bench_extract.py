"""kvtool extract against a bare transformers prefill of the same prepared tensors in the same
batches.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.rows import Row, row
from tests.support.runs import create_run

IMAGES = 512
BATCH = 32
REPEATS = 3


def bench() -> list[Row]:
    from kvtool.demo.layouts import write_scenes

    with tempfile.TemporaryDirectory() as folder:
        scenes = Path(folder) / "scenes"
        write_scenes(scenes, size="medium", only=["coco", "spair71k"])
        job, plan, batches = prepared_batches(Path(folder), scenes)
        n = sum(map(len, batches))
        ours, peer = [], []
        for turn in range(REPEATS):
            peer.append(n / prefill_seconds(job, batches))
            ours.append(n / extract_seconds(job, plan, Path(folder) / f"{turn}.kv"))
    return [row(f"extract, {n} scenes, demo model", "images/s", median(ours), median(peer), 0.8)]


def prepared_batches(folder: Path, scenes: Path) -> tuple[Any, Any, list[list[Any]]]:
    """The job, its plan, and its images prepared in the batches that extract makes of them."""
    from kvtool.engine.batches import PartWork, Pool, Waiting
    from kvtool.engine.match import open_extraction
    from kvtool.engine.plan import Job, make_plan
    from kvtool.engine.ready_parts import prepare_one
    from kvtool.models import load_model

    job = Job(str(folder / "x.kv"), "demo", f"folder:{scenes}", limit=IMAGES, batch_size=BATCH)
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

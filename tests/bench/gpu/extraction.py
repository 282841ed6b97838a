"""Prefill against the device's peak, extraction against prefill, and how long the device waits."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.bench.gpu.machine import Bench
from tests.bench.rows import Row, row
from tests.support.runs import create_run

PROFILED_IMAGES = 64
SHARE_OF_DISK = 2
"""A store takes no more than the free room divided by this."""


def prefill(bench: Bench, size: str) -> list[Row]:
    """Prefill alone, in pictures and in operations a second, against a product's rate."""
    rate, flops = bench.subjects[size].prefill
    peak = bench.peak_flops
    return [
        row(f"{size}: prefill / what the peak allows", "images/s", rate, peak / flops, 0.5),
        row(f"{size}: prefill / bf16 product", "TFLOP/s", rate * flops / 1e12, peak / 1e12, 0.5),
    ]


def into_memory(bench: Bench, size: str) -> list[Row]:
    """Extraction into a store in memory against prefill."""
    # The first pass warms up what is loaded late, such as codecs.
    _extracted(bench, size, bench.memory_folder, bench.batch)
    return [_against_prefill(bench, size, "memory", bench.memory_folder, 0.9)[0]]


def onto_disk(bench: Bench, size: str) -> list[Row]:
    """Extraction onto disk against prefill, and against the disk's raw rate."""
    _extracted(bench, size, bench.folder, bench.batch)
    against_prefill, rate, n_bytes = _against_prefill(bench, size, "disk", bench.folder, 0.7)
    raw = _write_rate(bench.folder, 2**24 if bench.is_dry else 2**32) / 1e6
    name = f"{size}: stored / one raw file with fsync"
    return [against_prefill, row(name, "MB/s", n_bytes * rate / 1e6, raw, 0.3)]


def idle(bench: Bench, size: str) -> list[Row]:
    """Share of an extraction's time in which the device computes nothing, as a profiler says."""
    from torch.profiler import ProfilerActivity, profile

    is_cuda = bench.device.type == "cuda"
    activity = ProfilerActivity.CUDA if is_cuda else ProfilerActivity.CPU
    _extracted(bench, size, bench.memory_folder, bench.batch)
    with profile(activities=[activity]) as profiler:
        _, _, seconds = _extracted(bench, size, bench.memory_folder, PROFILED_IMAGES)
    kernels = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type.name == activity.name and not event.name.startswith("Mem")
    ]
    share = 1 - covered(kernels) / 1e6 / seconds
    return [
        row(f"{size}: share of extraction that the device waits", "share", share, 1, 0.1, "lower")
    ]


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of what spans (start, end) cover, which may overlap."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _against_prefill(
    bench: Bench, size: str, medium: str, parent: Path, target: float
) -> tuple[Row, float, float]:
    """Return the row, pictures a second, and the bytes stored of a picture."""
    prefill_rate, _ = bench.subjects[size].prefill
    n_bytes, n_images, seconds = _extracted(bench, size, parent, bench.n_images)
    name = f"{size}: extract {n_images} to {medium} / prefill alone"
    rate = n_images / seconds
    return row(name, "images/s", rate, prefill_rate, target), rate, n_bytes / n_images


def _extracted(bench: Bench, size: str, parent: Path, limit: int) -> tuple[int, int, float]:
    """Extract into a new store, which goes. Returns bytes stored, pictures (as many as there is
    room for), and seconds of all but loading: decode, preprocess, run, write with fsync, commit.
    """
    from kvtool.engine.match import open_extraction
    from kvtool.engine.pipeline import run_parts
    from kvtool.engine.plan import Job, make_plan
    from kvtool.store import open_store

    subject, store = bench.subjects[size], parent / "bench.kv"
    model, data = subject.model, f"folder:{bench.pictures}"
    job = Job(str(store), str(subject.folder), data, limit=limit, batch_size=bench.batch)
    plan = make_plan(open_extraction(job), model, None, None)
    room = shutil.disk_usage(parent).free // SHARE_OF_DISK // plan.image_bytes
    n_images = min(len(plan.indices), room)
    if n_images < min(len(plan.indices), bench.batch):
        raise OSError(f"{parent}: room for {room} pictures of {plan.image_bytes / 1e6:.0f} MB")
    plan = replace(plan, indices=plan.indices[:n_images])
    stored: list[int] = []

    def tell(event: Any) -> None:
        """Take in the bytes of each part."""
        if event.what == "bytes":
            stored.append(event.n)

    run = create_run(open_store(store, create=True), plan.config)
    started = time.perf_counter()
    options: dict[str, Any] = {"batch_size": bench.batch, "strict": True, "tell": tell}
    try:
        run_parts(plan, run, model, plan.parts(set()), **options)
        return sum(stored), n_images, time.perf_counter() - started
    finally:
        shutil.rmtree(store)


def _write_rate(folder: Path, n_bytes: int) -> float:
    """Return bytes a second of writing one file, fsync included."""
    block = os.urandom(2**24)
    path = folder / "raw"
    started = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(max(1, n_bytes // len(block))):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        n_written = file.tell()
    seconds = time.perf_counter() - started
    path.unlink()
    return n_written / seconds

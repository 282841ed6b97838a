"""Prefill against the device's peak, extraction against prefill, and how long the device waits."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.store import Run, open_store
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
    """Extraction into a store in memory against prefill, and what it stored against a capture that
    waits for each batch.
    """
    # The first pass warms up what is loaded late, such as codecs.
    with _extracted(bench, size, bench.memory_folder, bench.batch) as extracted:
        share = _share_equal(bench, size, extracted.run)
    with _extracted(bench, size, bench.memory_folder, bench.n_images) as extracted:
        against_prefill = _against_prefill(bench, size, "memory", extracted, 0.9)
    n_compared = len(bench.subjects[size].prepared[: bench.batch])
    name = f"{size}: stored bits equal to a capture's, {n_compared} images"
    return [against_prefill, row(name, "share", share, 1, 1.0)]


def onto_disk(bench: Bench, size: str) -> list[Row]:
    """Extraction onto disk against prefill, and against the disk's raw rate."""
    with _extracted(bench, size, bench.folder, bench.batch):
        """Warms up."""
    with _extracted(bench, size, bench.folder, bench.n_images) as extracted:
        against_prefill = _against_prefill(bench, size, "disk", extracted, 0.7)
        mbytes = extracted.n_bytes / extracted.seconds / 1e6
    raw = _write_rate(bench.folder, 2**24 if bench.is_dry else 2**32) / 1e6
    return [
        against_prefill,
        row(f"{size}: stored / one raw file with fsync", "MB/s", mbytes, raw, 0.3),
    ]


def idle(bench: Bench, size: str) -> list[Row]:
    """Share of an extraction's time in which the device computes nothing, as a profiler says."""
    from torch.profiler import ProfilerActivity, profile

    is_cuda = bench.device.type == "cuda"
    activity = ProfilerActivity.CUDA if is_cuda else ProfilerActivity.CPU
    with _extracted(bench, size, bench.memory_folder, bench.batch):
        """Warms up."""
    with (
        profile(activities=[activity]) as profiler,
        _extracted(bench, size, bench.memory_folder, PROFILED_IMAGES) as extracted,
    ):
        bench.synchronize()
    kernels = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type.name == activity.name and not event.name.startswith("Mem")
    ]
    share = 1 - covered(kernels) / 1e6 / extracted.seconds
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


@dataclass(frozen=True)
class Extracted:
    """A run that was extracted, the bytes and pictures that it holds, and the seconds of all but
    loading: decode, preprocess, run, write with fsync, commit.
    """

    run: Run
    n_bytes: int
    n_images: int
    seconds: float


def _against_prefill(
    bench: Bench, size: str, medium: str, extracted: Extracted, target: float
) -> Row:
    prefill_rate, _ = bench.subjects[size].prefill
    name = f"{size}: extract {extracted.n_images} to {medium} / prefill alone"
    return row(name, "images/s", extracted.n_images / extracted.seconds, prefill_rate, target)


def _share_equal(bench: Bench, size: str, run: Run) -> float:
    """Return which share of a batch's stored arrays has the bits that a capture gives."""
    subject = bench.subjects[size]
    items = subject.prepared[: bench.batch]
    captured = subject.model.capture(items, subject.model.request(None, None))
    equal = [
        np.array_equal(run.read_image(run.ids[position], raw=True)[name], arrays[position])
        for name, arrays in captured.arrays.items()
        for position in range(len(items))
    ]
    return float(np.mean(equal))


@contextmanager
def _extracted(bench: Bench, size: str, parent: Path, limit: int) -> Iterator[Extracted]:
    """Extract as many pictures as there is room for, up to a limit, into a new store, which goes
    in the end. Raises OSError where there is no room for a batch.
    """
    from kvtool.engine.match import open_extraction
    from kvtool.engine.pipeline import run_parts
    from kvtool.engine.plan import Job, make_plan

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
        seconds = time.perf_counter() - started
        run.refresh()
        yield Extracted(run, sum(stored), n_images, seconds)
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

"""Variance over a stored run of LLaVA-OneVision 7B's shape (two of its 28 layers), against the
store's own streaming.

`python -m tests.bench.bench_variance [--images N]` prints the rows; bench() returns them. Needs
about 2 MB of disk an image while it runs. Both sides read the same bytes from a warm page cache, in
this process, as a user gets them: the stream as float32, the variance with its interval. The best
of several turns counts on either side, since other work on the machine only ever adds time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np

from kvtool.features.variances import measure
from kvtool.store import Run, float32_to_bits, open_store, part_name
from tests.bench import bench_store as shape
from tests.bench.rows import Row, row
from tests.support.runs import create_run

LAYERS = 2
REPEATS = 7


def bench(n_images: int = 512) -> list[Row]:
    """All rows. The files go into a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="bench-variance-") as folder:
        many = write(Path(folder) / "many.kv", n_images)
        few = write(Path(folder) / "few.kv", n_images // 4)
        return [rate(many, n_images), memory(few, many, n_images)]


def write(path: Path, n_images: int) -> Run:
    """Keys of `n_images`, whole parts of them, as bench_store makes them."""
    layers = tuple(range(LAYERS))
    run = create_run(
        open_store(path, create=True), replace(shape.config(), kinds=("key",), layers=layers)
    )
    scales = np.random.default_rng(0).normal(0, 0.6, (LAYERS, shape.HEADS, 1, shape.DIM))
    means = np.random.default_rng(1).normal(0, 0.8, scales.shape)
    for start in range(0, n_images, shape.PART_IMAGES):
        field = shape.smooth_field(np.random.default_rng(start))
        keys = np.stack(
            [
                float32_to_bits((np.exp(scale) * (field + mean)).astype(np.float32))
                for scale, mean in zip(scales, means, strict=True)
            ]
        )
        images = [shape.sample(start + offset) for offset in range(shape.PART_IMAGES)]
        text = np.empty((LAYERS, shape.HEADS, 0, shape.DIM), np.uint16)
        run.commit_part(part_name(start, start + len(images)), images, {"key": keys}, {"key": text})
    return run


def rate(run: Run, n_images: int) -> Row:
    """Stored values worked on a second, in MB as stored."""
    megabytes = n_images * LAYERS * shape.HEADS * shape.HEAD_NBYTES / 1e6
    ours, peer = [], []
    for _ in range(REPEATS):
        peer.append(shape.timed(lambda: deque(run.stream("key"), maxlen=0)))
        ours.append(shape.timed(lambda: measure(run, "key", 0)))
    name = f"variance of {n_images} images / the store's stream of the same bytes"
    return row(name, "MB/s", megabytes / min(ours), megabytes / min(peer), 0.6)


def memory(few: Run, many: Run, n_images: int) -> Row:
    """Peak memory of a process that does it over all images, against one that does it over a
    quarter of them.
    """
    ours, peer = peak_mb(many.store), peak_mb(few.store)
    return row(
        f"variance: peak memory at {n_images} images / at {n_images // 4}",
        "MB",
        ours,
        peer,
        1.1,
        "lower",
    )


def peak_mb(store: Path) -> float:
    command = [sys.executable, "-m", "tests.bench.bench_variance", "--peak", str(store)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(store: str) -> None:
    measure(open_store(store).run(), "key", 0)
    status = Path("/proc/self/status").read_text()  # ru_maxrss would begin at the parent's peak
    sys.stdout.write(f"{int(status.split('VmHWM:')[1].split()[0]) * 1024 / 1e6:.1f}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=512, help="images, a multiple of 64")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print_peak(options.peak)
        return
    for figures in bench(options.images):
        sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()

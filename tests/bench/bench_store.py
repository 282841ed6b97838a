"""How fast and how small the store is on parts of LLaVA-OneVision 7B's shape, each figure beside a
plain peer.

`python -m tests.bench.bench_store [--dir DIR] [--images N]` prints the rows; bench() returns them.
Needs about 110 MB of disk an image while it runs, and deletes it.

The values are made up, after what is known of such caches: each channel has a mean and a scale of
its own, drawn wide, with a few outlier channels far above the rest (stronger in keys); neighbouring
tokens of the grid are alike. They are no noise of one scale, but no real model's either: real keys
vary more between heads and layers, and a channel whose mean is far above its spread packs better.
Seven mantissa bits and most signs are close to random in both.

Rates are the best of several tries on either side, since other work on the machine only ever adds
time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kvtool.store import Run, RunConfig, float32_to_bits, open_store, part_name
from kvtool.types import Geometry, GridSpan, ModelInfo, Sample
from tests.bench.cores import one_core
from tests.bench.rows import Row, row
from tests.support.runs import create_run

LAYERS, HEADS, GRID, DIM = 28, 4, 27, 128
TOKENS = GRID * GRID
PART_IMAGES = 16
HEAD_NBYTES = TOKENS * DIM * 2
REPEATS = 3
BLOCKS = [(3, 1), (10, 3), (14, 0), (21, 2), (27, 1)]
Bits = NDArray[np.uint16]


def bench(folder: Path | None = None, n_images: int = 64) -> list[Row]:
    """All rows. The files go into a temporary folder in `folder`."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-store-") as path:
        return _bench(Path(path), n_images - n_images % PART_IMAGES)


def _bench(root: Path, n_images: int) -> list[Row]:
    run = create_run(open_store(root / "bench.kv", create=True), config())
    (root / "plain").mkdir()
    (root / "torch").mkdir()
    part_mb = PART_IMAGES * 2 * LAYERS * HEADS * HEAD_NBYTES / 1e6
    rates: dict[str, list[float]] = {"ours": [], "plain": []}
    for start in range(0, n_images, PART_IMAGES):
        arrays = part_arrays(start)
        plain_s = timed(lambda: write_plain(root / "plain", arrays, start))  # noqa: B023
        rates["plain"].append(part_mb / plain_s)
        rates["ours"].append(part_mb / timed(lambda: write_ours(run, arrays, start)))  # noqa: B023
        write_torch(root / "torch", arrays, start)
        write_blocks(root / "memmap", arrays)
    raw_mb = part_mb * n_images / PART_IMAGES
    rows = [
        row(
            "store: write with fsync / plain files",
            "MB/s",
            max(rates["ours"]),
            max(rates["plain"]),
            0.3,
        ),
        row("store: size / raw", "MB", run.info()["bytes"] / 1e6, raw_mb, 0.82, "lower"),
    ]
    return rows + read_rows(root, n_images) + memory_rows(root, n_images)


def read_rows(root: Path, n_images: int) -> list[Row]:
    """One (layer, kv_head) of the keys over all images, cold, raw bits, on one core."""
    run = open_store(root / "bench.kv").run()
    readers: dict[str, Callable[[int, int], Bits]] = {
        "ours": lambda layer, head: run.read("key", layer, head, raw=True).values,
        "memmap": lambda layer, head: read_memmap(root / "memmap", layer, head),
        "torch": lambda layer, head: read_torch(root / "torch", layer, head),
    }
    mb = n_images * HEAD_NBYTES / 1e6
    for layer, head in BLOCKS:
        expected = readers["memmap"](layer, head)
        assert np.array_equal(readers["ours"](layer, head), expected), (
            "the sides disagree: the figures mean nothing"
        )
    assert np.array_equal(readers["torch"](*BLOCKS[0]), readers["ours"](*BLOCKS[0]))
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for repeat in range(REPEATS):
        for layer, head in BLOCKS:
            for name, read in readers.items():
                if name == "torch" and (repeat or (layer, head) not in BLOCKS[:2]):
                    continue  # seconds each
                drop_page_cache(root)
                with one_core():
                    rates[name].append(mb / timed(lambda: read(layer, head)))  # noqa: B023
    best = {name: max(speeds) for name, speeds in rates.items()}
    return [
        row(
            "store: read one head, cold / a torch.save file an image",
            "MB/s",
            best["ours"],
            best["torch"],
            20,
        ),
        row("store: read one head, cold / np.memmap", "MB/s", best["ours"], best["memmap"], 0.7),
    ]


def memory_rows(root: Path, n_images: int) -> list[Row]:
    """Peak memory of a process that imports the store and reads one head, against 1.5 x the bytes
    asked + 200 MB.
    """
    rows = []
    for raw, itemsize in ((True, 2), (False, 4)):
        command = [
            sys.executable,
            "-m",
            "tests.bench.bench_store",
            "--peak",
            str(root / "bench.kv"),
            *["--raw"] * raw,
        ]
        peak_mb = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        limit_mb = 1.5 * n_images * TOKENS * DIM * itemsize / 1e6 + 200
        dtype = "as stored" if raw else "float32"
        name = f"store: peak memory of that read ({dtype}) / 1.5 x asked + 200 MB"
        rows.append(row(name, "MB", peak_mb, limit_mb, 1.0, "lower"))
    return rows


def print_peak(store: str, raw: bool) -> None:
    open_store(store).run().read("key", 14, 2, raw=raw)
    status = Path("/proc/self/status").read_text()  # ru_maxrss would begin at the parent's peak
    peak_kb = int(status.split("VmHWM:")[1].split()[0])
    sys.stdout.write(f"{peak_kb * 1024 / 1e6:.1f}\n")


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def drop_page_cache(root: Path) -> None:
    """Ask the kernel to forget the (synced) files' pages."""
    for path in root.rglob("*"):
        if path.is_file():
            with opened(path, os.O_RDONLY) as fd:
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def config() -> RunConfig:
    geometry = Geometry(LAYERS, 28, HEADS, DIM, 3584, 26, 1152)
    model = ModelInfo("bench", "0", "llava-onevision", geometry, "bfloat16", "sdpa")
    layers = tuple(range(LAYERS))
    return RunConfig(
        "bench",
        model,
        "bench",
        None,
        "all",
        "none",
        "base",
        "post-rope",
        ("key", "value"),
        layers,
        (),
    )


def sample(index: int) -> Sample:
    span = GridSpan("base", 0, (GRID, GRID), GRID, (0.0, 0.0, 384.0, 384.0))
    name = f"image{index:06d}"
    return Sample(name, index, (384, 384), TOKENS, (span,), 0, (), "", (), 0, TOKENS)


def part_arrays(start: int) -> dict[str, Bits]:
    """Keys and values (layer, head, tokens of 16 images, dim) as bfloat16 bits.

    All layers share one smooth field, its channels permuted and scaled anew for each: the codec
    sees one chunk at a time, so that the sharing gains it nothing.
    """
    rng = np.random.default_rng(start)
    field = smooth_field(rng)
    arrays = {}
    for kind, outliers in (("key", 4), ("value", 1)):
        bits = np.empty((LAYERS, HEADS, PART_IMAGES * TOKENS, DIM), np.uint16)
        for layer in range(LAYERS):
            scale = np.exp(rng.normal(0, 0.6 if kind == "key" else 0.3, (HEADS, 1, DIM)))
            scale[:, :, rng.choice(DIM, outliers, replace=False)] *= 12
            mean = scale * rng.normal(0, 0.8 if kind == "key" else 0.2, (HEADS, 1, DIM))
            shuffled = field[:, :, rng.permutation(DIM)]
            bits[layer] = float32_to_bits((shuffled * scale + mean).astype(np.float32))
        arrays[kind] = bits
    return arrays


def smooth_field(rng: np.random.Generator) -> NDArray[np.float32]:
    """(head, token, dim) of unit variance: shared by an image's tokens, shared by neighbours, and
    each one's own.
    """
    image = rng.standard_normal((HEADS, PART_IMAGES, 1, 1, DIM), np.float32)
    coarse = rng.standard_normal((HEADS, PART_IMAGES, GRID // 3, GRID // 3, DIM), np.float32)
    fine = rng.standard_normal((HEADS, PART_IMAGES, GRID, GRID, DIM), np.float32)
    blocky = coarse.repeat(3, axis=2).repeat(3, axis=3)
    field: NDArray[np.float32] = 0.5 * image + 0.65 * blocky + 0.57 * fine
    return field.reshape(HEADS, PART_IMAGES * TOKENS, DIM)


def write_ours(run: Run, arrays: dict[str, Bits], start: int) -> None:
    samples = [sample(start + offset) for offset in range(PART_IMAGES)]
    empty = np.empty((LAYERS, HEADS, 0, DIM), np.uint16)
    assert run.commit_part(
        part_name(start, start + PART_IMAGES), samples, arrays, {"key": empty, "value": empty}
    )


def write_plain(folder: Path, arrays: dict[str, Bits], start: int) -> None:
    """One file a layer, synced: what a disk does at best."""
    for kind, values in arrays.items():
        for layer in range(LAYERS):
            with opened(folder / f"{kind}-{start}-{layer}", os.O_WRONLY | os.O_CREAT) as fd:
                os.write(fd, values[layer].data)
                os.fsync(fd)
    for path in folder.iterdir():  # only their writing is of interest
        path.unlink()


def write_torch(folder: Path, arrays: dict[str, Bits], start: int) -> None:
    import torch

    for image in range(PART_IMAGES):
        tokens = slice(image * TOKENS, (image + 1) * TOKENS)
        tensors = {
            kind: torch.from_numpy(values[:, :, tokens].copy()).view(torch.bfloat16)
            for kind, values in arrays.items()
        }
        torch.save(tensors, folder / f"{start + image:06d}.pt")


def read_torch(folder: Path, layer: int, head: int) -> Bits:
    import torch

    heads = [
        torch.load(path, weights_only=True)["key"][layer, head].clone()
        for path in sorted(folder.iterdir())
    ]
    values: Bits = torch.cat(heads).view(torch.uint16).numpy()
    return values


def write_blocks(folder: Path, arrays: dict[str, Bits]) -> None:
    """The keys of each measured block, all images after each other in one raw file: the best layout
    for that read.
    """
    folder.mkdir(exist_ok=True)
    for layer, head in BLOCKS:
        with (folder / f"{layer}-{head}").open("ab") as file:
            file.write(arrays["key"][layer, head].data)


def read_memmap(folder: Path, layer: int, head: int) -> Bits:
    return np.array(np.memmap(folder / f"{layer}-{head}", np.uint16, "r").reshape(-1, DIM))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, help="folder for the files; default: a temporary one")
    parser.add_argument("--images", type=int, default=64, help="images, a multiple of 16")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--raw", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print_peak(options.peak, options.raw)
        return
    for figures in bench(options.dir, options.images):
        sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()

"""`make bench-gpu`: what kvtool costs on a GPU, in at most eight minutes, without a network.

Names as arguments choose sections; `--dry` runs all of them on the CPU at tiny sizes. Needs, beside
torch and transformers, what `import kvtool` needs; FAISS where it is installed. Models have random
weights, made on the device. Writes build/bench-gpu.json after every section, and prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from tests.bench.gpu.machine import Bench
from tests.bench.gpu.sections import SECTIONS, Record, run_section
from tests.bench.table import table_of

OUT = Path("build/bench-gpu.json")
DRY_OUT = Path("build/bench-gpu-dry.json")
SECONDS = 450.0
"""For all sections together: what is left of eight minutes after imports and the table."""
MEMORY = Path("/dev/shm")
LOG_COLUMNS = 140


def main(arguments: Sequence[str]) -> None:
    """Run the sections that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--dry", action="store_true", help="on the CPU, at tiny sizes")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all sections")
    parser.add_argument("--folder", type=Path, help="on the disk to write to")
    parser.add_argument("--out", type=Path, help=f"the JSON file; {OUT}, {DRY_OUT} with --dry")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(SECTIONS):
        parser.error(f"sections are {', '.join(SECTIONS)}, found {', '.join(sorted(unknown))}")
    if not options.dry and not torch.cuda.is_available():
        parser.error("expected a CUDA device, found none; --dry runs on the CPU")
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as disk,
        tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as memory,
    ):
        bench = dry_bench(disk, memory) if options.dry else cuda_bench(disk, memory)
        out = options.out or (DRY_OUT if options.dry else OUT)
        records = run(options.names or list(SECTIONS), bench, options.seconds, out)
    if options.dry:
        print(
            "dry: tiny sizes on the CPU; rows and targets are of a GPU, and mean nothing here",
            file=sys.stderr,
        )
    report(records)


def dry_bench(disk: str, memory: str) -> Bench:
    """Return the CPU, with work for seconds."""
    return Bench(torch.device("cpu"), Path(disk), Path(memory), n_images=3, batch=2, is_dry=True)


def cuda_bench(disk: str, memory: str) -> Bench:
    """Return the first GPU."""
    return Bench(torch.device("cuda", 0), Path(disk), Path(memory))


def run(names: Sequence[str], bench: Bench, seconds: float, out: Path) -> list[Record]:
    """Run sections one after the other; write what there is after each."""
    ends = time.perf_counter() + seconds
    records: list[Record] = []
    out.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        print(f"bench-gpu: {name} ...", file=sys.stderr, flush=True)
        records.append(run_section(name, bench, ends - time.perf_counter()))
        document = {"machine": machine(bench), "sections": records}
        out.write_text(json.dumps(document, indent=2) + "\n")
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
    print(f"written to {out}", file=sys.stderr)
    return records


def machine(bench: Bench) -> dict[str, Any]:
    """Return what the figures are of."""
    is_cuda = bench.device.type == "cuda"
    packages = ("torch", "transformers", "numpy", "numcodecs", "zarr")
    return {
        "device": torch.cuda.get_device_name(bench.device) if is_cuda else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "dry": bench.is_dry,
    }


def _version(package: str) -> str | None:
    """Return a package's version; None where it is only a folder on the path."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def report(records: Sequence[Record]) -> None:
    """Print the table, and below it the sections that ended early."""
    # A log has no width of its own: names must not be broken there.
    console = Console(width=None if sys.stdout.isatty() else LOG_COLUMNS)
    console.print(table_of(row for record in records for row in record["rows"]))
    for record in records:
        if record["error"]:
            console.print(f"{record['name']}: ERROR after {record['seconds']:.0f} s:", end=" ")
            console.print(record["error"], markup=False)


if __name__ == "__main__":
    main(sys.argv[1:])

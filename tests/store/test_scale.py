"""Memory stays bounded, and a thousand parts open quickly."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from cProfile import Profile
from dataclasses import replace
from pathlib import Path
from pstats import Stats

import numpy as np
import pytest

from kvtool.store import Run, durable, open_store, part_name, sealed
from kvtool.store.sealed import SEAL, group_json
from kvtool.types import Geometry
from tests.support.runs import MODEL, new_run, sample

PEAK = """
import sys
from pathlib import Path
from kvtool.store import open_store
run = open_store(sys.argv[1]).run()
run.samples
def peak(): return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
before = peak()
values = run.read("value", 1, 0, raw=sys.argv[2] == "raw").values
print(peak() - before, values.nbytes)
"""


def big_run(path: Path) -> Run:
    """One head of 160 MB in 20 parts."""
    geometry = Geometry(5, 1, 1, 128, 1, 1, 1)
    run = new_run(path, kinds=("value",), layers=(1,), model=replace(MODEL, geometry=geometry))
    values = np.arange(32_000 * 128, dtype=np.uint16).reshape(1, 1, 32_000, 128)
    for start in range(0, 80, 4):
        images = [sample(index, n_tokens=8000, n_prefix=0) for index in range(start, start + 4)]
        run.commit_part(part_name(start, start + 4), images, {"value": values})
    return run


@pytest.mark.slow
def test_peak_memory_of_reading_a_head_is_little_more_than_its_values(tmp_path: Path) -> None:
    run = big_run(tmp_path)
    for form, itemsize in (("raw", 2), ("float32", 4)):
        command = [sys.executable, "-c", PEAK, str(run.store), form]
        grown, nbytes = map(
            int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        )
        assert nbytes == 80 * 8000 * 128 * itemsize
        assert nbytes <= grown <= nbytes * 1.2 + 40e6  # a few chunks of 2 MB a thread


def run_of_parts(path: Path, n_parts: int) -> Run:
    """Parts of one image each, whose arrays are those of the first."""
    run = new_run(path, kinds=("projected",))
    run.commit_part(part_name(0, 1), [sample(0)], {"projected": np.zeros((1, 1, 6, 12), np.uint16)})
    first = run.folder / "parts" / part_name(0, 1)
    template = (first / "zarr.json").read_bytes()
    for index in range(1, n_parts):
        folder = run.folder / "parts" / part_name(index, index + 1)
        shutil.copytree(first, folder)
        _write_like(folder / "zarr.json", template, index)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("step", ["opening", "resuming", "reading"])
def test_the_work_for_a_part_does_not_grow_with_their_number(tmp_path: Path, step: str) -> None:
    """Counted in calls of functions, which no other process changes."""
    costs = []
    for n_parts in (50, 500):
        store = run_of_parts(tmp_path / str(n_parts), n_parts).store
        profile = Profile()
        profile.runcall(STEPS[step], store)
        costs.append(Stats(profile).total_calls / n_parts)  # type: ignore[attr-defined]
    assert 0.8 < costs[1] / costs[0] < 1.2


def _resume(store: Path) -> None:
    """Look which images are there, and at their files."""
    run = open_store(store).run()
    run.check_files()
    assert run.covered_indices()


STEPS: dict[str, Callable[[Path], object]] = {
    "opening": lambda store: open_store(store).run().ids,
    "resuming": _resume,
    "reading": lambda store: open_store(store).run().read("projected", 0, 0),
}


@pytest.mark.slow
def test_a_thousand_parts_open_by_reading_one_file_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of_parts(tmp_path, 1000)
    read: list[Path] = []
    real_read = durable.read_file

    def counted(path: Path) -> bytes:
        read.append(path)
        return real_read(path)

    monkeypatch.setattr(sealed, "read_file", counted)
    started = time.perf_counter()
    ids = open_store(run.store).run().ids
    seconds = time.perf_counter() - started
    assert ids == [f"image{index}" for index in range(1000)]
    assert len([path for path in read if "parts" in path.parts]) == 1000
    assert seconds < 5  # a fraction of a second where nobody else is at work


def _write_like(path: Path, template: bytes, index: int) -> None:
    attributes = json.loads(template)["attributes"]
    del attributes[SEAL]
    attributes["samples"]["shared"] |= {"id": f"image{index}", "index": index}
    path.write_bytes(group_json(attributes))

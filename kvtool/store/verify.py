"""Read every byte of a store against its checksums and list all that is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kvtool.errors import CorruptError
from kvtool.store import indexes, layout
from kvtool.store.arrays import StoredArray
from kvtool.store.catalog import Store
from kvtool.store.encoding import Bits
from kvtool.store.files import crc32c, is_stale_scratch, read_group
from kvtool.store.manifest import Part, token_offsets
from kvtool.store.nonfinite import WHAT, count_nonfinite, describe
from kvtool.store.run import Run
from kvtool.store.shards import OpenShard, Request, Rows

STALE_TMP_S = 86400.0
Progress = Callable[[int], object]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong; run, part and array are empty where it lies above them."""

    run: str
    part: str
    array: str
    what: str


def verify(store: Store, progress: Progress | None = None) -> list[Problem]:
    """All problems of a store, none raised. progress(1) is called after each part."""
    return list(_verify_store(store, progress or (lambda _: None)))


def _verify_store(store: Store, progress: Progress) -> Iterator[Problem]:
    yield from _foreign(store.path, {layout.ZARR_JSON, *layout.ROOT_FOLDERS, layout.PICTURES}, "", "", "")
    yield from _verify_tmp(layout.tmp_path(store.path))
    yield from _verify_results(store)
    for path in _entries(layout.pictures_path(store.path)):
        if not path.is_dir():
            yield Problem("", "", "", f"{layout.PICTURES}/{path.name}: not a file of kvtool")
    for folder in _entries(layout.runs_path(store.path)):
        try:
            run = store.run(folder.name)
        except Exception as error:  # noqa: BLE001  whatever a damaged file makes of it is what we list
            yield Problem(folder.name, "", "", f"cannot be opened: {error}")
            continue
        yield from _verify_run(run, progress)


def _verify_tmp(folder: Path) -> Iterator[Problem]:
    for path in _entries(folder):
        stale = is_stale_scratch(path)
        old = stale is None and path.exists() and time.time() - path.stat().st_mtime > STALE_TMP_S
        if stale or old:
            yield Problem(
                "",
                "",
                "",
                f"tmp/{path.name}: left by a process that is gone: delete it",
            )


def _verify_results(store: Store) -> Iterator[Problem]:
    for path in _entries(store.results_dir):
        try:
            if path.suffix != ".json":
                yield Problem("", "", "", f"results/{path.name}: not a file of kvtool")
            else:
                store.load_result(path.stem)
        except Exception as error:  # noqa: BLE001
            yield Problem("", "", "", f"results/{path.name}: {error}")


def _verify_run(run: Run, progress: Progress) -> Iterator[Problem]:
    yield from _foreign(run.folder, {layout.ZARR_JSON, *layout.RUN_FOLDERS, layout.INDEXES}, run.name, "", "")
    for group in layout.RUN_FOLDERS:
        try:
            read_group(run.folder / group, f"run {run.name}, group {group}")
        except (CorruptError, OSError) as error:
            yield Problem(run.name, "", "", str(error))
    owners: dict[int | str, str] = {}
    for folder in _entries(run.folder / "parts"):
        if layout.part_range(folder.name) is None:
            yield Problem(run.name, folder.name, "", "not a part: expected a name like 0000000-0000032")
            continue
        yield from _verify_part(run, "parts", folder, owners)
        progress(1)
    for folder in _entries(run.folder / "text"):
        yield from _verify_part(run, "text", folder, owners)
    for name, what in indexes.problems(run):
        yield Problem(run.name, f"{layout.INDEXES}/{name}".rstrip("/"), "", what)


def _verify_part(run: Run, group: str, folder: Path, owners: dict[int | str, str]) -> Iterator[Problem]:
    label = folder.name if group == "parts" else f"{group}/{folder.name}"
    try:
        part = run.open_part(group, folder.name)
        arrays = part.arrays
        problems = list(_verify_samples(run, part, owners) if group == "parts" else ())
    except Exception as error:  # noqa: BLE001
        yield Problem(run.name, label, "", f"cannot be opened: {error}")
        return
    yield from problems
    yield from _foreign(folder, {layout.ZARR_JSON, *arrays}, run.name, label, "")
    for name, array in arrays.items():
        expected = {layout.ZARR_JSON, *(array.spec.shard_name(i) for i in range(array.spec.n_shards))}
        yield from _foreign(array.folder, expected, run.name, label, name)
        nonfinite: dict[tuple[int, int], int] = {}
        yield from (Problem(run.name, label, name, what) for what in dict.fromkeys(_verify_array(array, nonfinite)))
        if nonfinite:
            layers = run.config.stored_layers(name)
            places = describe(
                [(name, layers[layer], head) for layer, head in nonfinite if layer < len(layers)], run.config
            )
            yield Problem(run.name, label, name, f"{sum(nonfinite.values())} {WHAT}: {places}")


def _verify_samples(run: Run, part: Part, owners: dict[int | str, str]) -> Iterator[Problem]:
    for sample in part.samples:
        for key, what in ((sample.index, "image with index"), (sample.id, "image with id")):
            if key in owners:
                yield Problem(run.name, part.name, "", f"{what} {key!r} is in part {owners[key]} too: remove one part")
            owners[key] = part.name
    for name in run.config.array_names():
        offsets = token_offsets(part.samples, name)
        if part.offsets(name) != offsets:
            yield Problem(run.name, part.name, name, "its token offsets are not those of its images")
        heads, dim = run.config.heads_and_dim(name)
        shape = (len(run.config.stored_layers(name)), heads, offsets[-1], dim)
        found = part.arrays[name].spec.shape if name in part.arrays else None
        if found != shape and not (found is None and 0 in shape):
            yield Problem(run.name, part.name, name, f"expected an array of shape {shape}, found {found or 'none'}")


def _verify_array(array: StoredArray, nonfinite: dict[tuple[int, int], int]) -> Iterator[str]:
    """What is wrong with an array's files; values that are not finite are counted by (layer position, head)."""
    path = array.folder / layout.ZARR_JSON
    if not path.exists():
        yield f"file {path.name} is missing"
    elif (found := f"{crc32c(path.read_bytes()):08x}") != array.metadata_crc32c:
        yield f"file {path.name}: expected crc32c {array.metadata_crc32c}, found {found}: damaged"
    spec = array.spec
    out = np.empty((spec.shape[1], spec.shape[2], spec.shape[3]), spec.storage)
    starts = range(0, spec.shape[2], spec.chunk_tokens)
    for layer in range(spec.shape[0]):
        try:
            _read(Request(array, layer, range(spec.shape[1]), [Rows(0, spec.shape[2], 0)]), out)
        except (CorruptError, OSError):
            yield from _chunk_problems(array, layer, starts, out)
            continue
        nonfinite |= {(layer, head): count for head, of in enumerate(out) if (count := count_nonfinite(of))}


def _chunk_problems(array: StoredArray, layer: int, starts: Iterable[int], out: Bits) -> Iterator[str]:
    """Every damaged chunk of a layer that could not be read in one go."""
    spec = array.spec
    for head in range(spec.shape[1]):
        for start in starts:
            rows = Rows(start, min(start + spec.chunk_tokens, spec.shape[2]), 0)
            try:
                _read(Request(array, layer, range(head, head + 1), [rows]), out)
            except (CorruptError, OSError) as error:
                yield str(error).removeprefix(f"{array.where}: ")


def _read(request: Request, out: Bits) -> None:
    shard = OpenShard(request)
    try:
        shard.read_into(out)
    finally:
        shard.close()


def _entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != layout.ZARR_JSON) if folder.is_dir() else []


def _foreign(folder: Path, expected: set[str], run: str, part: str, array: str) -> Iterator[Problem]:
    for path in _entries(folder):
        if path.name not in expected:
            yield Problem(run, part, array, f"{path.name}: not a file of kvtool")

"""Check what a run has committed: its parts, texts, segments of the roster and indexes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from kvtool.errors import CorruptError, StoreError
from kvtool.store import indexes, layout
from kvtool.store.arrays import StoredArray
from kvtool.store.durable import FileRecord, read_file, read_record
from kvtool.store.encoding import Bits
from kvtool.store.files import crc32c
from kvtool.store.nonfinite import WHAT, describe
from kvtool.store.parts import Part
from kvtool.store.problems import Mend, Problem, drop_if_corrupt, foreign_files
from kvtool.store.run import Run
from kvtool.store.run_arrays import token_offsets
from kvtool.store.sealed import read_group
from kvtool.store.shards import OpenShard, ReadRequest, Rows


def check_group(folder: Path, run: str, location: str) -> Iterator[Problem]:
    """Yield a problem where a group's zarr.json is missing, damaged or cannot be read."""
    try:
        read_group(folder, location)
    except FileNotFoundError:
        yield Problem(run, "", "", f"{location}: {layout.ZARR_JSON} is missing", "group", folder)
    except CorruptError as error:
        yield Problem(run, "", "", str(error), "group", folder)
    except OSError as error:
        yield Problem(run, "", "", f"{location}: cannot be read: {error.strerror}")


def is_in_place(run: Run, part: Part) -> bool:
    """Return whether a part lies where it was committed, and was neither copied nor renamed."""
    return part.attributes.get("committed_as") == str(part.folder.relative_to(run.store))


def check_member(run: Run, group: str, folder: Path) -> Iterator[Problem]:
    """Yield the problems of one member of a run's group, by what the group holds."""
    if group == layout.INDEXES:
        for what, damaged in indexes.problems(run, folder):
            yield Problem(
                run.name, f"{group}/{folder.name}", "", what, "drop" if damaged else "", folder
            )
    elif group not in ("parts", "text"):
        yield from check_segment(run, group, folder)
    elif group == "parts" and layout.part_range(folder.name) is None:
        yield Problem(run.name, folder.name, "", "not a part: expected a name like 0000000-0000032")
    else:
        yield from _check_part(run, group, folder)


def check_segment(run: Run, group: str, folder: Path) -> Iterator[Problem]:
    """Yield the problems of a folder that is to hold a sealed zarr.json and nothing else."""
    label = f"{group}/{folder.name}"
    try:
        read_group(folder, f"run {run.name}, {label}")
    except FileNotFoundError:
        yield Problem(run.name, label, "", f"{layout.ZARR_JSON} is missing", "restore", folder)
    except (CorruptError, OSError) as error:
        yield Problem(
            run.name,
            label,
            "",
            str(error),
            "restore" if isinstance(error, CorruptError) else "",
            folder,
        )
    yield from foreign_files(folder, {layout.ZARR_JSON}, run.name, label, "")


def _check_part(run: Run, group: str, folder: Path) -> Iterator[Problem]:
    label = folder.name if group == "parts" else f"{group}/{folder.name}"
    try:
        part = run.open_part(group, folder.name)
        arrays = part.arrays
        problems = list(_check_samples(run, part)) if group == "parts" else []
    except StoreError as error:
        yield Problem(
            run.name, label, "", f"cannot be opened: {error}", drop_if_corrupt(error), folder
        )
        return
    # A part copied to another place would hold images under indices that are not its own.
    if not is_in_place(run, part):
        as_ = part.attributes.get("committed_as")
        problems.append(
            Problem(
                run.name, label, "", f"was committed as {as_}: it was moved here", "drop", folder
            )
        )
    yield from problems
    yield from foreign_files(folder, {layout.ZARR_JSON, *arrays}, run.name, label, "")
    # Every file of every array, and every file that is none of its array's.
    for name, array in arrays.items():
        expected = {
            layout.ZARR_JSON,
            *(array.spec.shard_name(i) for i in range(array.spec.n_shards)),
        }
        yield from foreign_files(array.folder, expected, run.name, label, name)
        for what, mend in dict(_check_array(array)).items():
            yield Problem(run.name, label, name, what, mend, folder)
        # Values that are not finite are no damage: they are told, and nothing is mended.
        if counts := part.nonfinite(name):
            layers = run.config.stored_layers(name)
            blocks = describe(
                [(name, layers[layer], head) for layer, head, _ in counts], run.config
            )
            yield Problem(
                run.name, label, name, f"{sum(count for *_, count in counts)} {WHAT}: {blocks}"
            )


def _check_samples(run: Run, part: Part) -> Iterator[Problem]:
    for name in run.config.array_names():
        # Where each image lies follows from its sample: offsets that differ would mix images up.
        offsets = token_offsets(part.samples, name)
        if part.offsets(name) != offsets:
            what = "its token offsets are not those of its images"
            yield Problem(run.name, part.name, name, what, "drop", part.folder)
        elif name not in part.arrays and offsets[-1]:
            what = f"expected an array of {offsets[-1]} tokens, found none"
            yield Problem(run.name, part.name, name, what, "drop", part.folder)


def _check_array(array: StoredArray) -> Iterator[tuple[str, Mend]]:
    """Yield what is wrong with an array's files: each is read once; of a damaged one, every damaged
    chunk.
    """
    path = array.folder / layout.ZARR_JSON
    try:
        checksum = f"{crc32c(read_file(path)):08x}"
        if checksum != array.metadata_crc32c:
            yield (
                f"file {path.name}: expected crc32c {array.metadata_crc32c}, found {checksum}: "
                "damaged",
                "drop",
            )
    except FileNotFoundError:
        yield f"file {path.name} is missing", "drop"
    except OSError as error:
        yield f"file {path.name}: cannot be read: {error.strerror}", ""
    # Each file is read as a whole once; its chunks are looked at only if it differs.
    for shard, expected in enumerate(map(FileRecord, array.shard_nbytes, array.shard_crc32c)):
        name = array.spec.shard_name(shard)
        try:
            record = read_record(array.folder / name)
        except FileNotFoundError:
            yield f"file {name} is missing: {layout.REPAIR}", "drop"
        except OSError as error:
            yield f"file {name}: cannot be read: {error.strerror}", ""
        else:
            if record != expected:
                yield from _damage(array, shard, expected, record)


def _damage(
    array: StoredArray, shard: int, expected: FileRecord, actual: FileRecord
) -> Iterator[tuple[str, Mend]]:
    """Yield every damaged chunk of a shard; where none is, its checksum as a whole."""
    spec = array.spec
    # Chunk by chunk, so that a user learns which values are lost.
    layers = range(shard * spec.shard_layers, (shard + 1) * spec.shard_layers)
    # An index that is damaged gives the same line for each chunk, which is told once.
    whats = list(
        dict.fromkeys(chain.from_iterable(_damaged_chunks(array, layer) for layer in layers))
    )
    name = spec.shard_name(shard)
    as_whole = (
        f"file {name}: expected crc32c {expected.crc32c:08x}, found {actual.crc32c:08x}: "
        f"{layout.REPAIR}"
    )
    for what in whats or [as_whole]:
        yield what, "drop"


def _damaged_chunks(array: StoredArray, layer: int) -> Iterator[str]:
    spec = array.spec
    # One chunk at a time, so that a damaged one does not hide those behind it.
    out = np.empty((1, spec.shape[2], spec.shape[3]), spec.storage)
    for head in range(spec.shape[1]):
        for start in range(0, spec.shape[2], spec.chunk_tokens):
            rows = Rows(start, min(start + spec.chunk_tokens, spec.shape[2]), 0)
            try:
                _read(ReadRequest(array, layer, range(head, head + 1), [rows]), out)
            except StoreError as error:
                yield str(error).removeprefix(f"{array.location}: ")


def _read(request: ReadRequest, out: Bits) -> None:
    shard = OpenShard(request)
    try:
        shard.read_into(out)
    finally:
        shard.close()

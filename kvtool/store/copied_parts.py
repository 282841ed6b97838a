"""A part of a run as it is copied: file by file, or the chosen kinds and layers of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from kvtool.errors import CorruptError, UsageError
from kvtool.geometry import LayerArray, array_kind
from kvtool.layers import LayerChoice, resolve_layers
from kvtool.store import layout, mirrors
from kvtool.store.durable import FileRecord, crc32c, read_file, write_recorded
from kvtool.store.encoding import STORED_DTYPE, Bits
from kvtool.store.files import commit_folder, os_errors, scratch_folder
from kvtool.store.manifest import RunConfig
from kvtool.store.parts import Part
from kvtool.store.run import Run
from kvtool.store.run_arrays import TEXT_KINDS
from kvtool.store.shards import ReadRequest, Rows, read_all
from kvtool.types import Kind

_FILES_AT_ONCE = 8


def chosen_config(
    config: RunConfig, kinds: Sequence[Kind] | None, layers: LayerChoice | None
) -> RunConfig:
    """Return the settings of a run that holds these kinds and layers of another one.

    Raises UsageError for what the run does not store.
    """
    # Stored kinds stay in their own order, for it decides the order of arrays.
    chosen_kinds = config.kinds if kinds is None else tuple(k for k in config.kinds if k in kinds)
    _refuse(config, "kinds", set(kinds or ()) - set(config.kinds), config.kinds)
    # An encoder alone has layers of its tower only.
    is_decoder = bool(config.model.geometry.layers)
    stored_layers = config.layers if is_decoder else config.vision_layers
    depth = config.model.geometry.layers or config.model.geometry.vision_layers
    chosen_layers = resolve_layers(layers, depth)
    if isinstance(layers, str):  # late layers are those of them that are stored
        chosen_layers = tuple(n for n in stored_layers if n in (chosen_layers or ()))
    if chosen_layers is None:
        chosen_layers = stored_layers
    _refuse(config, "layers", set(chosen_layers) - set(stored_layers), stored_layers)
    if not chosen_layers or not chosen_kinds:
        _refuse(config, "kinds and layers", {"none"}, (*config.kinds, *stored_layers))
    new_config = replace(
        config,
        kinds=chosen_kinds,
        layers=chosen_layers if is_decoder else config.layers,
        vision_layers=config.vision_layers if is_decoder else chosen_layers,
    )
    # Nothing is left out: the copy is the run itself, name included.
    if new_config.hash == config.hash:
        return config
    # A name that a user gave stays recognizable; one made of the settings is made anew.
    is_named = replace(config, name="").run_name != config.name
    name = (
        f"{config.name}-{new_config.hash[:8]}"
        if is_named
        else replace(new_config, name="").run_name
    )
    return replace(new_config, name=name)


def _refuse(
    config: RunConfig, what: str, absent: set[str] | set[Kind] | set[int], stored: Sequence[object]
) -> None:
    if absent:
        raise UsageError(
            f"run {config.name}: expected {what} among {', '.join(map(str, stored))}, found "
            f"{', '.join(map(str, sorted(absent)))}"
        )


def check_copy(target: Run, group: str, name: str) -> None:
    """Raise CorruptError where a part or text that the target has does not open, or lacks a file or
    bytes of one. What is in its files, `kvtool store verify` reads.
    """
    label = f"run {target.name}, part {name} of the copy"
    advice = f"`kvtool store repair {mirrors.address_of(target.store)}`, then copy again"
    try:
        part = target.open_part(group, name)
    except CorruptError as error:
        # The message is told of the copy, so that its own location and advice are cut off.
        what = str(error).removesuffix(f": {layout.REPAIR}").partition(": ")[2]
        raise CorruptError(f"{label}: {what}: {advice}") from None
    records = _expected(part)
    with os_errors(f"{label}: cannot be read"):
        sizes = _stored_sizes(part.folder, records)
    for file, record in records.items():
        if file not in sizes:
            raise CorruptError(f"{label}: file {file} is missing: {advice}")
        if isinstance(record, FileRecord) and sizes[file] != record.nbytes:
            raise CorruptError(
                f"{label}: file {file}: expected {record.nbytes} bytes, found {sizes[file]}: "
                f"{advice}"
            )


def _stored_sizes(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Return the sizes of those files of a committed folder that are there."""
    if (mirror := mirrors.mirror_of(folder)) is not None:
        return mirror.sizes(folder)  # one request for all of them
    sizes = {}
    for name in names:
        with suppress(FileNotFoundError):
            sizes[name] = (folder / name).stat().st_size
    return sizes


CopyTask = tuple[Part, str, FileRecord | int, Path]
"""A file of a part: what it is expected to be, and where it is written."""


def copy_files(part: Part, group: str, target: Run) -> bool:
    """Commit a copy of a part or text, file by file. False: another writer was first.

    Raises CorruptError where a file is not what was written.
    """
    label = f"{target.name}, {part.location}"
    with os_errors(f"run {label}: cannot be copied"), scratch_folder(target.store) as scratch:
        tmp = scratch / part.folder.name
        records = _expected(part)
        for folder in {(tmp / name).parent for name in records}:
            folder.mkdir(parents=True, exist_ok=True)
        # Files are copied side by side: on object stores the wait for each is long.
        write = [(part, name, record, tmp / name) for name, record in records.items()]
        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            files = dict(pool.map(_copy_file, write))
        # Last, as a writer does, what has the checksums of the others.
        root = layout.ZARR_JSON
        files[root] = write_recorded(tmp / root, read_file(part.folder / root))
        return commit_folder(tmp, target.folder / group / part.folder.name, files)


def _expected(part: Part) -> dict[str, FileRecord | int]:
    """Return what a part records of its files: size and crc32c, or of metadata the crc32c."""
    records: dict[str, FileRecord | int] = {}
    for name, array in part.arrays.items():
        records[f"{name}/{layout.ZARR_JSON}"] = int(array.metadata_crc32c, 16)
        for shard, record in enumerate(map(FileRecord, array.shard_nbytes, array.shard_crc32c)):
            records[f"{name}/{array.spec.shard_name(shard)}"] = record
    return records


def _copy_file(task: CopyTask) -> tuple[str, FileRecord]:
    """Copy a file, and return its name and what was written. Raises CorruptError."""
    part, name, expected, path = task
    label = f"{part.location}: file {name}"
    with os_errors(f"{label}: cannot be copied"):
        try:
            data = read_file(part.folder / name)
        except FileNotFoundError:
            raise CorruptError(f"{label} is missing: {layout.REPAIR}") from None
        record = FileRecord(len(data), crc32c(data))
        # Data files are compared by size and checksum, metadata by its checksum alone.
        if expected not in (record, record.crc32c):
            raise CorruptError(
                f"{label}: expected the bytes that were written, found {record.nbytes} of crc32c "
                f"{record.crc32c:08x}: {layout.REPAIR}"
            )
        return name, write_recorded(path, data)


def copy_arrays(part: Part, source: RunConfig, target: Run) -> int:
    """Commit the arrays of a part that another run keeps of it, read and written anew; return the
    bytes. Images that the run holds already are left out.
    """
    # Arrays of no value in this part, as of no text before images, are left out.
    arrays = {
        name: values
        for name in target.config.array_names()
        if (values := _array(part, source, target.config, name)) is not None
    }
    # A writer takes text arrays apart from those of images, by their kind.
    text = {kind: arrays.pop(name) for name, kind in TEXT_KINDS.items() if name in arrays}
    unlike = [name for name in arrays if array_kind(name) in TEXT_KINDS]
    text |= {name.removeprefix("text_"): arrays.pop(name) for name in unlike}
    return target.commit_part(part.folder.name, part.samples, arrays, text)


def source_array(
    name: str, source: RunConfig, config: RunConfig
) -> tuple[tuple[int, ...], LayerArray]:
    """Return the layers of an array of the copied run, and the array of the source with them."""
    kind = array_kind(name)
    layers = next(a.layers for a in config.arrays_of(kind) if a.name == name)
    return layers, source.array_at(kind, layers[0])


def source_files(part: Part, source: RunConfig, config: RunConfig) -> set[str]:
    """Return the files of a part, beside every zarr.json, that a copy with other settings reads."""
    names = set()
    for name in config.array_names():
        layers, stored = source_array(name, source, config)
        if (array := part.arrays.get(stored.name)) is not None:
            shards = {stored.layers.index(layer) // array.spec.shard_layers for layer in layers}
            names |= {f"{stored.name}/{array.spec.shard_name(shard)}" for shard in shards}
    return names


def _array(part: Part, source: RunConfig, config: RunConfig, name: str) -> Bits | None:
    """Return the (layer, head, token, dim) of an array of the copied run; None of one that has no
    value.
    """
    layers, stored = source_array(name, source, config)
    heads, dim = config.heads_and_dim(name)
    if stored.name not in part.arrays:
        return None
    tokens = part.offsets(stored.name)[-1]
    values = np.empty((len(layers), heads, tokens, dim), STORED_DTYPE[config.model.dtype])
    rows = [Rows(0, tokens, 0)]
    array = part.arrays[stored.name]
    # One layer a request, whether the source has it in a file of its own or with others.
    for layer, out in zip(layers, values, strict=True):
        read_all([ReadRequest(array, stored.layers.index(layer), range(heads), rows)], out)
    return values

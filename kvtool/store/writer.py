"""Writing parts: whole shards, layer by layer, in a temporary folder that one rename commits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.errors import StoreError
from kvtool.geometry import array_kind
from kvtool.store.arrays import ArrayRecord, ArraySpec
from kvtool.store.durable import FileRecord, TornError, write_recorded
from kvtool.store.encoding import STORED_DTYPE, Bits, encode_chunk, encode_index
from kvtool.store.files import commit_folder, os_errors, scratch_folder
from kvtool.store.layout import ZARR_JSON, part_range
from kvtool.store.manifest import RunConfig
from kvtool.store.mirrors import address_of
from kvtool.store.nonfinite import count_nonfinite, records
from kvtool.store.run_arrays import TEXT_KINDS, dimension_names, token_counts, token_offsets
from kvtool.store.sample_records import samples_to_json
from kvtool.store.sealed import group_json
from kvtool.types import Sample

Pieces = Bits | Sequence[Bits]
"""One array (layer, head, token, dim), or several to be joined on the token axis, e.g. one an
image.
"""

WRITES_UNDER_WAY = 2
ENCODE_BYTES = 1 << 18
"""What a thread encodes at a time, or a single chunk that is larger: handing over a chunk costs as
much as encoding one of 10 kB."""


def write_part(
    store: Path,
    folder: Path,
    config: RunConfig,
    samples: Sequence[Sample],
    arrays: Mapping[str, Pieces],
) -> int:
    """Commit `folder` with the samples and arrays and return the bytes written.

    0: another writer committed it first.

    arrays: every name of config.array_names(). Raises StoreError where a shape or dtype is not the
    run's, SpaceError where the disk is full; nothing is left behind then.
    """
    label = f"run {config.name}, part {folder.name}"
    _check_samples(samples, folder.name, label)
    lengths = {name: token_counts(samples, name) for name in config.array_names()}
    # Text arrays may be left out where no image has text before it.
    needed = {name for name in lengths if array_kind(name) not in TEXT_KINDS or any(lengths[name])}
    if not needed <= set(arrays) <= set(lengths):
        raise StoreError(f"{label}: expected arrays {sorted(lengths)}, found {sorted(arrays)}")
    offsets = {name: token_offsets(samples, name) for name in lengths}
    attributes = {"samples": samples_to_json(samples), "offsets": offsets}
    return _commit(store, folder, config, arrays, lengths, attributes, label)


def write_text(
    store: Path,
    folder: Path,
    config: RunConfig,
    vectors: Mapping[str, Bits],
    attributes: dict[str, Any],
) -> int:
    """Commit `folder` with vectors (text, layer, head, dim) of the texts that `attributes` names.

    0: another was first.
    """
    label = f"run {config.name}, text {folder.name}"
    arrays = {name: np.moveaxis(array, 0, 2) for name, array in vectors.items()}
    lengths = {name: [len(attributes["names"])] for name in arrays}
    return _commit(store, folder, config, arrays, lengths, attributes, label)


def select(pieces: Pieces, offsets: Sequence[int], positions: Sequence[int]) -> list[Bits]:
    """Return the images at `positions` of an array whose images begin at `offsets` (n + 1) on the
    token axis.
    """
    # Images are cut out of the joined array, whatever pieces it came in.
    joined = pieces if isinstance(pieces, np.ndarray) else np.concatenate(pieces, axis=2)
    return [joined[:, :, offsets[position] : offsets[position + 1]] for position in positions]


def _commit(
    store: Path,
    folder: Path,
    config: RunConfig,
    arrays: Mapping[str, Pieces],
    lengths: Mapping[str, list[int]],
    attributes: dict[str, Any],
    location: str,
) -> int:
    """Write arrays and attributes aside, then rename.

    Arrays without a single value are not written.
    """
    # Checked before anything is written: a wrong shape leaves nothing behind.
    checked = {
        name: _check_pieces(pieces, config, name, sum(lengths[name]), f"{location}, array {name}")
        for name, pieces in arrays.items()
    }
    with os_errors(f"{location}: cannot be written in {address_of(store)}"):
        try:
            return _write_and_rename(store, folder, checked, lengths, config, attributes)
        except (FileNotFoundError, TornError):
            # The run itself is gone: to write again would make it anew.
            if not folder.parent.is_dir():
                raise
            # Something removed what was being written. The arrays are still here, so it is
            # written again, once.
            return _write_and_rename(store, folder, checked, lengths, config, attributes)


def _write_and_rename(
    store: Path,
    folder: Path,
    arrays: Mapping[str, Sequence[Bits]],
    lengths: Mapping[str, list[int]],
    config: RunConfig,
    attributes: dict[str, Any],
) -> int:
    """Return the bytes written, or 0 where another writer was first.

    Every file is read back before it is committed.
    """
    files: dict[str, FileRecord] = {}
    arrays_written: dict[str, dict[str, Any]] = {}
    with scratch_folder(store) as scratch:
        tmp = scratch / folder.name
        tmp.mkdir()
        nonfinite: dict[str, list[list[int]]] = {}
        for name, pieces in arrays.items():
            # An array without a value, e.g. of no text before the images, has no folder.
            if any(piece.size for piece in pieces):
                spec = _plan(config, name, pieces, lengths[name])
                dimensions = dimension_names(
                    name, "names" in attributes, config.cached_layers != config.layers
                )
                records_of_files, nonfinite_blocks = write_array(
                    tmp / name, spec, pieces, dimensions
                )
                arrays_written[name] = asdict(array_record(spec, records_of_files))
                files |= {f"{name}/{file}": record for file, record in records_of_files.items()}
                nonfinite |= {name: nonfinite_blocks} if nonfinite_blocks else {}
        # The part's own zarr.json comes last, with the sizes and checksums of all others.
        record_of_part = {
            "committed_as": str(folder.relative_to(store)),
            **attributes,
            "arrays": arrays_written,
        }
        record_of_part |= {"nonfinite": nonfinite} if nonfinite else {}
        files[ZARR_JSON] = write_recorded(tmp / ZARR_JSON, group_json(record_of_part))
        nbytes = sum(
            record.nbytes for file, record in files.items() if not file.endswith(f"/{ZARR_JSON}")
        )
        return nbytes if commit_folder(tmp, folder, files) else 0


def write_array(
    folder: Path, spec: ArraySpec, pieces: Sequence[Bits], dimensions: Sequence[str]
) -> tuple[dict[str, FileRecord], list[list[int]]]:
    """Write an array's files, all fsynced, and return size and checksum of each; and [layer
    position, head, how many values are not finite] where there are any.

    While one shard is written and synced, the next is encoded; one buffer of a shard's size is
    reused.
    """
    folder.mkdir()
    # The metadata first: its checksum goes into the part's record as those of the shards do.
    files = {ZARR_JSON: write_recorded(folder / ZARR_JSON, spec.zarr_json(dimensions))}
    heads, dim = spec.shape[1], spec.shape[3]
    padded_tokens = spec.chunks_per_head * spec.chunk_tokens
    # The padding of the last chunk of each head stays NaN in every shard.
    buffer = np.full(
        (spec.shard_layers, heads, padded_tokens, dim), spec.fill_value(), spec.storage
    )
    writes: list[Future[FileRecord]] = []
    nonfinite: list[int] = []
    with (
        ThreadPoolExecutor(encode_threads()) as encoders,
        ThreadPoolExecutor(WRITES_UNDER_WAY) as io,
    ):
        for shard in range(spec.n_shards):
            _fill(buffer, pieces, shard * spec.shard_layers)
            # Without the padding, which is NaN.
            blocks = (block[: spec.shape[2]] for block in buffer.reshape(-1, padded_tokens, dim))
            nonfinite += encoders.map(count_nonfinite, blocks)
            chunks, sizes = _encode(buffer, spec, encoders)
            index = encode_index(sizes)
            # Wait for an earlier write, so that memory holds a few shards at most.
            if shard >= WRITES_UNDER_WAY:
                writes[shard - WRITES_UNDER_WAY].result()
            writes.append(
                io.submit(write_recorded, folder / spec.shard_name(shard), *chunks, index)
            )
        files |= {spec.shard_name(shard): write.result() for shard, write in enumerate(writes)}
    return files, records(nonfinite, heads)


def array_record(spec: ArraySpec, files: Mapping[str, FileRecord]) -> ArrayRecord:
    """Return what a part records of an array whose files were written."""
    shards = [files[spec.shard_name(shard)] for shard in range(spec.n_shards)]
    return ArrayRecord(
        spec,
        tuple(shard.nbytes for shard in shards),
        tuple(shard.crc32c for shard in shards),
        f"{files[ZARR_JSON].crc32c:08x}",
    )


def _fill(buffer: Bits, pieces: Sequence[Bits], first_layer: int) -> None:
    start = 0
    for piece in pieces:
        stop = start + piece.shape[2]
        buffer[:, :, start:stop] = piece[first_layer : first_layer + len(buffer)]
        start = stop


def _encode(buffer: Bits, spec: ArraySpec, encoders: Executor) -> tuple[list[bytes], list[int]]:
    """Return the inner chunks of a shard, in C order of (layer, head, chunk), neighbors joined up
    to ENCODE_BYTES; and the size of each chunk.
    """
    # The buffer in C order has the chunks of each head one after the other.
    chunks = buffer.reshape(-1, spec.chunk_tokens, buffer.shape[-1])
    at_once = max(1, ENCODE_BYTES // chunks[0].nbytes)
    groups = [chunks[start : start + at_once] for start in range(0, len(chunks), at_once)]

    def encode_group(group: Bits) -> list[bytes]:
        """Encode neighboring chunks, one after the other."""
        return [encode_chunk(chunk, spec.codec) for chunk in group]

    encoded = list(encoders.map(encode_group, groups))
    sizes = [len(chunk) for group in encoded for chunk in group]
    return [b"".join(group) for group in encoded], sizes


def encode_threads() -> int:
    """Return the number of cores that this process may use."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


def _plan(config: RunConfig, name: str, pieces: Sequence[Bits], lengths: list[int]) -> ArraySpec:
    layers, heads, _, dim = pieces[0].shape
    shape = (layers, heads, sum(lengths), dim)
    # Text is short: all layers in one file save thousands of small ones.
    one_file = array_kind(name) in TEXT_KINDS
    return ArraySpec.plan(
        shape, lengths, one_file=one_file, dtype=config.model.dtype, codec=config.codec
    )


def _check_samples(samples: Sequence[Sample], name: str, location: str) -> None:
    span = part_range(name)
    indices = [sample.index for sample in samples]
    if span is None or not indices:
        raise StoreError(
            f"{location}: expected a name like 0000000-0000032 and at least one image, found "
            f"{len(indices)}"
        )
    # Readers find an image by the part's name: an index outside of it would be lost.
    if indices != sorted(set(indices)) or indices[0] < span[0] or indices[-1] >= span[1]:
        raise StoreError(
            f"{location}: expected rising indices within the name's range, found {indices}"
        )
    if len({sample.id for sample in samples}) != len(samples):
        raise StoreError(f"{location}: expected ids that differ, found the same id twice")


def _check_pieces(
    pieces: Pieces, config: RunConfig, name: str, tokens: int, location: str
) -> list[Bits]:
    """Return the array as a list of pieces of the run's geometry and dtype, or StoreError."""
    parts = [pieces] if isinstance(pieces, np.ndarray) else list(pieces)
    heads, dim = config.heads_and_dim(name)
    expected = (len(config.stored_layers(name)), heads, tokens, dim)
    dtype = STORED_DTYPE[config.model.dtype]
    for piece in parts:
        if (
            piece.ndim != 4
            or (*piece.shape[:2], piece.shape[3]) != (*expected[:2], dim)
            or piece.dtype != dtype
        ):
            raise StoreError(
                f"{location}: expected {dtype} of shape {expected}, found {piece.dtype} of shape "
                f"{piece.shape}"
            )
    # Pieces may divide the tokens in any way, as long as they are all of them.
    total = sum(piece.shape[2] for piece in parts)
    if total != tokens or not parts:
        raise StoreError(f"{location}: expected {tokens} tokens in all, found {total}")
    return parts

"""One stored array: its geometry, its zarr.json, its files.

Every array has shape (layer, head, token, dim), where `token` counts the tokens of all images of a
part.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.errors import CorruptError
from kvtool.store.encoding import BLOSC_LEVEL, CRC_NBYTES, INDEX_ENTRY_NBYTES, STORED_DTYPE, Codec
from kvtool.store.files import os_errors
from kvtool.store.layout import REPAIR, ZARR_JSON
from kvtool.store.mirrors import mirror_of
from kvtool.types import Precision

AUTO_CHUNK_TOKENS = 256
MOST_COMPRESSION = 1024
"""Four times what lz4 can do, so that zeros alone are no damage."""
_FILL = {"bfloat16": 0x7FC0, "float16": "NaN", "float32": "NaN"}


@dataclass(frozen=True)
class ArraySpec:
    """Geometry of an array as recorded in its part's attributes.

    shape: (layer, head, token, dim). chunk_tokens: tokens of an inner chunk, one image where all
        are equally long.
    shard_layers: layers of one file, 1 or all.
    """

    shape: tuple[int, int, int, int]
    chunk_tokens: int
    shard_layers: int
    dtype: Precision
    codec: Codec

    @classmethod
    def plan(
        cls,
        shape: tuple[int, int, int, int],
        lengths: list[int],
        one_file: bool,
        dtype: Precision,
        codec: Codec,
    ) -> ArraySpec:
        """Return the geometry for images of these token counts."""
        # Equally long images get a chunk each, so that reading one of them decodes nothing else.
        equal = len(set(lengths)) == 1
        chunk_tokens = lengths[0] if equal else min(AUTO_CHUNK_TOKENS, shape[2])
        return cls(shape, chunk_tokens, shape[0] if one_file else 1, dtype, codec)

    @property
    def storage(self) -> np.dtype[Any]:
        """The NumPy dtype of the stored values; bfloat16 is stored as uint16 bits."""
        return STORED_DTYPE[self.dtype]

    @property
    def chunks_per_head(self) -> int:
        """How many inner chunks hold the tokens of one head."""
        return ceil(self.shape[2] / self.chunk_tokens)

    @property
    def n_shards(self) -> int:
        """How many files the array has."""
        return self.shape[0] // self.shard_layers

    @property
    def index_nbytes(self) -> int:
        """The size of the index at the end of each file."""
        return (
            self.shard_layers * self.shape[1] * self.chunks_per_head * INDEX_ENTRY_NBYTES
            + CRC_NBYTES
        )

    @property
    def nbytes(self) -> int:
        """The size of the values before compression."""
        return prod(self.shape) * self.storage.itemsize

    def shard_name(self, shard: int) -> str:
        """Return the name of a shard's file."""
        return f"c.{shard}.0.0.0"

    def to_json(self) -> dict[str, Any]:
        """Return the geometry as JSON, as a part records it."""
        return asdict(self)

    def zarr_json(self, dimensions: Sequence[str]) -> bytes:
        """Return the array's zarr.json, with the names of its four dimensions.

        The fill value is NaN: to plain zarr a lost shard reads as NaN, not as zeros.
        """
        _, heads, _, dim = self.shape
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        blosc = {
            "cname": "lz4",
            "clevel": BLOSC_LEVEL,
            "shuffle": "bitshuffle",
            "typesize": self.storage.itemsize,
            "blocksize": 0,
        }
        # Values of one dimension side by side compress better than those of one token.
        transpose = {"name": "transpose", "configuration": {"order": [0, 1, 3, 2]}}
        compressed = [transpose, little, {"name": "blosc", "configuration": blosc}]
        # An inner chunk is one head of chunk_tokens tokens; the index lies behind all of them.
        sharding = {
            "chunk_shape": [1, 1, self.chunk_tokens, dim],
            "codecs": [*([little] if self.codec == "none" else compressed), {"name": "crc32c"}],
            "index_codecs": [little, {"name": "crc32c"}],
            "index_location": "end",
        }
        # A whole number of chunks: the last one of a head is padded, as zarr expects it.
        shard_shape = [self.shard_layers, heads, self.chunks_per_head * self.chunk_tokens, dim]
        document = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": self.shape,
            "data_type": "uint16" if self.dtype == "bfloat16" else self.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard_shape}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": _FILL[self.dtype],
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "attributes": {"kv_dtype": self.dtype},
            "dimension_names": list(dimensions),
        }
        return json.dumps(document).encode()

    def fill_value(self) -> Any:
        """Return what pads the last inner chunk of a head."""
        return _FILL[self.dtype] if self.dtype == "bfloat16" else np.nan


@dataclass(frozen=True)
class ArrayRecord:
    """What a part records of an array: size and crc32c of each shard's file, checksum of zarr.json
    (8 hex digits).
    """

    spec: ArraySpec
    shard_nbytes: tuple[int, ...]
    shard_crc32c: tuple[int, ...]
    metadata_crc32c: str

    def problem(self) -> str | None:
        """Return why no array can be so, or None: what is read must not ask for more memory than
        its files justify.
        """
        spec = self.spec
        if (
            # Checked before any property divides by them.
            min(*spec.shape, spec.chunk_tokens, spec.shard_layers) < 1
            or spec.shape[0] % spec.shard_layers
        ):
            return f"expected a geometry of positive sizes, found {spec}"
        # A chunk is never longer than all the tokens: it would ask for memory that no file fills.
        if spec.chunk_tokens > spec.shape[2]:
            return (
                f"expected chunks of at most {spec.shape[2]} tokens, found chunks of "
                f"{spec.chunk_tokens}"
            )
        # A file for each shard, with its size and its checksum.
        if not spec.n_shards == len(self.shard_nbytes) == len(self.shard_crc32c):
            return f"expected {spec.n_shards} files, found {len(self.shard_nbytes)}"
        if min(self.shard_nbytes) < spec.index_nbytes:
            return (
                f"expected files of at least {spec.index_nbytes} bytes, "
                f"found {min(self.shard_nbytes)}"
            )
        # Values that no compression could have made so small are damage, not data.
        if spec.nbytes > MOST_COMPRESSION * sum(self.shard_nbytes):
            return (
                f"expected at most {MOST_COMPRESSION} bytes of values a byte stored, "
                f"found {spec.nbytes}"
            )
        return None


@dataclass(frozen=True)
class StoredArray:
    """An array on disk as its part recorded it, see ArrayRecord.

    `location` names run, part and array in errors.
    """

    folder: Path
    spec: ArraySpec
    shard_nbytes: tuple[int, ...]
    shard_crc32c: tuple[int, ...]
    metadata_crc32c: str
    location: str

    def lacking(self) -> str | None:
        """Return the first of its files that is missing or has another size than was written, in
        words; else None.

        One listing of its folder: many arrays are looked at before a run is said to hold all.
        Raises OSError.
        """
        try:
            # One listing, since on a network file system a question for each file would take long.
            with os.scandir(self.folder) as entries:
                size_of_file = {entry.name: entry.stat().st_size for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            size_of_file = {}
        if ZARR_JSON not in size_of_file:
            return f"{self.location}: file {ZARR_JSON} is missing"
        for shard, expected in enumerate(self.shard_nbytes):
            name = self.spec.shard_name(shard)
            if name not in size_of_file:
                return f"{self.location}: file {name} is missing"
            if size_of_file[name] != expected:
                return (
                    f"{self.location}: file {name}: expected {expected} bytes, "
                    f"found {size_of_file[name]}"
                )
        return None

    def check_sizes(self) -> None:
        """Raise CorruptError where a shard is missing or has another size than was written."""
        for shard, expected in enumerate(self.shard_nbytes):
            path = self.folder / self.spec.shard_name(shard)
            with os_errors(f"{self.location}: file {path.name} cannot be read"):
                try:
                    nbytes = path.stat().st_size
                except FileNotFoundError:
                    if mirror_of(path) is not None:  # compared when it is read
                        continue
                    raise CorruptError(
                        f"{self.location}: file {path.name} is missing: {REPAIR}"
                    ) from None
            if nbytes != expected:
                raise CorruptError(
                    f"{self.location}: file {path.name}: expected {expected} bytes, found "
                    f"{nbytes}: {REPAIR}"
                )

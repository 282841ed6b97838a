"""Stored arrays, and how plain zarr opens them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from kvtool.store.arrays import ArraySpec, StoredArray
from kvtool.store.encoding import STORED_DTYPE, Bits, Codec
from kvtool.store.run_arrays import dimension_names
from kvtool.store.writer import array_record, write_array
from kvtool.types import Precision
from tests.support.runs import random_bits

PIPELINES = ["zarr.core.codec_pipeline.BatchedCodecPipeline", "zarrs.ZarrsCodecPipeline"]


def write(
    folder: Path,
    lengths: list[int],
    dtype: Precision = "bfloat16",
    codec: Codec = "lz4",
    one_file: bool = False,
) -> tuple[StoredArray, Bits]:
    """An array of three layers and two heads of eight dims, and the values it holds."""
    shape = (3, 2, sum(lengths), 8)
    values = random_bits(np.random.default_rng(0), shape, STORED_DTYPE[dtype])
    spec = ArraySpec.plan(shape, lengths, one_file, dtype, codec)
    files, _ = write_array(folder / "key", spec, [values], dimension_names("key"))
    return StoredArray(
        folder / "key", **vars(array_record(spec, files)), location="run r, part p, array key"
    ), values


def open_zarr(folder: Path, pipeline: str = PIPELINES[0]) -> Any:
    with zarr.config.set({"codec_pipeline.path": pipeline}):
        return zarr.open_array(folder / "key", mode="r")

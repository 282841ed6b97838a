"""`--codec auto`: whether to compress, by what limits an extraction on this machine.

The device, the encoder and the disk work at once, so that the slowest of them decides. Compressed
bytes are fewer: where both ways take as long, it is lz4.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kvtool.engine.ready_parts import prepare_one
from kvtool.store.durable import write_recorded
from kvtool.store.encoding import Codec, encode_chunk
from kvtool.store.files import os_errors, scratch_folder
from kvtool.store.writer import encode_threads

if TYPE_CHECKING:
    from kvtool.engine.plan import Plan
    from kvtool.models.base import Model, Prepared

MEASURED_IMAGES = 8
ENCODED_BYTES, DISK_BYTES = 2**24, 2**28
"""The most that is encoded, and written to the disk."""
FASTER = 1.05
"""How many times the rate of lz4 it must be without."""


@dataclass(frozen=True)
class Costs:
    """Seconds that a byte takes before compression.

    Attributes:
        device: In the model.
        encoder: In lz4, on all cores.
        disk: On the disk.
        ratio: Bytes after lz4 over bytes before.
        shares_cores: Whether the model runs on the cores that encode, so that both add up.
    """

    device: float
    encoder: float
    disk: float
    ratio: float
    shares_cores: bool

    @property
    def codec(self) -> Codec:
        """The codec of the shorter extraction."""
        # A model on the CPU and the encoder compete for cores: their seconds add up.
        encoding = (
            self.device + self.encoder if self.shares_cores else max(self.device, self.encoder)
        )
        lz4 = max(encoding, self.ratio * self.disk)
        none = max(self.device, self.disk)
        return "none" if none * FASTER < lz4 else "lz4"


def choose_codec(plan: Plan, model: Model, store: Path) -> Codec:
    """Measure on the first pictures of a plan, and return the codec of the shorter extraction; lz4
    where none can be read.
    """
    items = _first(plan, model)
    if not items:
        return "lz4"
    device: Any = getattr(model, "checkpoint").device  # noqa: B009  no part of the protocol
    # A first pass chooses kernels and takes memory, which no later one pays for.
    model.capture(items[:1], plan.request)  # warms up
    captures = []
    device_s = _seconds(lambda: captures.append(model.capture(items, plan.request)))
    arrays = [array for listed in captures[0].arrays.values() for array in listed]
    n_bytes = sum(array.nbytes for array in arrays)
    encoder, ratio = _encoder(arrays)
    shares_cores = device.type == "cpu"
    costs = Costs(device_s / n_bytes, encoder, _disk(arrays, store), ratio, shares_cores)
    logging.getLogger("kvtool").info(
        "--codec auto: %s; MB/s: model %.0f, encoder %.0f, disk %.0f; compressed to %.2f",
        costs.codec,
        *(1e-6 / cost for cost in (costs.device, costs.encoder, costs.disk)),
        ratio,
    )
    return costs.codec


def _first(plan: Plan, model: Model) -> list[Prepared]:
    """Return some of the first part's pictures, of equal shape."""
    # The order of the plan, so that what is measured is what a first part would hold.
    indices = sorted(plan.indices)[:MEASURED_IMAGES]
    prepared = [prepare_one(plan, model, index, False, lambda _: None) for index in indices]
    items = [item for item in prepared if item is not None]
    return [item for item in items if item.signature == items[0].signature]


def _encoder(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return seconds a byte of encoding arrays (layer, head, token, dim), and the ratio."""
    sample: list[np.ndarray] = []
    for array in arrays:
        # A block at a time, as a part's chunks are.
        for block in array.reshape(-1, *array.shape[2:]):
            if sum(chunk.nbytes for chunk in sample) < ENCODED_BYTES // len(arrays) + 1:
                sample.append(np.ascontiguousarray(block))
    # One thread is timed and its rate is divided by their number: chunks are encoded in parallel.
    chunks: list[bytes] = []
    seconds = _seconds(lambda: chunks.extend(encode_chunk(block, "lz4") for block in sample))
    n_bytes = sum(block.nbytes for block in sample)
    return seconds / n_bytes / encode_threads(), sum(map(len, chunks)) / n_bytes


def _disk(arrays: Sequence[np.ndarray], store: Path) -> float:
    """Return seconds a byte of writing arrays beside the store, fsync included."""
    data: list[np.ndarray] = []
    # In the store's own file system, since another disk would have another rate.
    for array in arrays:
        if sum(piece.nbytes for piece in data) < DISK_BYTES:
            data.append(np.ascontiguousarray(array))
    with os_errors(f"store {store}: cannot be written"), scratch_folder(store) as scratch:
        seconds = _seconds(lambda: write_recorded(scratch / "measured", *data))
    return seconds / sum(piece.nbytes for piece in data)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return max(time.perf_counter() - started, 1e-9)

"""Bits and bytes: bfloat16 as uint16, inner chunks (blosc, crc32c) and the index of a shard.

A shard is the file of one or more whole layers: its inner chunks, one after the other, then the
index: (offset, nbytes) as little-endian uint64 for each inner chunk in C order of (layer, head,
chunk), then the crc32c of the index. An inner chunk is the blosc frame of its values, transposed to
(dim, token), followed by the frame's crc32c. Transposed, because a channel's exponents hardly
change from token to token (docs/decisions/store-format.md has the figures).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kvtool.errors import CorruptError
from kvtool.store.files import crc32c
from kvtool.store.layout import REPAIR
from kvtool.types import Precision

Codec = Literal["lz4", "none"]
Bits = NDArray[Any]
"""Values as stored: uint16 bits of bfloat16, or float16, or float32."""

STORED_DTYPE: dict[Precision, np.dtype[Any]] = {
    "bfloat16": np.dtype("<u2"),
    "float16": np.dtype("<f2"),
    "float32": np.dtype("<f4"),
}
BLOSC_LEVEL = 9
TRANSPOSE_TOKENS = 128
CRC_NBYTES = 4
INDEX_ENTRY_NBYTES = 16


def bits_to_float32(
    bits: NDArray[np.uint16], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """float32 values of bfloat16 bits: exact, NaN payloads included.

    `out`: an array of the same shape to fill.
    """
    if out is None:
        out = np.empty(bits.shape, np.float32)
    # The bits of bfloat16 are the upper half of float32's.
    np.left_shift(bits, 16, out=out.view(np.uint32), dtype=np.uint32)
    return out


def float32_to_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """bfloat16 bits of float32 values, rounded to nearest, ties to even; NaN stays NaN (quiet)."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    # Half of the last kept bit, and one more where that bit is odd: ties go to even.
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    # Rounding could carry a NaN's payload into infinity, so its quiet bit is set instead.
    quiet = (bits >> 16) | 0x0040
    return np.where(np.isnan(values), quiet, rounded).astype(np.uint16)


def to_float32(stored: Bits, out: NDArray[np.float32]) -> None:
    """Convert stored values (see Bits) into `out`, of the same shape."""
    if stored.dtype == np.uint16:
        bits_to_float32(stored, out)
    else:
        out[...] = stored


def encode_chunk(values: Bits, codec: Codec) -> bytes:
    """Return the bytes of one inner chunk of values (token, dim)."""
    if codec == "none":
        frame = values.tobytes()
    else:
        from numcodecs import blosc

        frame = blosc.compress(_transposed(values), b"lz4", BLOSC_LEVEL, blosc.BITSHUFFLE)
    return frame + crc32c(frame).to_bytes(CRC_NBYTES, "little")


def _transposed(values: Bits) -> Bits:
    """Return a transposed copy, made in blocks that stay in the cache, which is twice as fast."""
    out = np.empty(values.shape[::-1], values.dtype)
    for start in range(0, len(values), TRANSPOSE_TOKENS):
        stop = start + TRANSPOSE_TOKENS
        # Neighboring values of one dimension are alike, and compress better side by side.
        out[:, start:stop] = values[start:stop].T
    return out


def decode_chunk(chunk: NDArray[np.uint8], codec: Codec, scratch: Bits, location: str) -> Bits:
    """Return values (token, dim) of an inner chunk, a view of `scratch` (dim, token) or, where
    nothing is compressed, of `chunk`. Raises CorruptError that begins with `location`.
    """
    # The checksum is compared first: damaged bytes never reach the decompressor.
    frame = chunk[:-CRC_NBYTES]
    stored = int.from_bytes(chunk[-CRC_NBYTES:].tobytes(), "little")
    checksum = crc32c(frame)
    if stored != checksum:
        raise CorruptError(
            f"{location}: expected crc32c {stored:08x}, found {checksum:08x}: damaged: {REPAIR}"
        )
    # blosc's header has the size of what it compressed; nothing else is to be written to scratch.
    nbytes = frame.nbytes if codec == "none" else int.from_bytes(frame[4:8].tobytes(), "little")
    if nbytes != scratch.nbytes:
        raise CorruptError(
            f"{location}: expected a chunk of {scratch.nbytes} bytes, found {nbytes}: {REPAIR}"
        )
    if codec == "none":
        return frame.view(scratch.dtype).reshape(scratch.shape[::-1])
    from numcodecs import blosc

    blosc.decompress(frame, scratch)
    return scratch.T


def encode_index(chunk_nbytes: list[int]) -> bytes:
    """Index of a shard whose chunks follow each other in C order."""
    index = np.empty((len(chunk_nbytes), 2), "<u8")
    index[:, 1] = chunk_nbytes
    # Each chunk begins where the one before it ends.
    index[:, 0] = np.cumsum(index[:, 1]) - index[:, 1]
    data = index.tobytes()
    return data + crc32c(data).to_bytes(CRC_NBYTES, "little")


def decode_index(data: NDArray[np.uint8], location: str) -> NDArray[np.uint64]:
    """Return (chunk, 2) offsets and sizes. Raises CorruptError that begins with `location`."""
    index = data[:-CRC_NBYTES]
    stored = int.from_bytes(data[-CRC_NBYTES:].tobytes(), "little")
    checksum = crc32c(index)
    if stored != checksum:
        raise CorruptError(
            f"{location}: expected crc32c {stored:08x} of the index, found {checksum:08x}: "
            f"damaged: {REPAIR}"
        )
    return index.view("<u8").reshape(-1, 2)

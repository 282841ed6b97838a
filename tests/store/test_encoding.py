"""Bits, inner chunks and the shard index."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvtool.errors import CorruptError
from kvtool.store import bits_to_float32, float32_to_bits
from kvtool.store.encoding import Codec, decode_chunk, decode_index, encode_chunk, encode_index

EVERY_BFLOAT16 = np.arange(1 << 16, dtype=np.uint16)


def as_bytes(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(bytearray(data), np.uint8)


def test_every_bfloat16_keeps_its_bits_as_float32() -> None:
    values = bits_to_float32(EVERY_BFLOAT16)
    assert np.array_equal(values.view(np.uint32), EVERY_BFLOAT16.astype(np.uint32) << 16)


def test_float32_to_bits_inverts_every_bfloat16_that_is_a_number() -> None:
    values = bits_to_float32(EVERY_BFLOAT16)
    numbers = ~np.isnan(values)
    assert np.array_equal(float32_to_bits(values)[numbers], EVERY_BFLOAT16[numbers])
    assert np.isnan(bits_to_float32(float32_to_bits(values[~numbers]))).all()


def nearest_bfloat16(value: float) -> int:
    """The obvious way: the closer of the two neighbors, the even one of equals.

    Beyond the last number: infinity.
    """
    low = int(np.float32(abs(value)).view(np.uint32)) >> 16
    neighbors = [low, low + 1]
    exact = [float(bits_to_float32(np.array([bits], np.uint16))[0]) for bits in neighbors]
    if np.isinf(exact[1]):
        exact[1] = 2.0**128
    distances = [abs(abs(value) - neighbor) for neighbor in exact]
    best = min(neighbors, key=lambda bits: (distances[bits - low], bits % 2))
    return best | (0x8000 if np.signbit(value) else 0)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float32_to_bits_rounds_to_nearest_even(value: float) -> None:
    assert int(float32_to_bits(np.array([value], np.float32))[0]) == nearest_bfloat16(value)


@pytest.mark.parametrize("codec", ["lz4", "none"])
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_chunks_round_trip(codec: Codec, data: st.DataObject) -> None:
    tokens, dim = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    dtype = data.draw(st.sampled_from(["<u2", "<f2", "<f4"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    values = np.frombuffer(rng.bytes(tokens * dim * np.dtype(dtype).itemsize), dtype).reshape(
        tokens, dim
    )
    chunk = as_bytes(encode_chunk(values, codec))
    assert (
        decode_chunk(chunk, codec, np.empty((dim, tokens), dtype), "here").tobytes()
        == values.tobytes()
    )


@pytest.mark.parametrize("codec", ["lz4", "none"])
def test_every_flipped_byte_of_a_chunk_is_found(codec: Codec) -> None:
    values = np.arange(48, dtype=np.uint16).reshape(8, 6)
    chunk = as_bytes(encode_chunk(values, codec))
    for position in range(len(chunk)):
        chunk[position] ^= 1
        with pytest.raises(
            CorruptError,
            match=r"^here: expected crc32c [0-9a-f]{8}, found [0-9a-f]{8}: damaged: "
            r"`kvtool store repair`",
        ):
            decode_chunk(chunk, codec, np.empty((6, 8), np.uint16), "here")
        chunk[position] ^= 1


@pytest.mark.parametrize("codec", ["lz4", "none"])
def test_a_chunk_of_another_size_is_refused(codec: Codec) -> None:
    chunk = as_bytes(encode_chunk(np.zeros((8, 6), np.uint16), codec))
    with pytest.raises(CorruptError, match="here: expected a chunk of 84 bytes, found 96"):
        decode_chunk(chunk, codec, np.empty((6, 7), np.uint16), "here")


def test_the_index_lists_chunks_one_after_the_other() -> None:
    index = as_bytes(encode_index([10, 5, 7]))
    assert decode_index(index, "here").tolist() == [[0, 10], [10, 5], [15, 7]]
    index[17] ^= 4
    with pytest.raises(CorruptError, match=r"here: expected crc32c .* of the index"):
        decode_index(index, "here")

"""The fast reader against plain zarr."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from kvtool.errors import CorruptError
from kvtool.store import shards
from kvtool.store.arrays import ArraySpec, StoredArray
from kvtool.store.encoding import STORED_DTYPE, Bits, Codec, bits_to_float32, decode_chunk
from kvtool.store.run_arrays import dimension_names
from kvtool.store.shards import ReadRequest, Rows, open_ahead, read_all
from kvtool.types import Precision
from tests.support.arrays import open_zarr, write


def read(request: ReadRequest, dtype: np.dtype[np.generic] | None = None) -> Bits:
    spec = request.array.spec
    n_rows = max((rows.out + rows.stop - rows.start for rows in request.rows), default=0)
    out = np.zeros((len(request.heads), n_rows, spec.shape[3]), dtype or spec.storage)
    for shard in open_ahead([request]):
        shard.read_into(out)
    return out


@given(data=st.data())
@settings(max_examples=40, deadline=None)
@pytest.mark.slow
def test_any_rows_of_any_heads_equal_zarrs(data: st.DataObject) -> None:
    equal = data.draw(st.booleans())
    n_images = data.draw(st.integers(1, 5))
    lengths = (
        [data.draw(st.integers(1, 200))] * n_images
        if equal
        else [data.draw(st.integers(1, 200)) for _ in range(n_images)]
    )
    dtype: Precision = data.draw(st.sampled_from(get_args(Precision)))
    codec: Codec = data.draw(st.sampled_from(get_args(Codec)))
    with tempfile.TemporaryDirectory() as folder:
        array, _ = write(Path(folder), lengths, dtype, codec, one_file=data.draw(st.booleans()))
        layer = data.draw(st.integers(0, 2))
        first = data.draw(st.integers(0, 1))
        heads = range(first, data.draw(st.integers(first + 1, 2)))
        rows: list[Rows] = []
        indices: list[int] = []
        for start in data.draw(st.lists(st.integers(0, sum(lengths) - 1), min_size=1, max_size=4)):
            stop = data.draw(st.integers(start + 1, sum(lengths)))
            rows.append(Rows(start, stop, len(indices)))
            indices += range(start, stop)
        reference = open_zarr(Path(folder))[layer][heads.start : heads.stop][:, indices]
        assert read(ReadRequest(array, layer, heads, rows)).tobytes() == reference.tobytes()


@pytest.mark.parametrize("threads", [1, 4])
def test_many_shards_at_once_fill_their_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(shards, "READ_THREADS", threads)
    array, values = write(tmp_path, [300, 5])
    requests = [
        ReadRequest(array, layer, range(1, 2), [Rows(40, 305, 265 * layer)]) for layer in range(3)
    ]
    out = np.zeros((1, 3 * 265, 8), np.uint16)
    read_all(requests, out)
    assert out.tobytes() == values[:, 1, 40:].tobytes()
    (array.folder / "c.1.0.0.0").unlink()
    with pytest.raises(CorruptError, match=r"file c\.1\.0\.0\.0 is missing"):
        read_all(requests, out)


def test_bits_become_float32_on_the_way(tmp_path: Path) -> None:
    array, values = write(tmp_path, [300, 5])
    decoded = read(ReadRequest(array, 1, range(2), [Rows(10, 290, 0)]), np.dtype(np.float32))
    assert decoded.tobytes() == bits_to_float32(values[1, :, 10:290]).tobytes()


def test_chunks_written_by_zarr_in_its_own_order_are_found_through_the_index(
    tmp_path: Path,
) -> None:
    """zarr-python writes inner chunks in Morton order: only the index tells where they are."""
    spec = ArraySpec.plan((2, 4, 5 * 8, 8), [8] * 5, False, "bfloat16", "lz4")
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "zarr.json").write_bytes(spec.zarr_json(dimension_names("key")))
    values = np.random.default_rng(0).integers(0, 1 << 16, spec.shape, np.uint16)
    with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}):
        zarr.open_array(tmp_path / "key", mode="r+")[:] = values
    sizes = tuple((tmp_path / "key" / spec.shard_name(shard)).stat().st_size for shard in range(2))
    array = StoredArray(tmp_path / "key", spec, sizes, (), "", "run r, part p, array key")
    spans = next(open_ahead([ReadRequest(array, 1, range(1), [Rows(0, 40, 0)])])).spans
    assert len(spans) > 1, "expected chunks that do not follow each other"
    assert np.array_equal(read(ReadRequest(array, 1, range(4), [Rows(0, 40, 0)])), values[1])


def test_neighboring_chunks_are_read_with_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array, _ = write(tmp_path, [7] * 10)
    request = ReadRequest(array, 0, range(1, 2), [Rows(0, 70, 0)])
    assert [len(shard.spans) for shard in open_ahead([request])] == [1]
    monkeypatch.setattr(shards, "READ_NBYTES", 1)
    assert [len(shard.spans) for shard in open_ahead([request])] == [10]


@pytest.mark.parametrize("read_nbytes", [1, shards.READ_NBYTES])
@pytest.mark.parametrize("lengths", [[600], [300, 301]])
def test_each_chunk_is_read_and_decoded_once_however_often_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lengths: list[int], read_nbytes: int
) -> None:
    """Stretches of a chunk that is larger than a read; heads, and images of several chunks, that
    are asked for again.
    """
    monkeypatch.setattr(shards, "READ_NBYTES", read_nbytes)
    decoded: list[str] = []

    def counted(data: Any, codec: Codec, scratch: Bits, location: str) -> Bits:
        decoded.append(location)
        return decode_chunk(data, codec, scratch, location)

    monkeypatch.setattr("kvtool.store.shards.decode_chunk", counted)
    array, values = write(tmp_path, lengths)
    rows = [Rows(0, 1, 0), Rows(5, 6, 1), Rows(0, 600, 2), Rows(0, 600, 602), Rows(0, 9, 1202)]
    request = ReadRequest(array, 1, [1, 0, 1], rows)
    (shard,) = open_ahead([request])
    starts = [span[0].offset for span in shard.spans]
    assert len(set(starts)) == len(starts)
    tokens = [index for start, stop, _ in rows for index in range(start, stop)]
    assert read(request).tobytes() == values[1, [1, 0, 1]][:, tokens].tobytes()
    assert len(decoded) == len(set(decoded)) == 2 * array.spec.chunks_per_head


def test_a_shard_without_all_its_chunks_is_corrupt_not_zero(tmp_path: Path) -> None:
    """zarr marks an inner chunk that was never written with offsets of all ones."""
    spec = ArraySpec.plan((1, 1, 16, 8), [8, 8], False, "bfloat16", "lz4")
    (tmp_path / "key").mkdir()
    (tmp_path / "key" / "zarr.json").write_bytes(spec.zarr_json(dimension_names("key")))
    with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}):
        zarr.open_array(tmp_path / "key", mode="r+")[:, :, :8] = 1
    size = (tmp_path / "key" / spec.shard_name(0)).stat().st_size
    array = StoredArray(tmp_path / "key", spec, (size,), (), "", "run r, part p, array key")
    with pytest.raises(
        CorruptError,
        match=r"run r, part p, array key: file c\.0\.0\.0\.0: expected an index of chunks",
    ):
        read(ReadRequest(array, 0, range(1), [Rows(0, 16, 0)]))


def test_open_files_are_few_and_all_are_closed(tmp_path: Path) -> None:
    array, _ = write(tmp_path, [7])
    before = len(list(Path("/proc/self/fd").iterdir()))
    opened = open_ahead(
        ReadRequest(array, layer % 3, range(1), [Rows(0, 7, 0)]) for layer in range(30)
    )
    next(opened)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + shards.LOOKAHEAD_SHARDS + 2
    opened.close()  # type: ignore[attr-defined]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_stored_dtypes_are_little_endian() -> None:
    assert {dtype.byteorder for dtype in STORED_DTYPE.values()} <= {"<", "="}

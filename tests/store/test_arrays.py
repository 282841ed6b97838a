"""What plain zarr makes of our files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kvtool import schema
from kvtool.errors import CorruptError
from kvtool.store.arrays import ArrayRecord, ArraySpec
from kvtool.store.encoding import Codec
from kvtool.types import Precision
from tests.support.arrays import PIPELINES, open_zarr, write


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("codec", ["lz4", "none"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("lengths", [[7, 7], [3, 300, 5]])
def test_zarr_reads_our_arrays(
    tmp_path: Path, pipeline: str, codec: Codec, dtype: Precision, lengths: list[int]
) -> None:
    if pipeline.startswith("zarrs"):
        pytest.importorskip("zarrs")
    _, values = write(tmp_path, lengths, dtype, codec)
    array = open_zarr(tmp_path, pipeline)
    assert array[:].tobytes() == values.tobytes()
    assert array.attrs["kv_dtype"] == dtype
    assert array.metadata.dimension_names == ("layer", "kv_head", "token", "dim")


def test_zarr_reads_an_array_in_one_file(tmp_path: Path) -> None:
    array, values = write(tmp_path, [2, 3], one_file=True)
    assert sorted(path.name for path in array.folder.iterdir()) == ["c.0.0.0.0", "zarr.json"]
    assert open_zarr(tmp_path)[:].tobytes() == values.tobytes()


def test_a_layer_is_a_file_and_an_image_of_equal_length_is_a_chunk(tmp_path: Path) -> None:
    array, _ = write(tmp_path, [7, 7, 7])
    assert sorted(path.name for path in array.folder.iterdir()) == [
        *(f"c.{i}.0.0.0" for i in range(3)),
        "zarr.json",
    ]
    assert open_zarr(tmp_path).chunks == (1, 1, 7, 8)
    assert open_zarr(tmp_path).shards == (1, 2, 21, 8)


def test_plain_zarr_reads_a_lost_file_as_nan_not_as_zeros(tmp_path: Path) -> None:
    array, _ = write(tmp_path, [7, 7])
    (array.folder / "c.1.0.0.0").unlink()
    assert (open_zarr(tmp_path)[1] == 0x7FC0).all()


def test_check_sizes_names_what_is_lost_and_what_is_short(tmp_path: Path) -> None:
    array, _ = write(tmp_path, [7, 7])
    array.check_sizes()
    short = array.folder / "c.1.0.0.0"
    size = short.stat().st_size
    short.write_bytes(short.read_bytes()[:-1])
    with pytest.raises(
        CorruptError,
        match=f"run r, part p, array key: file c.1.0.0.0: expected {size} .* {size - 1}",
    ):
        array.check_sizes()
    short.unlink()
    with pytest.raises(
        CorruptError, match=r"run r, part p, array key: file c\.1\.0\.0\.0 is missing"
    ):
        array.check_sizes()


def test_what_no_array_can_be_is_told_by_its_own_numbers() -> None:
    spec = ArraySpec((1, 1, 8, 4), 8, 1, "bfloat16", "none")
    record = ArrayRecord(spec, (100,), (0,), "00000000")
    assert record.problem() is None
    for changed, expected in (
        (
            replace(record, spec=replace(spec, chunk_tokens=9)),
            "expected chunks of at most 8 tokens, found chunks of 9",
        ),
        (replace(record, spec=replace(spec, chunk_tokens=0)), "a geometry of positive sizes"),
        (replace(record, shard_nbytes=(3,)), "expected files of at least 20 bytes, found 3"),
        (replace(record, shard_nbytes=(100, 100)), "expected 1 files, found 2"),
    ):
        problem = changed.problem()
        assert problem is not None
        assert expected in problem


def test_the_geometry_survives_json() -> None:
    spec = ArraySpec.plan((3, 2, 300, 8), [100, 200], False, "float16", "none")
    assert schema.read(ArraySpec, json.loads(json.dumps(spec.to_json())), "spec") == spec
    assert (spec.chunk_tokens, spec.chunks_per_head, spec.nbytes) == (256, 2, 3 * 2 * 300 * 8 * 2)

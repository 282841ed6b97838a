"""zarr and xarray open a store as they open anything of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from kvtool.errors import UsageError
from kvtool.store import Run, indexes, open_store
from kvtool.store.repair import repair
from kvtool.store.verify import verify
from tests.support.runs import assert_same_bits, commit, finite_bits, new_run, ragged, sample

ARRAYS = ["key", "projected", "text_key", "text_value", "value", "vision"]
PARTS = ["0000000-0000004", "0000004-0000006"]


def write_index(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    data = np.frombuffer(b"12345678", np.uint8)
    (folder / "0.faiss").write_bytes(data.tobytes())
    return {"metric": "cosine"}, {"0.faiss": indexes.describe(data, [8])}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of two parts beside everything else that a store may hold."""
    run = new_run(tmp_path)
    run.enroll([f"image{index}" for index in range(6)], "/data")
    commit(run, [ragged(index) for index in range(4)])
    commit(run, [ragged(index) for index in range(4, 6)])
    run.commit_text(["cat"], finite_bits(np.random.default_rng(0), (1, 2, 2, 8), np.dtype("<u2")))
    indexes.keep(run, "an-index", write_index)
    store = open_store(run.store)
    store.save_result("abc", {"best": 0.5})
    store.keep_pictures("drawn", [("a.png", b"png")])
    return run


@pytest.fixture
def claimed(run: Run) -> Iterator[Run]:
    """The run while someone works on it."""
    with run.claim("0000008-0000012"):
        yield run


def test_the_tree_shows_runs_parts_and_arrays_without_a_warning(claimed: Run) -> None:
    group = zarr.open_group(claimed.store, mode="r")
    members = dict(group.members(max_depth=None))
    for part in PARTS:
        for array in ARRAYS:
            node = members[f"runs/tiny/parts/{part}/{array}"]
            assert isinstance(node, zarr.Array)
            assert node.ndim == 4
    text = str(group.tree())
    assert all(name in text for name in ("tiny", "value (2, 2, 18, 8) uint16", *PARTS))


def test_what_is_not_zarr_is_an_array_without_a_value(run: Run) -> None:
    group = zarr.open_group(run.store, mode="r")
    for name in ("results", "tmp", "ledger", "pictures", "runs/tiny/locks"):
        node = group[name]
        assert isinstance(node, zarr.Array)
        assert node.shape == (0,)
        assert node.attrs["about"] == "files of kvtool that are not Zarr"
    assert verify(open_store(run.store)) == []


def test_an_older_store_has_its_folders_closed_by_repair(run: Run) -> None:
    names = ("results", "tmp", "ledger", "pictures")
    for name in names:
        (run.store / name / "zarr.json").unlink()
    store = open_store(run.store)
    assert verify(store) == []
    assert repair(store) == []
    assert all((run.store / name / "zarr.json").exists() for name in names)
    (run.store / "results/zarr.json").write_bytes(b"{}")
    assert [problem.what.split(":")[0] for problem in verify(store)] == ["results"]
    repair(store)
    assert verify(store) == []
    assert isinstance(zarr.open_group(run.store, mode="r")["results"], zarr.Array)


def test_zarr_arrays_come_with_their_images(run: Run) -> None:
    ids: list[str] = []
    for array, part_ids, offsets in run.zarr("value"):
        assert isinstance(array, zarr.Array)
        ids += part_ids
        for position, image in enumerate(part_ids):
            tokens = array[:, :, offsets[position] : offsets[position + 1]]
            assert_same_bits(
                np.asarray(tokens), run.read_image(image, ["value"], raw=True)["value"]
            )
    assert ids == run.ids
    assert [part.array.shape[2] for part in run.zarr("text_key")] == [6, 1]


def test_a_part_without_the_array_is_left_out(tmp_path: Path) -> None:
    run = new_run(tmp_path, kinds=("key",))
    commit(run, [sample(0, n_prefix=0)])
    assert run.zarr("text_key") == []
    with pytest.raises(UsageError, match="value is not stored, only key, text_key"):
        run.zarr("value")


@pytest.mark.parametrize("group", ["parts", "text"])
def test_xarray_opens_a_part_as_one_data_set(run: Run, group: str) -> None:
    xarray = pytest.importorskip("xarray")
    part = next(path for path in sorted((run.folder / group).iterdir()) if path.is_dir())
    with xarray.open_zarr(part, consolidated=False) as dataset:
        assert sorted(dataset.data_vars) == (ARRAYS if group == "parts" else ["value"])
        dims = dataset["value"].dims
        assert dims == ("layer", "kv_head", "token" if group == "parts" else "text", "dim")
        array = zarr.open_array(part / "value", mode="r")
        assert_same_bits(dataset["value"].values, np.asarray(array[:]))


def test_dimensions_share_a_name_only_where_they_are_the_same(run: Run) -> None:
    sizes: dict[str, int] = {}
    for name in ARRAYS:
        array = run.zarr(name)[0].array
        dimensions: Any = array.metadata
        for dimension, size in zip(dimensions.dimension_names, array.shape, strict=True):
            assert sizes.setdefault(str(dimension), size) == size
    assert len(sizes) == 12

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtool.datasets.bdd10k import Bdd10k, check_train_ids
from kvtool.datasets.json_files import stream_json_list
from kvtool.datasets.masks import read_label_map
from kvtool.errors import DatasetError, UsageError
from tests.support import datasets as builders

DAY = "The image is taken at daytime and it is from city street view"
NIGHT = "The image is taken at nighttime and it is from highway"


def test_images_and_label_maps(tmp_path: Path) -> None:
    dataset = Bdd10k(builders.bdd10k(tmp_path))
    assert [ref.id for ref in dataset.images()] == [
        "day1",
        "day2",
        "dusk1",
        "mixed1",
        "night1",
        "unlisted",
    ]
    assert dataset.texts()[13] == "car"
    labels = dataset.label_map("day1")
    assert sorted(np.unique(labels)) == [*range(19), 255]
    assert dataset.labelled_ids() == [ref.id for ref in dataset.images()]


def test_domains_and_prefixes(tmp_path: Path) -> None:
    dataset = Bdd10k(builders.bdd10k(tmp_path))
    assert dataset.attributes("dusk1") == ("dawn/dusk", "city street")
    assert dataset.attributes("unlisted") is None
    domains = {ref.id: dataset.domain(ref.id) for ref in dataset.images()}
    day, night = "day+street", "night+highway"
    assert domains == {
        "day1": day,
        "day2": day,
        "dusk1": None,
        "mixed1": None,
        "night1": night,
        "unlisted": None,
    }
    assert (dataset.prefix("day1", "correct"), dataset.prefix("day1", "incorrect")) == (DAY, NIGHT)
    assert (dataset.prefix("night1", "correct"), dataset.prefix("night1", "incorrect")) == (
        NIGHT,
        DAY,
    )
    with pytest.raises(
        UsageError,
        match=r"dusk1 is of neither domain .* use @val-day\+street or @val-night\+highway",
    ):
        dataset.prefix("dusk1", "correct")


def test_a_split_of_one_domain(tmp_path: Path) -> None:
    builders.bdd10k(tmp_path)
    assert [ref.id for ref in Bdd10k(tmp_path, "val-day+street").images()] == ["day1", "day2"]
    dataset = Bdd10k(tmp_path, "val-night+highway")
    assert [ref.id for ref in dataset.images()] == ["night1"]
    assert dataset.label_map("night1").shape == (24, 32)
    (tmp_path / "labels/det_20/det_train.json").unlink()
    with pytest.raises(DatasetError, match=r"expected images of domain night\+highway, found none"):
        Bdd10k(tmp_path, "val-night+highway").images()
    (tmp_path / "labels/det_20/det_val.json").unlink()
    with pytest.raises(
        DatasetError, match=r"expected det_train.json and det_val.json, found neither"
    ):
        Bdd10k(tmp_path, "val-day+street").images()


def test_missing_and_foreign_labels(tmp_path: Path) -> None:
    builders.bdd10k(tmp_path)
    (tmp_path / "labels/sem_seg/masks/val/day2.png").unlink()
    builders.label_png(
        tmp_path / "labels/sem_seg/masks/val/day1.png", np.array([[0, 19, 33, 255]]), palette=False
    )
    dataset = Bdd10k(tmp_path)
    assert "day2" not in dataset.labelled_ids()
    assert dataset.skipped == [f"{tmp_path}/labels/sem_seg/masks/val: no label map of image day2"]
    with pytest.raises(
        DatasetError, match=r"day1.png: expected train ids 0-18 and 255, found 19, 33"
    ):
        dataset.label_map("day1")


def test_golden_ground_truth_passes_the_check(tmp_path: Path) -> None:
    for path in sorted((builders.golden("bdd_a.zip", tmp_path) / "gt").iterdir()):
        check_train_ids(read_label_map(path), path)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(values, max_size=6), st.integers(1, 40), st.sampled_from([None, 1]))
@pytest.mark.slow
def test_streaming_a_list_equals_loading_it(
    tmp_path_factory: pytest.TempPathFactory, elements: list[object], chunk: int, indent: int | None
) -> None:
    path = tmp_path_factory.mktemp("json") / "list.json"
    path.write_text(json.dumps(elements, indent=indent), encoding="utf-8")
    assert list(stream_json_list(path, chunk=chunk)) == elements


@pytest.mark.parametrize(
    "text", ["", "{}", '{"frames": []}', "[1, 2", '[{"a": 1} {"b": 2}]', "[1, x]", "[1 2]"]
)
def test_streaming_refuses_anything_else(tmp_path: Path, text: str) -> None:
    path = builders.write_text(tmp_path / "list.json", text)
    with pytest.raises(DatasetError, match=r"list.json: expected"):
        list(stream_json_list(path, chunk=3))

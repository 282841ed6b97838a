from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.datasets.refcoco import RefCoco
from kvtool.datasets.restricted_pickle import load_plain
from kvtool.errors import DatasetError
from tests.support import datasets as builders


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_one_sample_a_sentence(tmp_path: Path, protocol: int) -> None:
    dataset = RefCoco(builders.refcoco(tmp_path, protocol))
    assert dataset.split == "val"
    assert [
        (e.sent_id, e.text, e.raw, e.image_id[-2:], e.category) for e in dataset.expressions()
    ] == [
        (0, "left dog", "LEFT DOG!", "06", "dog"),
        (1, "the dog", "THE DOG!", "06", "dog"),
        (10, "the dog", "THE DOG!", "05", "dog"),
    ]
    assert [ref.id for ref in dataset.images()] == [
        "COCO_train2014_000000000006",
        "COCO_train2014_000000000005",
    ]
    assert all(ref.path is not None and ref.path.is_file() for ref in dataset.images())
    assert dataset.texts() == ("left dog", "the dog")
    assert [line.split(": ")[-1] for line in dataset.skipped] == [
        "no annotation 999 with an image in instances.json",
        "no annotation 102 with an image in instances.json",
    ]
    assert [e.text for e in RefCoco(tmp_path, "testA").expressions()] == ["brown dog"]


def test_masks_of_overlapping_polygons_and_run_lengths(tmp_path: Path) -> None:
    dataset = RefCoco(builders.refcoco(tmp_path))
    left, _, overlapping = dataset.expressions()
    assert dataset.object_mask(left).sum() == 24 * 3
    mask = dataset.object_mask(overlapping)
    assert mask.shape == (24, 32)
    assert (mask.max(), mask.sum()) == (1, 10 * 10 + 12 * 12 - 4 * 4)  # the overlap counts once


def test_golden_tree(tmp_path: Path) -> None:
    """The official pickle format (protocol 0, Python 2 strings) and masks, bit for bit."""
    root = builders.golden("refcoco_tree_a.zip", tmp_path)
    golden = np.load(Path(__file__).parents[1] / "golden/refcoco_tree_a_masks.npz")
    dataset = RefCoco(root)
    first = dataset.expressions()[0]
    assert (first.raw, first.text) == (
        "the single thing on the left, #0!",
        "the single thing on the left 0",
    )
    seen = {e.ann_id: dataset.object_mask(e) for e in dataset.expressions()}
    assert {f"union_{ann_id}" for ann_id in seen} == {
        name for name in golden.files if name.startswith("union_")
    }
    for ann_id, mask in seen.items():
        assert np.array_equal(mask, golden[f"union_{ann_id}"])
    with pytest.raises(
        DatasetError,
        match=r"expected COCO's images at images/mscoco/images/train2014/, found refcoco/",
    ):
        dataset.images()


def test_caption_as_prefix(tmp_path: Path) -> None:
    builders.refcoco(tmp_path)
    with pytest.raises(
        DatasetError,
        match=r"captions at images/mscoco/annotations/captions_train2014.json, found none",
    ):
        RefCoco(tmp_path).prefix("COCO_train2014_000000000005", "correct")
    builders.captions(tmp_path)
    dataset = RefCoco(tmp_path)
    assert dataset.prefix("COCO_train2014_000000000005", "correct") == "A dog runs."
    with pytest.raises(DatasetError, match=r"no COCO caption of image COCO_train2014_000000000006"):
        dataset.prefix("COCO_train2014_000000000006", "correct")


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "refs(unc).p"
    path.write_bytes(pickle.dumps([_Bomb()], protocol=protocol))
    with pytest.raises(
        DatasetError,
        match=r"expected a pickle of plain lists and dicts, found something else: it asks",
    ):
        load_plain(path)
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    "code",
    [b"", b"garbage", b"\x80\x04.", b"cos\nsystem\n(S'true'\ntR.", b"i__main__\nx\n.", b"P1\n."],
)
def test_damaged_or_hostile_pickles(tmp_path: Path, code: bytes) -> None:
    path = tmp_path / "refs(unc).p"
    path.write_bytes(code)
    with pytest.raises(DatasetError) as caught:
        load_plain(path)
    assert "\n" not in str(caught.value)


def test_every_truncation_of_a_pickle(tmp_path: Path) -> None:
    root = builders.golden("refcoco_tree_a.zip", tmp_path)
    content = (root / "refcoco/refs(unc).p").read_bytes()
    for end in range(0, len(content) - 1, 97):
        (root / "refcoco/refs(unc).p").write_bytes(content[:end])
        with pytest.raises(DatasetError, match=r"refs\(unc\).p"):
            RefCoco(root).expressions()


@pytest.mark.parametrize("value", [{"refs": []}, [], [{"ref_id": 1}], [3]])
def test_other_contents(tmp_path: Path, value: Any) -> None:
    builders.refcoco(tmp_path)
    (tmp_path / "refcoco/refs(unc).p").write_bytes(pickle.dumps(value))
    with pytest.raises(DatasetError, match=r"refs\(unc\).p: (ref 0: )?expected"):
        RefCoco(tmp_path).expressions()

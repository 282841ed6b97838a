from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kvtool.datasets.davis import Davis, Video
from kvtool.errors import DatasetError
from tests.support import datasets as builders


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_videos(tmp_path: Path, end: str) -> None:
    dataset = Davis(builders.davis(tmp_path, end))
    assert len(dataset.images()) == 12
    assert [ref.id for ref in dataset.images()][:5] == [
        "two/00000",
        "two/00001",
        "two/00002",
        "two/00003",
        "gone/00000",
    ]
    first, second = dataset.videos()
    assert first == Video("two", tuple(f"two/{i:05d}" for i in range(4)), 2)  # void is no object
    assert second.n_objects == 1
    assert dataset.skipped == [
        f"{tmp_path}/Annotations/480p: sequence nothing: no object in its first annotation"
    ]
    assert dataset.label_map("two/00001")[21, 0] == 255
    masks = dataset.objects("two/00001", 2)
    assert masks.shape == (2, 24, 32)
    assert masks.sum(axis=(1, 2)).tolist() == [36, 36]
    assert dataset.objects("gone/00002", 1).sum() == 0  # a frame without objects


def test_missing_annotations_are_named(tmp_path: Path) -> None:
    builders.davis(tmp_path)
    (tmp_path / "Annotations/480p/two/00002.png").unlink()
    (tmp_path / "Annotations/480p/gone/00000.png").unlink()
    dataset = Davis(tmp_path)
    assert [v.name for v in dataset.videos()] == ["two"]
    assert len(dataset.videos()[0].frame_ids) == 4
    assert [line.split(": ")[1] for line in dataset.skipped] == [
        "no annotation of frame two/00002",
        "no annotation of frame gone/00000",
        "sequence nothing",
    ]
    assert not dataset.has_label_map("two/00002")
    with pytest.raises(DatasetError, match=r"two/00002.png: expected a mask, found nothing there"):
        dataset.label_map("two/00002")


def test_golden_tree(tmp_path: Path) -> None:
    dataset = Davis(builders.golden("davis_tree_a.zip", tmp_path) / "DAVIS")
    videos = {v.name: v for v in dataset.videos()}
    assert {name: (len(v.frame_ids), v.n_objects) for name, v in videos.items()} == {
        "blob-one": (12, 1),
        "trio": (9, 3),
        "voided": (7, 2),
    }
    first = dataset.label_map("voided/00000")
    assert any((dataset.label_map(i) == 255).any() for i in videos["voided"].frame_ids)
    assert np.array_equal(dataset.objects("voided/00000", 2)[1], first == 2)


def test_wrong_layout(tmp_path: Path) -> None:
    builders.davis(tmp_path / "DAVIS")
    with pytest.raises(
        DatasetError,
        match=rf"at ImageSets/2017/val.txt, found DAVIS/; did you mean {tmp_path}/DAVIS",
    ):
        Davis(tmp_path)
    with pytest.raises(
        DatasetError, match=r"at ImageSets/2017/train.txt, found ImageSets/2017/ with val.txt"
    ):
        Davis(tmp_path / "DAVIS", "train")
    (tmp_path / "DAVIS/ImageSets/2017/val.txt").write_text("three\nfour\n")
    with pytest.raises(
        DatasetError, match=r"480p: expected frames of 2 sequences, found none of three, four"
    ):
        Davis(tmp_path / "DAVIS").images()


def test_sequences_that_are_there_are_used(tmp_path: Path) -> None:
    """A part of the data set: what is not there is counted and named; a sequence listed twice
    counts once.
    """
    builders.davis(tmp_path)
    (tmp_path / "JPEGImages/480p/empty").mkdir()
    (tmp_path / "ImageSets/2017/val.txt").write_text("three\ntwo\nempty\ngone\ntwo\n../two\n")
    dataset = Davis(tmp_path)
    assert [ref.id for ref in dataset.images()] == [
        f"{name}/{i:05d}" for name in ("two", "gone") for i in range(4)
    ]
    assert [video.name for video in dataset.videos()] == ["two", "gone"]
    assert dataset.notes == [
        f"{tmp_path}/ImageSets/2017/val.txt: 1 of its lines are listed twice and count once: two",
        f"{tmp_path}/JPEGImages/480p: 3 of 5 sequences have no frames there: three, empty, ../two",
    ]
    assert dataset.skipped == []


def test_a_sequence_without_one_of_its_frames_is_left_out(tmp_path: Path) -> None:
    """Its next frame would pass for the first."""
    builders.davis(tmp_path)
    (tmp_path / "JPEGImages/480p/two/00000.jpg").unlink()
    dataset = Davis(tmp_path)
    assert [video.name for video in dataset.videos()] == ["gone"]
    assert (
        "sequence two: expected a frame for each annotation, found none of 00000"
        in dataset.skipped[0]
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "I;16", "1"])
def test_an_unusable_first_annotation_leaves_out_its_sequence(tmp_path: Path, mode: str) -> None:
    builders.davis(tmp_path)
    path = tmp_path / "Annotations/480p/two/00000.png"
    Image.fromarray(np.ones((24, 32), np.uint8)).convert(mode).save(path)
    dataset = Davis(tmp_path)
    assert [video.name for video in dataset.videos()] == ["gone"]
    assert dataset.skipped[0].startswith(f"{path}: expected ")

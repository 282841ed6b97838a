from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kvtool.datasets import open_dataset
from kvtool.datasets.episodes import Entry
from kvtool.datasets.pascal5i import VOC_CLASSES, Pascal5i
from kvtool.errors import DatasetError
from tests.support import datasets as builders


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_entries_and_images(tmp_path: Path, end: str) -> None:
    builders.pascal(tmp_path, fold=1, end=end)
    dataset = Pascal5i(tmp_path, "fold1")
    entries = dataset.entries()
    assert len(entries) == 35
    assert entries[0] == Entry("2007_060000", 6)
    assert {e.class_id for e in entries} == {6, 7, 8, 9, 10} == set(dataset.class_ids())
    assert dataset.texts() == ("bus", "car", "cat", "chair", "cow") == VOC_CLASSES[5:10]
    assert len(dataset.images()) == 35
    assert dataset.skipped == []


def test_an_image_of_two_classes_is_extracted_once(tmp_path: Path) -> None:
    builders.pascal(tmp_path)
    path = tmp_path / "splits/pascal/val/fold0.txt"
    path.write_text(path.read_text() + "2007_010000__02\n")
    dataset = Pascal5i(tmp_path)
    assert (len(dataset.entries()), len(dataset.images())) == (36, 35)


def test_label_maps_palette_and_grey(tmp_path: Path) -> None:
    dataset = Pascal5i(builders.pascal(tmp_path))
    for name in ("2007_010000", "2007_010001"):  # a palette file and a grey one
        labels = dataset.label_map(name)
        assert labels.shape == (24, 32)
        assert labels[10, 10] == 1
        assert labels[3, 10] == 255
    mask = dataset.class_mask("2007_010000", 1)
    assert sorted(np.unique(mask)) == [0, 1, 255]
    assert mask.sum(where=mask < 255) == 12 * 15
    assert dataset.class_mask("2007_010000", 2)[20, 4] == 1


def test_colour_rendering_is_refused(tmp_path: Path) -> None:
    dataset = Pascal5i(builders.pascal(tmp_path))
    path = tmp_path / "VOC2012/SegmentationClassAug/2007_010000.png"
    Image.open(path).convert("RGB").save(path)
    with pytest.raises(
        DatasetError,
        match=r"2007_010000.png: expected an 8-bit grey or palette label map, found mode RGB",
    ):
        dataset.label_map("2007_010000")
    path.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"expected a mask image"):
        dataset.label_map("2007_010000")


def test_missing_label_map_is_named(tmp_path: Path) -> None:
    dataset = Pascal5i(builders.pascal(tmp_path))
    (tmp_path / "VOC2012/SegmentationClassAug/2007_010003.png").unlink()
    assert len(dataset.entries()) == 34
    assert len(dataset.skipped) == 1
    assert "2007_010003.png" in dataset.skipped[0]
    assert all("2007_010003" not in (e.query_id, *e.support_ids) for e in dataset.episodes(100))


def test_episodes_follow_the_protocol(tmp_path: Path) -> None:
    dataset = Pascal5i(builders.pascal(tmp_path))
    entries = dataset.entries()
    class_of = {e.image_id: e.class_id for e in entries}
    episodes = dataset.episodes(n=100, shots=5, seed=0)
    assert len(episodes) == 100
    for index, episode in enumerate(episodes):
        assert (episode.query_id, episode.class_id) == (
            entries[index % 35].image_id,
            entries[index % 35].class_id,
        )
        assert len(set(episode.support_ids)) == 5
        assert episode.query_id not in episode.support_ids
        assert {class_of[i] for i in episode.support_ids} == {episode.class_id}
    assert dataset.episodes(n=10) == episodes[:10]
    assert dataset.episodes(n=100, seed=1) != episodes
    support = {name for e in episodes for name in e.support_ids}
    assert support == set(class_of)  # every image serves at some time


def test_episodes_among_the_images_of_a_limited_run(tmp_path: Path) -> None:
    dataset = Pascal5i(builders.pascal(tmp_path))
    ids = {ref.id for ref in dataset.images()[:10]}  # seven of class 1, three of class 2
    entries = [entry for entry in dataset.entries() if entry.image_id in ids]
    episodes = dataset.episodes(n=20, entries=entries)
    assert {e.class_id for e in episodes} == {1}
    assert all({e.query_id, *e.support_ids} <= ids for e in episodes)
    assert "class 2 has 3 images, an episode needs 6" in dataset.skipped[0]
    assert [line.split(": ")[1] for line in dataset.skipped] == [
        f"class {number} has {count} images, an episode needs 6"
        for number, count in ((2, 3), (3, 0), (4, 0), (5, 0))
    ]
    assert {e.class_id for e in dataset.episodes(n=20, shots=2, entries=entries)} == {1, 2}
    with pytest.raises(DatasetError, match=r"expected a class with 8 images for 7-shot episodes"):
        dataset.episodes(shots=7)


def test_own_class_names(tmp_path: Path) -> None:
    builders.pascal(tmp_path)
    builders.write_text(tmp_path / "classes.txt", "\r\n".join(f"thing {i}" for i in range(1, 21)))
    assert open_dataset(f"pascal5i:{tmp_path}@fold0").texts() == tuple(
        f"thing {i}" for i in range(1, 6)
    )


@pytest.mark.parametrize("line", ["2007_000033", "2007_000033__07", "2007_000033__x", "__01"])
def test_malformed_list(tmp_path: Path, line: str) -> None:
    builders.pascal(tmp_path)
    builders.write_text(tmp_path / "splits/pascal/val/fold0.txt", line)
    with pytest.raises(
        DatasetError,
        match=rf"line 1: expected <image>__<class> with a class of 01 to 05, found '{line}'",
    ):
        Pascal5i(tmp_path).images()


def test_wrong_layout(tmp_path: Path) -> None:
    builders.pascal(tmp_path / "data")
    with pytest.raises(
        DatasetError,
        match=r"at splits/pascal/val/fold2.txt, found splits/pascal/val/ with fold0.txt",
    ):
        Pascal5i(tmp_path / "data", "fold2")
    with pytest.raises(DatasetError, match=rf"did you mean {tmp_path}/data"):
        Pascal5i(tmp_path)

"""own:DIR: what its files allow, and what is read from them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from kvtool.datasets import open_dataset
from kvtool.datasets.own import Own
from kvtool.errors import DatasetError, UsageError
from tests.support import datasets as builders
from tests.support.datasets.own_data import rewrite


def test_everything_is_read(root: Path) -> None:
    dataset = Own(root)
    assert dataset.tasks == dataset.about.tasks
    assert dataset.conditions == ("none", "correct", "incorrect", "random")
    ids = [ref.id for ref in dataset.images()]
    assert ids[:2] == ["p00", "p01"]
    assert ids[14:16] == ["videos/one/00000", "videos/one/00001"]
    assert dataset.texts() == (
        "cat",
        "dog",
        "a cat on a mat",
        "a dog",
        "the left one",
        "nothing in particular",
    )
    assert dataset.labelled_ids() == ids[:14]
    assert dataset.groups()["cat"] == tuple(f"p{n:02d}" for n in range(0, 14, 2))
    assert dataset.groups()["dog"][:2] == ("p00", "p01")
    assert [video.n_objects for video in dataset.videos()] == [1, 1]
    assert dataset.skipped == []
    mask = dataset.group_mask("p00", "dog")
    assert (mask == dataset.class_mask("p00", 2)).all()
    assert (mask == 1).sum() == 4 * 7
    assert (mask == 255).sum() == 17
    assert dataset.name_of_class(2) == "dog"


@pytest.mark.parametrize(
    ("absent", "lost"),
    [
        (["masks"], {"foreground-segmentation", "co-segmentation", "semantic-segmentation"}),
        (["classes.json"], {"foreground-segmentation", "co-segmentation", "semantic-segmentation"}),
        (["captions.jsonl"], {"referring-expression"}),
        (["pairs.jsonl"], {"semantic-correspondence"}),
        (["videos"], {"temporal-correspondence"}),
        (["videos/one/masks", "videos/two/masks"], {"temporal-correspondence"}),
        (["questions.jsonl"], set()),
        (["images"], {}),
    ],
)
def test_what_is_served_follows_from_the_files(
    root: Path, absent: list[str], lost: set[str]
) -> None:
    for name in absent:
        path = root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    dataset = Own(root)
    assert set(dataset.about.tasks) - set(dataset.tasks) >= set(lost)
    assert all(dataset.lacks(task) for task in lost)
    if lost:
        assert set(dataset.about.tasks) - set(dataset.tasks) == lost
    if "captions.jsonl" in absent:
        with pytest.raises(UsageError, match="it offers: none, random"):
            dataset.prefix("p00", "correct")


def test_captions_are_prefixes_and_say_what_they_refer_to(root: Path) -> None:
    dataset = Own(root)
    assert dataset.prefix("p01", "correct") == "a dog"
    assert dataset.prefix("p01", "incorrect") == "a boat"
    caption = dataset.prefix("p00", "incorrect")
    assert caption != dataset.prefix("p00", "correct")
    assert caption == dataset.prefix("p00", "incorrect")
    with pytest.raises(DatasetError, match="no caption of image p09"):
        dataset.prefix("p09", "correct")
    with pytest.raises(UsageError, match="no image 'nowhere'"):
        dataset.prefix("nowhere", "correct")
    cat, _, left = dataset.expressions()
    assert (cat.sent_id, cat.image_id, cat.category, left.category) == (1, "p00", "cat", "")
    assert dataset.expression_texts() == ("a cat on a mat", "a dog", "the left one")
    assert dataset.object_mask(left).sum() == 7 * 9
    assert (dataset.object_mask(cat) == (dataset.group_mask("p00", "cat") == 1)).all()
    assert dataset.place_of(left) == f"{root / 'captions.jsonl'}: line 3"


def test_pairs_share_keypoints_by_name(root: Path) -> None:
    first, second = Own(root).pairs()
    assert (first.src_wh_px, first.category, first.id) == ((32, 24), "all", "1")
    moved = [(x - 1, y + 1) for x, y in first.src_kps_px]
    assert list(first.trg_kps_px) == moved
    assert len(moved) == 4
    assert list(first.trg_box_xyxy_px) == [0, 0, 32, 24]
    assert (second.src_kps_px, second.trg_kps_px, second.kps_ids) == (((4, 5),), ((6, 7),), (0,))
    assert (second.trg_box_xyxy_px, second.category, second.id) == ((2, 2, 22, 12), "dog", "second")


def test_questions_get_letters(root: Path) -> None:
    questions = {question.id: question for question in Own(root).questions()}
    question = questions["8"]
    assert question.prompt == "Which? Select from the following choices.\n(A) cat\n(B) dog"
    assert (question.answer, question.group, question.image_ids) == ("(B)", "all", ("p01",))
    assert (questions["like-3"].answer, questions["like-3"].image_ids) == (
        "(B)",
        ("p00", "p03", "p04"),
    )
    assert (questions["1"].prompt, questions["1"].answer, questions["1"].group) == (
        "Is it a cat?",
        "yes",
        "kind",
    )


@pytest.mark.parametrize("mask", ["/etc/passwd", "../x.png", "a/../../x.png"])
def test_masks_lie_below_the_folder(root: Path, mask: str) -> None:
    rewrite(
        root / "captions.jsonl",
        {"image": "p00", "caption": "x", "mask": mask},
        {"image": "p01", "caption": "y"},
    )
    dataset = Own(root)
    assert dataset.texts()[2:] == ("y",)
    assert "line 1: expected mask as a file below" in dataset.skipped[0]


def test_ids_from_0_and_void_0(root: Path) -> None:
    labels = np.zeros((24, 32), np.uint8)
    labels[:9] = 1
    for path in (root / "masks").iterdir():
        builders.label_png(path, labels)
    rewrite(root / "classes.json", {"names": {"0": "sky", "1": "ground"}})
    dataset = Own(root)
    assert dataset.label_convention().has_other is False
    assert dataset.label_convention().first_id == 0
    assert set(dataset.groups()) == {"sky", "ground"}
    rewrite(root / "classes.json", {"names": {"1": "ground"}, "void": 0, "background": False})
    dataset = Own(root)
    assert set(np.unique(dataset.label_map("p00")).tolist()) == {1, 255}
    assert dataset.label_convention().has_other is False


def test_pictures_in_folders_and_twice(tmp_path: Path) -> None:
    builders.picture(tmp_path / "images/a/1.jpg")
    builders.picture(tmp_path / "images/b/1.jpg")
    builders.picture(tmp_path / "images/b/1.png")
    builders.picture(tmp_path / "images/videos/v/0.png")
    builders.picture(tmp_path / "videos/v/0.jpg")
    dataset = open_dataset(f"own:{tmp_path}")
    assert [ref.id for ref in dataset.images()] == ["a/1", "b/1", "videos/v/0"]
    assert ["second picture" in line for line in dataset.skipped] == [True, True]
    assert dataset.tasks == ()
    assert "no masks/ and no classes.json" in dataset.lacks("co-segmentation")

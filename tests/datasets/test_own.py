"""own:DIR: what its files allow, what is read from them, and what costs no more than itself."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.datasets import open_dataset
from kvtool.datasets.own import Own
from kvtool.errors import DatasetError, UsageError
from tests.support import datasets as builders

PAGE = Path(__file__).parents[2] / "docs/own-data.md"


def rewrite(path: Path, *lines: Any) -> None:
    """A list with these lines alone; texts stand as they are."""
    builders.write_text(
        path, "".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return builders.own(tmp_path / "own")


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


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "expected a JSON object, found"),
        ("[1]", "expected a JSON object, found"),
        (
            {"question": "x", "answer": "y"},
            "expected image, or images as a list, found both or neither",
        ),
        (
            {"image": "nowhere", "question": "x", "answer": "y"},
            "expected the id of a picture that is there, found 'nowhere'",
        ),
        ({"images": [], "question": "x", "answer": "y"}, "expected images as a list of ids"),
        ({"image": "p00", "question": " ", "answer": "y"}, "expected question to be a text"),
        ({"image": "p00", "question": "x"}, "expected the field answer, found image, question"),
        (
            {"image": "p00", "question": "x", "answer": "c", "choices": ["a", "b"]},
            "one of the 2 choices, found 'c'",
        ),
        (
            {"image": "p00", "question": "x", "answer": "a", "choices": "ab"},
            "expected choices as a list",
        ),
        (
            {"image": "p00", "question": "x", "answer": "a", "choices": ["a", 3]},
            "expected a choice to be a text",
        ),
        (
            {"image": "p00", "question": "\ud800", "answer": "a"},
            "expected question as Unicode text",
        ),
        ({"image": "p00", "question": "x", "answer": "a", "id": [1]}, "expected id to be a text"),
        ("[" * 100_000, "expected a JSON object, found"),
    ],
)
def test_a_question_that_cannot_be_used_costs_itself(root: Path, line: Any, reason: str) -> None:
    good = {"image": "p00", "question": "x", "answer": "y"}
    rewrite(root / "questions.jsonl", good, line, "", {**good, "id": "last"})
    dataset = Own(root)
    assert [question.id for question in dataset.questions()] == ["1", "last"]
    (skipped,) = dataset.skipped
    assert skipped.startswith(f"{root / 'questions.jsonl'}: line 2: ")
    assert reason in skipped
    assert "\n" not in skipped


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"images": ["p00"]}, "expected images as a list of two"),
        ({"keypoints": [{"a": [1, 2]}, {"b": [1, 2]}]}, "the same name in both images, found none"),
        ({"keypoints": [{"a": [1, float("nan")]}, {"a": [1, 2]}]}, "to be a finite number"),
        (
            {"keypoints": [{"a": [1, 2000]}, {"a": [1, 2]}]},
            "expected src_kps inside 32 x 24 pixels",
        ),
        ({"keypoints": [[1, 2], [3, 4]]}, "expected keypoints as"),
        ({"boxes": [[0, 0, 0, 0], [0, 0, 5, 5]]}, "expected a box to be a box"),
        ({"sizes": [[0, 24], [32, 24]]}, "expected a size to be a width and a height"),
        ({"id": "first"}, "expected an id of its own"),
    ],
)
def test_a_pair_that_cannot_be_used_costs_itself(
    root: Path, change: dict[str, Any], reason: str
) -> None:
    good = {"id": "first", "images": ["p00", "p01"], "keypoints": [{"a": [1, 2]}, {"a": [3, 4]}]}
    rewrite(root / "pairs.jsonl", good, {**good, "id": "other", **change})
    dataset = Own(root)
    assert [pair.id for pair in dataset.pairs()] == ["first"]
    (skipped,) = dataset.skipped
    assert skipped.startswith(f"{root / 'pairs.jsonl'}: line 2: ")
    assert reason in skipped


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


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        ("{", "expected JSON"),
        ([], "expected {"),
        ({"names": {}}, "without a gap"),
        ({"names": {"1": "a", "3": "b"}}, "without a gap"),
        ({"names": {"2": "a"}}, "without a gap"),
        ({"names": {"x": "a"}}, "an id of names to be a whole number"),
        ({"names": {"1": "a", "2": "a"}}, "a name of its own"),
        ({"names": {"1": "a"}, "void": 1}, "void as an id of no class"),
        ({"names": {"1": "a"}, "void": "x"}, "void as an id of no class"),
        ({"names": {"0": "a"}, "background": True}, "background true where id 0 is no class"),
        ({"names": {"1": "a"}, "void": 0, "background": True}, "background true where id 0"),
    ],
)
def test_classes_that_cannot_be_told(root: Path, classes: Any, reason: str) -> None:
    rewrite(root / "classes.json", classes)
    with pytest.raises(DatasetError, match=re.escape(reason)) as caught:
        Own(root).entries()
    assert str(caught.value).startswith(f"{root / 'classes.json'}: ")


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


def test_masks_that_cannot_be_used_are_left_out(root: Path) -> None:
    (root / "masks/p01.png").unlink()
    builders.label_png(root / "masks/p02.png", np.full((24, 32), 9))
    builders.label_png(root / "masks/p03.png", np.zeros((24, 32)))
    (root / "masks/p04.png").write_bytes(b"no picture")
    builders.picture(root / "masks/p05.png")
    dataset = Own(root)
    assert dataset.labelled_ids() == ["p00", *(f"p{n:02d}" for n in range(6, 14))]
    reasons = (
        "no mask of image p01",
        "found 9",
        "pixels of a class, found none",
        "not an image",
        "mode RGB",
    )
    assert len(dataset.skipped) == len(reasons)
    assert all(reason in line for reason, line in zip(reasons, dataset.skipped, strict=True))
    shutil.rmtree(root / "masks")
    (root / "masks").mkdir()
    with pytest.raises(
        DatasetError, match="expected masks of the pictures, found none to use; first problem"
    ):
        Own(root).groups()


def test_videos_that_cannot_be_used_are_left_out(root: Path) -> None:
    (root / "videos/one/masks/00000.png").unlink()
    builders.picture(root / "videos/three/0.jpg")
    (root / "videos/empty").mkdir()
    builders.picture(root / "videos/four/0.jpg")
    builders.label_png(root / "videos/four/masks/0.png", np.zeros((24, 32)))
    dataset = Own(root)
    assert [video.name for video in dataset.videos()] == ["two"]
    assert dataset.n_sequences == 4
    for reason in (
        "no mask of frame videos/one/00000",
        "frame videos/three/0",
        "empty: expected frames",
        "an object",
    ):
        assert any(reason in line for line in dataset.skipped)
    (root / "videos/two/00002.jpg").unlink()
    with pytest.raises(DatasetError, match=r"found none to use; first problem"):
        Own(root).videos()


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


def test_a_list_of_nothing_usable(root: Path) -> None:
    for name, ask in (("pairs", "pairs"), ("questions", "questions"), ("captions", "expressions")):
        rewrite(root / f"{name}.jsonl", "x")
        with pytest.raises(
            DatasetError, match=rf"{name}.jsonl: expected a JSON object a line, found none that"
        ):
            getattr(Own(root), ask)()

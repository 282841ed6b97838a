"""own:DIR: what cannot be used of it costs no more than itself."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.datasets.own import Own
from kvtool.errors import DatasetError
from tests.support import datasets as builders
from tests.support.datasets.own_data import rewrite


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


def test_a_list_of_nothing_usable(root: Path) -> None:
    for name, ask in (("pairs", "pairs"), ("questions", "questions"), ("captions", "expressions")):
        rewrite(root / f"{name}.jsonl", "x")
        with pytest.raises(
            DatasetError, match=rf"{name}.jsonl: expected a JSON object a line, found none that"
        ):
            getattr(Own(root), ask)()

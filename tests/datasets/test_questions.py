"""POPE, MME, BLINK and CV-Bench: questions with the images they ask about."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kvtool.datasets.base import Question
from kvtool.datasets.blink import Blink
from kvtool.datasets.cvbench import CvBench
from kvtool.datasets.images import load_image
from kvtool.datasets.mme import Mme
from kvtool.datasets.pope import Pope
from kvtool.errors import DatasetError, ImageError
from tests.support import datasets as builders


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_pope(tmp_path: Path, end: str) -> None:
    dataset = Pope(builders.pope(tmp_path / "pope", end))
    assert [ref.id for ref in dataset.images()] == [
        "COCO_val2014_000000000042",
        "COCO_val2014_000000000073",
    ]
    assert [load_image(ref).size for ref in dataset.images()] == [(32, 24)] * 2
    questions = dataset.questions()
    assert len({q.id for q in questions}) == len(questions) == 6
    text = "Is there a popular thing in the image?"
    assert questions[3] == Question(
        "popular/2", ("COCO_val2014_000000000073",), text, text, "no", "popular"
    )


def test_pope_errors(tmp_path: Path) -> None:
    root = builders.pope(tmp_path / "pope")
    (tmp_path / "coco").rename(tmp_path / "elsewhere")
    with pytest.raises(
        DatasetError,
        match=r"expected COCO's images at val2014/ or ../coco/val2014/ or coco/val2014/",
    ):
        Pope(root).images()
    path = root / "coco_pope_random.json"
    builders.write_json(path, [{"question_id": 1, "image": "a.jpg", "text": "?", "label": "maybe"}])
    dataset = Pope(root)
    assert {question.group for question in dataset.questions()} == {"popular", "adversarial"}
    assert "random.json: question 1: expected label yes or no, found 'maybe'" in dataset.skipped[0]
    for name in ("popular", "adversarial"):
        (root / f"coco_pope_{name}.json").unlink()
    builders.write_json(path, [{"question_id": 1, "image": "a.jpg", "text": "?"}])
    with pytest.raises(
        DatasetError, match=r"question 1: expected the fields label, found question_id, image, text"
    ):
        Pope(root).questions()
    for text, message in (
        ("{", "expected JSON lines or a JSON list"),
        ("", "one JSON object a line, found none"),
    ):
        builders.write_text(path, text)
        with pytest.raises(DatasetError, match=message):
            Pope(root).questions()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_mme(tmp_path: Path, end: str) -> None:
    dataset = Mme(builders.mme(tmp_path, end))
    assert [ref.id for ref in dataset.images()][:3] == [
        "color/000001",
        "color/000002",
        "count/000001",
    ]
    questions = dataset.questions()
    assert len(questions) == 16
    text = "Is it color a? Please answer yes or no."
    assert questions[0] == Question("color/000001/0", ("color/000001",), text, text, "Yes", "color")
    assert {q.group for q in questions} == {"color", "count", "existence", "position"}
    full = Mme(tmp_path, "all")
    assert full.images()[0].id == "artwork/1"
    assert len(full.questions()) == 18
    assert dataset.skipped == full.skipped == []


def test_mme_odd_files(tmp_path: Path) -> None:
    builders.mme(tmp_path)
    (tmp_path / "color/000002.jpg").unlink()
    builders.write_text(tmp_path / "count/000001.txt", "One?\tYes\n")
    dataset = Mme(tmp_path)
    assert len(dataset.questions()) == 12
    assert [line.split("/")[-1] for line in dataset.skipped] == [
        "000002.txt: no image of this name",
        "000001.txt: expected two questions, found 1",
    ]
    builders.write_text(tmp_path / "position/000001.txt", "Left? Yes\nRight?\tNo\n")
    dataset = Mme(tmp_path)
    assert len(dataset.questions()) == 10
    assert (
        "position/000001.txt: line 1: expected question TAB Yes or No, found 'Left? Yes'"
        in dataset.skipped[-1]
    )
    with pytest.raises(
        DatasetError,
        match=r"expected folders existence/, count/, position/, color/ with <image>.txt",
    ):
        Mme(tmp_path / "eval_tool")


def test_blink(tmp_path: Path) -> None:
    dataset = Blink(builders.blink(tmp_path))
    ids = [ref.id for ref in dataset.images()]
    assert len(ids) == 5 * 3 + 5
    assert ids[:3] == [f"val_Art_Style_1/image_{k}" for k in (1, 2, 3)]
    assert ids[3] == "val_Art_Style_2/image_1"
    question = dataset.questions()[4]
    assert (question.id, question.group, question.answer) == ("val_Art_Style_5", "Art_Style", "(B)")
    assert question.image_ids == tuple(f"val_Art_Style_5/image_{k}" for k in (1, 2, 3))
    assert question.choices == ("second", "third")
    assert dataset.questions()[5].image_ids == ("val_Counting_1/image_1",)


@pytest.mark.parametrize("order", [1, -1])
def test_every_embedded_image_is_the_right_one(tmp_path: Path, order: int) -> None:
    """Across row groups of two rows, in order and backwards."""
    for ref in Blink(builders.blink(tmp_path)).images()[::order]:
        question, _, column = ref.id.partition("/image_")
        expected = 10 * (int(question.rsplit("_", 1)[1]) - 1) + int(column) - 1
        assert np.asarray(load_image(ref))[0, 0].tolist() == [expected] * 3


def test_embedded_images_travel_to_other_processes(tmp_path: Path) -> None:
    refs = Blink(builders.blink(tmp_path)).images()
    copies = pickle.loads(pickle.dumps(refs))
    assert [ref.id for ref in copies] == [ref.id for ref in refs]
    assert copies[7].read is not None
    assert refs[7].read is not None
    assert copies[7].read() == refs[7].read()


def test_blink_one_sub_task_and_hidden_answers(tmp_path: Path) -> None:
    builders.blink(tmp_path)
    dataset = Blink(tmp_path / "Counting", "test")
    assert {q.group for q in dataset.questions()} == {"Counting"}
    assert {q.answer for q in dataset.questions()} == {""}


def test_cvbench(tmp_path: Path) -> None:
    dataset = CvBench(builders.cvbench(tmp_path))
    assert [ref.id for ref in dataset.images()] == ["2D/0/image", "2D/1/image", "3D/0/image"]
    questions = dataset.questions()
    assert [(q.id, q.group, q.source) for q in questions] == [
        ("2D/0", "Count", "ADE20K"),
        ("2D/1", "Relation", "COCO"),
        ("3D/0", "Depth", "Omni3D"),
    ]
    assert questions[0].prompt.endswith("(A) 1\n(B) 2")
    assert np.asarray(load_image(dataset.images()[1]))[0, 0].tolist() == [1, 1, 1]


def test_missing_columns_are_named(tmp_path: Path) -> None:
    path = tmp_path / "Counting/val-00000-of-00001.parquet"
    rows = [
        {k: v for k, v in row.items() if k not in ("choices", "prompt")}
        for row in builders.blink_rows("x", "val")
    ]
    builders.parquet(path, rows, ["image_1"])
    with pytest.raises(
        DatasetError,
        match=r"expected columns prompt, choices, found idx, question, sub_task, answer",
    ):
        Blink(tmp_path).images()
    builders.parquet(path, builders.blink_rows("x", "val"), ["image_1"])
    table = pq.read_table(path)
    pq.write_table(table.drop(["image_1"]), path)
    with pytest.raises(DatasetError, match=r"expected columns image_1, found"):
        Blink(tmp_path).images()
    pq.write_table(table.drop(["image_1"]).append_column("image_1", pa.array(["a.png"] * 5)), path)
    with pytest.raises(
        DatasetError, match=r"column image_1: expected images as \(bytes, path\), found string"
    ):
        Blink(tmp_path).images()


def test_damaged_parquet(tmp_path: Path) -> None:
    builders.cvbench(tmp_path)
    path = tmp_path / "test_2d.parquet"
    table = path.read_bytes()
    for content in (b"", b"PAR1 not a table PAR1", table[: len(table) // 2]):
        path.write_bytes(content)
        with pytest.raises(
            DatasetError, match=r"test_2d.parquet: expected a parquet file"
        ) as caught:
            CvBench(tmp_path).images()
        assert "\n" not in str(caught.value)
    rows: list[dict[str, Any]] = [
        {**row, "image_1": {"bytes": None, "path": "x"}} for row in builders.blink_rows("x", "val")
    ]
    builders.parquet(tmp_path / "x/val-0.parquet", rows, ["image_1"])
    with pytest.raises(ImageError, match=r"row 0, image_1: expected embedded bytes, found none"):
        load_image(Blink(tmp_path).images()[0])


def test_the_same_question_twice(tmp_path: Path) -> None:
    builders.parquet(
        tmp_path / "a/val-0.parquet", builders.blink_rows("Counting", "val"), ["image_1"]
    )
    builders.parquet(
        tmp_path / "b/val-0.parquet", builders.blink_rows("Counting", "val"), ["image_1"]
    )
    with pytest.raises(DatasetError, match=r"expected each idx once, found val_Counting_1 twice"):
        Blink(tmp_path).questions()

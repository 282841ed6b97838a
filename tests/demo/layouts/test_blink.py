"""The subsets as parquet: columns, images that decode, answers that are options, test answers
hidden.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kvtool.demo import compare
from kvtool.demo.draw import Rendered, sample_rendered
from kvtool.demo.layouts import blink
from kvtool.demo.layouts.blink import SUBSETS, iou, relative_depth, shifted
from kvtool.demo.layouts.files import stream

N_IMAGES = {"Art_Style": 3, "Visual_Similarity": 3, "Semantic_Correspondence": 2}
COLUMNS = [
    *(
        "idx",
        "question",
        "sub_task",
        "image_1",
        "image_2",
        "image_3",
        "image_4",
        "choices",
        "answer",
        "prompt",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("subset", SUBSETS)
def test_rows_are_complete(world: Path, subset: str, split: str) -> None:
    table = pq.read_table(world / "blink" / subset / f"{split}-00000-of-00001.parquet")
    assert table.column_names == COLUMNS
    assert len(table) == {"val": 12, "test": 3}[split]
    for number, row in enumerate(table.to_pylist(), 1):
        assert row["idx"] == f"{split}_{subset}_{number}"
        assert row["sub_task"] == subset
        letters = [f"({letter})" for letter in "ABCD"[: len(row["choices"])]]
        assert row["answer"] in (letters if split == "val" else ["hidden"])
        lines = [
            f"{letter} {choice}" for letter, choice in zip(letters, row["choices"], strict=True)
        ]
        assert row["prompt"] == "\n".join(
            [f"{row['question']} Select from the following choices.", *lines]
        )
        images = [row[f"image_{n}"] for n in (1, 2, 3, 4)]
        present = N_IMAGES.get(subset, 1)
        assert all(image is None for image in images[present:])
        for image in images[:present]:
            with Image.open(io.BytesIO(image["bytes"])) as picture:
                assert picture.format == "JPEG"
                assert min(picture.size) >= 88


@pytest.mark.slow
def test_answers_vary_and_hub_features_are_named(world: Path) -> None:
    answers: Counter[str] = Counter()
    for subset in SUBSETS:
        table = pq.read_table(world / "blink" / subset / "val-00000-of-00001.parquet")
        answers.update(table.column("answer").to_pylist())
        features: dict[str, Any] = json.loads(table.schema.metadata[b"huggingface"])["info"][
            "features"
        ]
        assert list(features) == COLUMNS
        assert features["image_1"] == {"_type": "Image"}
    assert set(answers) == {"(A)", "(B)", "(C)", "(D)"}


def test_a_shifted_box_is_clearly_worse_and_inside() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        x0, y0 = (int(rng.integers(0, 60)) for _ in range(2))
        box = (x0, y0, x0 + int(rng.integers(14, 60)), y0 + int(rng.integers(14, 60)))
        candidate = shifted(box, (130, 120), rng)
        assert 0 <= candidate[0] < candidate[2] <= 130
        assert 0 <= candidate[1] < candidate[3] <= 120
        assert 0.1 <= iou(box, candidate) <= 0.5


def test_iou_by_hand() -> None:
    assert iou((0, 0, 4, 4), (0, 0, 4, 4)) == 1
    assert iou((0, 0, 4, 4), (2, 0, 6, 4)) == pytest.approx(8 / 24)
    assert iou((0, 0, 4, 4), (4, 0, 8, 4)) == 0


@pytest.mark.slow
def test_the_closer_point_is_marked_on_the_thing_in_front(monkeypatch: pytest.MonkeyPatch) -> None:
    """The letters' points, caught on their way to the picture, lie on the thing that the answer
    says.
    """
    marked: list[Any] = []
    drawings: list[Rendered] = []

    def catch_points(image: Any, points: Any, labels: Any) -> Any:
        assert labels == ["A", "B"]
        marked.append(points)
        return image

    def catch_drawing(*args: Any, **options: Any) -> Any:
        scene, rendered = sample_rendered(*args, **options)
        drawings.append(rendered)
        return scene, rendered

    monkeypatch.setattr(compare, "mark_points", catch_points)
    monkeypatch.setattr(blink, "sample_rendered", catch_drawing)
    for index in range(6):
        _, choice = relative_depth(stream(0, "test", index))
        x, y = marked[-1]["AB".index(choice.answer[1])]
        assert drawings[-1].thing_map[int(y), int(x)] == 2  # the second of two things is in front

"""Own data of which no picture, or not each, has a mask: its texts are measured, and nothing of
them is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.store import Run
from tests.support.datasets.files import json_lines, label_png, picture, write_json
from tests.support.datasets.own_data import OWN_CLASSES
from tests.support.planted import planted_model

N_IMAGES = 3
QUESTION = "is it a cat"
LABELS = np.zeros((24, 32), np.uint8)
LABELS[4:16, 5:20] = 1


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Pictures and questions about them, without masks."""
    folder = tmp_path / "own"
    for number in range(N_IMAGES):
        picture(folder / f"images/p{number}.png", seed=number)
    lines = [
        {"image": f"p{number}", "question": QUESTION, "answer": "yes"} for number in range(N_IMAGES)
    ]
    json_lines(folder / "questions.jsonl", lines)
    return folder


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Run:
    model = planted_model(tmp_path / "model")
    report = kvtool.extract(
        tmp_path / "s.kv", model=str(model), dataset=f"own:{data}", kinds=("key", "value")
    )
    return kvtool.open(tmp_path / "s.kv").run(report.run)


def put_masks(folder: Path, numbers: range) -> None:
    write_json(folder / "classes.json", OWN_CLASSES)
    for number in numbers:
        label_png(folder / f"masks/p{number}.png", LABELS)


@pytest.mark.slow
def test_no_masks_leave_nothing_out(run: Run, data: Path, shell: Callable[..., Any]) -> None:
    options: list[dict[str, Any]] = [
        {"benchmark": f"own:{data}"},
        {"question": QUESTION},
        {"sinks": True},
    ]
    for option in options:
        result = kvtool.attend(run, **option)
        assert (result.n, result.n_skipped, result.skipped) == (N_IMAGES, 0, [])
        assert "auroc" not in result.rows[0]
    code, _, lines = shell("attend", run.store, "--benchmark", f"own:{data}")
    assert code == 0, lines


@pytest.mark.slow
def test_a_picture_without_a_mask_is_measured(run: Run, data: Path) -> None:
    put_masks(data, range(2))
    result = kvtool.attend(run, question=QUESTION)
    assert (result.n, result.skipped) == (N_IMAGES, [])
    assert {row["n_masks"] for row in result.rows} == {2}


@pytest.mark.slow
def test_a_damaged_mask_is_named(run: Run, data: Path) -> None:
    put_masks(data, range(N_IMAGES))
    (data / "masks/p1.png").write_bytes(b"no picture")
    result = kvtool.attend(run, question=QUESTION)
    assert (result.n, result.n_skipped) == (N_IMAGES, 1)
    assert "p1.png" in result.skipped[0]
    assert {row["n_masks"] for row in result.rows} == {2}

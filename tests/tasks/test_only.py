"""Predictions of some images alone: bit for bit those of all, with the truth they are scored
against.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kvtool.datasets.identity import dataset_of
from kvtool.features.layers import Layer
from kvtool.metrics.segmentation import VOID
from kvtool.result import Row
from kvtool.store import Run
from kvtool.tasks import TASKS, co_segmentation
from kvtool.tasks.truth import sizes_of
from tests.support.tasks import co_segmentation as msrc
from tests.support.tasks import temporal_correspondence as davis
from tests.support.tasks.runs import RUNS
from tests.support.units import PLANTED

NOISE = (2, 1)
"""A block where nothing is planted: what is predicted of an image hangs on all that is predicted
with it.
"""


def saved(
    run: Run, name: str, folder: Path, block: tuple[int, int], only: set[str] | None = None
) -> tuple[Any, dict[str, bytes], list[Row]]:
    """The task, its files' bytes and their records, of a block (layer, kv_head)."""
    task = TASKS.load("semantic-segmentation" if name == "bdd10k" else name)(
        dataset_of(run, None), sizes_of(run), torch.device("cpu")
    )
    if only is not None:
        task.only(only)
    folder.mkdir()
    records = task.save(
        Layer(run, "value", block[0], [0, 1], torch.device("cpu")), block[1], folder
    )
    return (
        task,
        {record["file"]: (folder / record["file"]).read_bytes() for record in records},
        records,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_some_are_predicted_as_among_all(name: str, tmp_path: Path) -> None:
    run = RUNS[name](tmp_path)
    picks = {run.ids[1], run.ids[3]}
    _, full, records = saved(run, name, tmp_path / "every", NOISE)
    task, part, part_records = saved(run, name, tmp_path / "some", NOISE, picks)
    if name == "semantic-correspondence":
        lines = full["answers.jsonl"].splitlines()
        mine = [
            line
            for pair, line in zip(task.pairs, lines, strict=True)
            if {pair.src_id, pair.trg_id} == picks
        ]
        assert part["answers.jsonl"].splitlines() == mine
        assert len(mine) == 2
        task.only({run.ids[1]})
        assert len(task._saved) == 6
        return
    if name == "temporal-correspondence":
        assert [record["image"] for record in part_records] == run.ids[: davis.FRAMES]
    else:
        assert part_records == [
            record for record in records if {record.get("image"), record.get("query")} & picks
        ]
    assert 0 < len(part_records) < len(records)
    assert part == {record["file"]: full[record["file"]] for record in part_records}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RUNS if name != "semantic-correspondence"])
def test_the_truth_is_what_is_scored(name: str, tmp_path: Path) -> None:
    """Of the planted blocks the predictions are right; of the others only the size is checked."""
    run = RUNS[name](tmp_path)
    task, _, records = saved(run, name, tmp_path / "out", PLANTED)
    agree = []
    for record in records:
        prediction, truth = (
            np.asarray(Image.open(tmp_path / "out" / record["file"])),
            task.truth(record),
        )
        assert prediction.shape == truth.shape
        prediction = prediction if name == "temporal-correspondence" else prediction > 0
        agree.append((prediction == truth)[truth != VOID].mean())
    assert np.mean(agree) > (
        0.97 if name in ("co-segmentation", "temporal-correspondence") else 0.4
    )
    if name == "foreground-segmentation":
        assert np.mean(agree) > 0.9


def test_a_class_is_clustered_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, sizes = msrc.make_run(tmp_path), list[int]()

    def counting(values: Any, *arguments: Any, **options: Any) -> Any:
        sizes.append(len(values))
        return cosegment(values, *arguments, **options)

    cosegment = co_segmentation.cosegment
    monkeypatch.setattr(co_segmentation, "cosegment", counting)
    _, _, records = saved(run, "co-segmentation", tmp_path / "some", PLANTED, {"dog/dog1"})
    assert [record["image"] for record in records] == ["dog/dog1"]
    assert sizes == [4]

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


@pytest.mark.parametrize("name", RUNS)
def test_some_are_predicted_as_among_all(name: str, tmp_path: Path) -> None:
    run = RUNS[name](tmp_path)
    wanted = {run.ids[1], run.ids[3]}
    _, every, records = saved(run, name, tmp_path / "every", NOISE)
    task, some, chosen = saved(run, name, tmp_path / "some", NOISE, wanted)
    if name == "semantic-correspondence":
        lines = every["answers.jsonl"].splitlines()
        mine = [
            line
            for pair, line in zip(task.pairs, lines, strict=True)
            if {pair.src_id, pair.trg_id} == wanted
        ]
        assert some["answers.jsonl"].splitlines() == mine
        assert len(mine) == 2
        task.only({run.ids[1]})
        assert len(task._saved) == 6
        return
    if name == "temporal-correspondence":
        assert [record["image"] for record in chosen] == run.ids[: davis.FRAMES]
    else:
        assert chosen == [
            record for record in records if {record.get("image"), record.get("query")} & wanted
        ]
    assert 0 < len(chosen) < len(records)
    assert some == {record["file"]: every[record["file"]] for record in chosen}


@pytest.mark.parametrize("name", [name for name in RUNS if name != "semantic-correspondence"])
def test_the_truth_is_what_is_scored(name: str, tmp_path: Path) -> None:
    """Of the planted blocks the predictions are right; of the others only the size is checked."""
    run = RUNS[name](tmp_path)
    task, _, records = saved(run, name, tmp_path / "out", PLANTED)
    agree = []
    for record in records:
        said, truth = np.asarray(Image.open(tmp_path / "out" / record["file"])), task.truth(record)
        assert said.shape == truth.shape
        said = said if name == "temporal-correspondence" else said > 0
        agree.append((said == truth)[truth != VOID].mean())
    assert np.mean(agree) > (
        0.97 if name in ("co-segmentation", "temporal-correspondence") else 0.4
    )
    if name == "foreground-segmentation":
        assert np.mean(agree) > 0.9


def test_a_class_is_clustered_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, sizes = msrc.make_run(tmp_path), list[int]()

    def counting(values: Any, *others: Any, **options: Any) -> Any:
        sizes.append(len(values))
        return cosegment(values, *others, **options)

    cosegment = co_segmentation.cosegment
    monkeypatch.setattr(co_segmentation, "cosegment", counting)
    _, _, records = saved(run, "co-segmentation", tmp_path / "some", PLANTED, {"dog/dog1"})
    assert [record["image"] for record in records] == ["dog/dog1"]
    assert sizes == [4]

"""Pascal-5i: a planted answer scored by hand, and scikit-learn with torch's interpolation as the
reference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kvtool.datasets.pascal5i import Pascal5i
from kvtool.errors import KvtoolError
from kvtool.experiments.probe.run import probe
from kvtool.features.layers import patch_labels
from kvtool.metrics.segmentation import VOID
from kvtool.result import Row
from kvtool.store import Run
from kvtool.tasks import foreground_segmentation
from kvtool.tasks.evaluation import evaluate
from kvtool.types import GridSpan
from tests.support.datasets import label_png
from tests.support.fields import assert_documented
from tests.support.tasks.foreground_segmentation import GRID, TASK, make_run
from tests.support.units import PLANTED, Array


def dataset_of(run: Run) -> Pascal5i:
    return Pascal5i(Path(str(run.config.dataset_path)), "fold0")


def slow_counts(
    run: Run, kind: Any, layer: int, head: int, episodes: int
) -> tuple[Array, list[int]]:
    """Background and foreground intersection and union of every episode, one episode and patch
    after the other.
    """
    dataset = dataset_of(run)
    block, images = run.read(kind, layer, head)
    samples = {image.id: image.sample for image in images}
    values = {}
    for image in images:
        values[image.id] = block[image.start : image.stop][
            image.sample.base(kind).token_indices()
        ].astype(np.float64)
    counts, classes = [], []
    entries = [entry for entry in dataset.entries() if entry.image_id in values]
    for episode in dataset.episodes(episodes, 5, 0, entries):
        features, labels = [], []
        for name in episode.support_ids:
            mask, span = dataset.class_mask(name, episode.class_id), samples[name].base(kind)
            tally = np.zeros((*GRID, 2))
            for y in range(mask.shape[0]):
                for x in range(mask.shape[1]):
                    if mask[y, x] != VOID:
                        tally[(*span.cell_at(x + 0.5, y + 0.5), int(mask[y, x]))] += 1
            for cell, (zeros, ones) in enumerate(tally.reshape(-1, 2)):
                if zeros + ones:
                    features.append(values[name][cell])
                    labels.append(ones > zeros)
        model = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-10, max_iter=10_000))
        model.fit(np.array(features), labels)
        truth = dataset.class_mask(episode.query_id, episode.class_id)
        logits = torch.from_numpy(
            model.decision_function(values[episode.query_id]).reshape(1, 1, *GRID)
        )
        dense = torch.nn.functional.interpolate(
            logits, size=truth.shape, mode="bilinear", align_corners=False
        )
        prediction, keep = dense[0, 0].numpy() > 0, truth != VOID
        row = []
        for count in (np.logical_and, np.logical_or):
            for side in (False, True):
                row.append(int(count(prediction[keep] == side, (truth[keep] == 1) == side).sum()))
        counts.append(row)
        classes.append(episode.class_id)
    return np.array(counts), classes


def slow_scores(counts: Array, classes: list[int]) -> dict[str, float]:
    per_class = []
    for class_id in range(1, 6):
        class_counts = counts[np.array(classes) == class_id]
        per_class += (
            [class_counts[:, 1].sum() / class_counts[:, 3].sum()] if len(class_counts) else []
        )
    totals = counts.sum(axis=0)
    return {
        "miou": float(np.mean(per_class)),
        "miou_episode": float(np.mean(counts[:, 1] / counts[:, 3])),
        "fb_iou": float((totals[0] / totals[2] + totals[1] / totals[3]) / 2),
    }


def row_of(rows: list[Row], kind: str, layer: int, head: int, category: str | None = None) -> Row:
    for row in rows:
        if (row["kind"], row["layer"], row["kv_head"], row.get("category")) == (
            kind,
            layer,
            head,
            category,
        ):
            return row
    raise AssertionError("no such row")


@pytest.mark.slow
def test_the_planted_block_is_named_and_scored_by_hand(tmp_path: Path) -> None:
    """One pixel a patch, so that nothing is interpolated.

    Of class 1 two background patches claim to be foreground: its objects have 12 patches, 2 of them
    void, so its IoU is 10 / 12, the others' 1.
    """
    run = make_run(tmp_path, 1, wrong=2, per_class=20)
    result = probe(run, TASK, episodes=100)
    assert result.best is not None
    assert (result.best["kind"], result.best["layer"], result.best["kv_head"]) == (
        "value",
        *PLANTED,
    )
    assert result.best["miou"] == pytest.approx((10 / 12 + 4) / 5)
    assert result.best["n"] == result.n == 100
    assert row_of(result.rows, "value", *PLANTED, "aeroplane")["miou"] == pytest.approx(10 / 12)
    assert row_of(result.rows, "value", *PLANTED, "bird")["miou"] == 1.0
    summary = [row for row in result.rows if "category" not in row and row["kind"] == "value"]
    rivals = [row for row in summary if (row["layer"], row["kv_head"]) != PLANTED]
    chance = np.mean([row["miou"] for row in rivals])
    covered = [row["miou_low"] <= chance <= row["miou_high"] for row in rivals]
    assert chance < 0.05
    assert len(rivals) == 15
    assert sum(covered) >= 12  # episodes count as independent though they share supports


@pytest.mark.slow
def test_the_slow_reference_agrees(tmp_path: Path) -> None:
    run = make_run(tmp_path, 4, newline=True)
    result = probe(run, TASK, episodes=12, layers=[0, 5])
    for kind, layer, head in (
        ("value", *PLANTED),
        ("value", 0, 0),
        ("vision", 3, 0),
        ("projected", 0, 0),
    ):
        row = row_of(result.rows, kind, layer, head)
        expected = slow_scores(*slow_counts(run, kind, layer, head, 12))
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=2e-3)


@pytest.mark.slow
def test_batches_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, 2)
    full = probe(run, TASK, episodes=8, layers=[5], kinds=["value"])
    monkeypatch.setattr(foreground_segmentation, "BATCH_FLOATS", {"cpu": 1})
    single = probe(run, TASK, episodes=8, layers=[5], kinds=["value"], fresh=True)
    for row, single_row in zip(full.rows, single.rows, strict=True):
        assert row["miou"] == pytest.approx(single_row["miou"], abs=5e-3)


@pytest.mark.slow
def test_two_computations_are_equal(tmp_path: Path) -> None:
    run = make_run(tmp_path, 2)
    first, second = (
        probe(run, TASK, episodes=9, layers=[2, 5], fresh=True).to_json() for _ in range(2)
    )
    assert first == second
    third = probe(run, TASK, episodes=9, layers=[2, 5], seed=1)
    assert third.to_json()["rows"] != first["rows"]


@pytest.mark.slow
def test_split(tmp_path: Path) -> None:
    result = probe(make_run(tmp_path, 1, per_class=12), TASK, episodes=40, select="split")
    assert result.best is not None
    assert (result.best["layer"], result.best["kv_head"]) == PLANTED
    assert (result.best["n"], result.best["chosen_miou"], result.best["miou"]) == (20, 1.0, 1.0)


@pytest.mark.slow
def test_missing_images(tmp_path: Path) -> None:
    """The first 14 images are classes 1 and 2: classes 3 to 5 have no episode, are named, and count
    nothing.
    """
    run = make_run(tmp_path, 1, images=14)
    result = probe(run, TASK, episodes=14)
    assert result.best is not None
    assert result.best["miou"] == 1.0
    assert result.n_skipped == 21
    assert_documented(result.to_json())
    assert "21 listed images are not in the run" in result.skipped[0]
    for number, name in ((3, "bird"), (4, "boat"), (5, "bottle")):
        line = f"class {number} has 0 images, an episode needs 6: no score counts {name}"
        assert any(line in reason for reason in result.skipped)
    with pytest.raises(KvtoolError, match="expected a class with 6 images"):
        probe(make_run(tmp_path / "few", 1, images=3), TASK)


@pytest.mark.slow
def test_an_image_without_its_class_is_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path, 2)
    path = tmp_path / f"data/VOC2012/SegmentationClassAug/{run.ids[0]}.png"
    label_png(path, np.zeros((12, 16), np.uint8))
    result = probe(run, TASK, episodes=20)
    assert result.n_skipped == 1
    assert (
        f"{path}: expected pixels of class 1 as the fold's list has it, found none"
        in result.skipped
    )


def test_patch_labels_by_majority() -> None:
    """Four patches of 2 x 2 pixels: a tie, a majority once void is ignored, void alone, and all
    background.
    """
    mask = np.array(
        [[1, 1, 1, 255], [0, 0, 255, 255], [255, 255, 0, 0], [255, 255, 0, 0]], np.uint8
    )
    foreground, valid = patch_labels(mask, GridSpan("base", 0, (2, 2), 2, (0.0, 0.0, 4.0, 4.0)))
    assert foreground.tolist() == [False, True, False, False]
    assert valid.tolist() == [True, True, False, True]
    _, padded = patch_labels(mask, GridSpan("base", 0, (2, 2), 2, (0.0, -4.0, 4.0, 4.0)))
    assert padded.tolist() == [False, False, True, True]


@pytest.mark.slow
def test_a_half_without_a_class_averages_over_the_others(tmp_path: Path) -> None:
    """Of the first class, images suffice for episodes in one half alone; values are perfect."""
    run = make_run(tmp_path, 1, per_class=12)
    entries = dataset_of(run).entries()
    class_ids = [entry.image_id for entry in entries if entry.class_id == entries[0].class_id]
    ids = set(run.ids) - set(class_ids[:1])
    result = evaluate(run, TASK, ids=ids, episodes=40, layers=[5], select="split")
    (line,) = [line for line in result.skipped if "an episode needs 6" in line]
    assert "has 5 images" in line
    assert result.best is not None
    assert (result.best["miou"], result.best["chosen_miou"]) == (1.0, 1.0)
    # Everything foreground gets as much of each class: 10 of 46 pixels.
    assert result.best["chance"] == pytest.approx(10 / 46)

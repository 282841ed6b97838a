"""Blocks whose values are not finite: no scores, never best, and named; others are as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.datasets.imagenet_s import ImageNetS
from kvtool.datasets.spair71k import SPair71k
from kvtool.errors import KvtoolError
from kvtool.experiments.probe.run import probe
from kvtool.result import Result, Row, is_summary, metric_names
from kvtool.store import Run, float32_to_bits
from kvtool.types import Sample
from tests.support import units as builders
from tests.support.fields import assert_documented
from tests.support.tasks.language import GRID as SMALL_GRID
from tests.support.tasks.language import LAYERS, NAMES, imagenet
from tests.support.tasks.runs import RUNS
from tests.support.tasks.semantic_correspondence import GRID, WH, planted, write_spair
from tests.support.units import HEADS, PLANTED, Array, noise, sample, write_run

TASK = "semantic-correspondence"
SPOILED = "cat0/cat0i2"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spair(tmp_path_factory.mktemp("spair"))


def write(
    path: Path, root: Path, dtype: str = "bfloat16", value: float = np.nan, **options: Any
) -> Run:
    """The planted block would be the best, but for one number of one image, outside every
    keypoint's channel.
    """
    dataset = SPair71k(root, "test")
    sound = planted(dataset.pairs())

    def fill(s: Sample, layer: int, head: int) -> Array:
        values = sound(s, layer, head)
        if s.id == SPOILED and (layer, head) == PLANTED:
            values[0, 0] = value
        return values

    samples = [sample(ref.id, i, WH, GRID) for i, ref in enumerate(dataset.images())]
    return write_run(path, "spair71k", "test", root, samples, fill, dtype=dtype, **options)


def rows_of(result: Result, layer: int, head: int) -> list[Row]:
    return [
        row
        for row in result.rows
        if (row["kind"], row["layer"], row["kv_head"]) == ("value", layer, head)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_one_number_spoils_the_block_and_no_other(
    tmp_path: Path, root: Path, dtype: str, value: float
) -> None:
    run = write(tmp_path / "s.kv", root, dtype, value)
    assert run.nonfinite() == {("value", *PLANTED): 1}
    result = probe(run, TASK)
    spoiled = rows_of(result, *PLANTED)
    assert len(spoiled) > 1
    for row in spoiled:
        assert row["nonfinite"] == 1
        assert all(
            row[name + end] is None for name in metric_names(row) for end in ("", "_low", "_high")
        )
    sound = probe(write(tmp_path / "sound.kv", root, dtype, 0.5), TASK)
    rivals = [row for row in result.rows if row not in spoiled]
    assert rivals == [row for row in sound.rows if row not in rows_of(sound, *PLANTED)]
    assert not any("nonfinite" in row for row in rivals)
    assert result.best is not None
    assert result.best["layer"] != PLANTED[0] or result.best["kv_head"] != PLANTED[1]
    assert result.best["pck_image"] == max(
        row["pck_image"] for row in rivals if is_summary(row) and row["kind"] == "value"
    )
    assert all("nonfinite" not in row for row in result.per_layer)
    (line,) = result.skipped
    assert line.endswith("values that are not finite, so no scores: value: layer 5, head 1")
    assert_documented(result.to_json())


@pytest.mark.slow
def test_the_halves_do_not_choose_it(tmp_path: Path, root: Path) -> None:
    result = probe(write(tmp_path / "s.kv", root), TASK, select="split")
    assert result.best is not None
    assert (result.best["layer"], result.best["kv_head"]) != PLANTED


@pytest.mark.slow
def test_images_that_are_not_scored_spoil_nothing(tmp_path: Path, root: Path) -> None:
    run = write(tmp_path / "s.kv", root)
    result = probe(run, TASK, ids=[image for image in run.ids if image != SPOILED])
    assert result.best is not None
    assert (result.best["layer"], result.best["kv_head"]) == PLANTED
    assert not any("nonfinite" in row for row in result.rows)


@pytest.mark.slow
def test_no_block_is_best_where_all_are_spoiled(tmp_path: Path, root: Path) -> None:
    run = write(tmp_path / "s.kv", root)
    result = probe(run, TASK, kinds=["value"], layers=[PLANTED[0]], heads=[PLANTED[1]])
    assert (result.best, result.per_layer) == (None, [])
    with pytest.raises(KvtoolError, match="no best block to save"):
        probe(
            run,
            TASK,
            kinds=["value"],
            layers=[PLANTED[0]],
            heads=[PLANTED[1]],
            save_predictions=tmp_path / "predictions",
        )


@pytest.mark.slow
def test_spoiled_baselines_have_no_score(tmp_path: Path, root: Path) -> None:
    """Of the run itself and of another model's run."""
    dataset = SPair71k(root, "test")
    samples = [sample(ref.id, i, WH, GRID) for i, ref in enumerate(dataset.images())]
    run = write(tmp_path / "s.kv", root, value=0.5)
    second = write_run(
        *(tmp_path / "s.kv", "spair71k", "test", root, samples, noise(3)),
        model="other",
        kinds=("vision",),
        part_size=len(samples) + 1,
        spoiled=("vision",),
    )
    assert second.nonfinite().keys() == {("vision", 3, 0)}
    result = probe(run, TASK)
    (baseline,) = [row for row in result.baselines if row["run"] == second.name]
    assert (baseline["pck_image"], baseline["nonfinite"]) == (None, 1)
    assert any(second.name in line and "vision: layer 3" in line for line in result.skipped)


@pytest.mark.slow
def test_vectors_of_texts_spoil_their_block(tmp_path: Path) -> None:
    masks = imagenet(tmp_path / "data")
    refs = ImageNetS(tmp_path / "data").images()
    samples = [sample(ref.id, i, SMALL_GRID[::-1], SMALL_GRID) for i, ref in enumerate(refs)]
    assert len(masks) == len(samples)
    run = write_run(
        tmp_path / "s.kv",
        "imagenet-s",
        "validation",
        tmp_path / "data",
        samples,
        noise(1),
        layers=LAYERS,
    )
    values = (
        np.random.default_rng(0).normal(size=(len(NAMES), LAYERS, HEADS, 16)).astype(np.float32)
    )
    values[1, 2, 1, 3] = np.inf
    run.commit_text(list(NAMES), float32_to_bits(values))
    result = probe(run, "semantic-segmentation")
    spoiled = [row for row in result.rows if "nonfinite" in row]
    assert {(row["layer"], row["kv_head"]) for row in spoiled} == {(2, 1)}
    assert all(row["miou_fgbg"] is None for row in spoiled)
    assert all(row["miou_fgbg"] is not None for row in result.rows if row not in spoiled)


SPOILED_BLOCKS = {(1, 0), (2, 1), (3, 0)}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.slow
def test_every_task_scores_the_other_blocks_as_ever(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One NaN a token, infinities alone, and a few NaNs in heads that are scored together with
    sound ones.
    """

    def spoiled(values: Array) -> Array:
        values = values.copy()
        if values.ndim == 4 and len(values) > 3:  # (layer, head, token, dim) of the decoder
            values[1, 0, :2], values[2, 1, :, 0], values[3, 0] = np.nan, np.nan, np.inf
        return float32_to_bits(values)

    task = "semantic-segmentation" if name == "bdd10k" else name
    sound = probe(RUNS[name](tmp_path / "sound"), task, kinds=["value"], layers=[0, 1, 2, 3])
    monkeypatch.setattr(builders, "float32_to_bits", spoiled)
    result = probe(RUNS[name](tmp_path / "spoiled"), task, kinds=["value"], layers=[0, 1, 2, 3])
    assert {
        (row["layer"], row["kv_head"]) for row in result.rows if "nonfinite" in row
    } == SPOILED_BLOCKS
    for row, before in zip(result.rows, sound.rows, strict=True):
        if (row["layer"], row["kv_head"]) in SPOILED_BLOCKS:
            assert {row[metric] for metric in metric_names(row)} == {None}
        else:
            assert row == before

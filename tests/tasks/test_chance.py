"""What knows nothing gets, beside every score: by hand, against planted and random values."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from kvtool.datasets.pascal5i import Pascal5i
from kvtool.datasets.spair71k import Pair, SPair71k
from kvtool.experiments.probe.run import probe
from kvtool.reporting.chance import against_chance
from kvtool.reporting.scores import score_tables
from kvtool.result import Result, Row, chance_kind_of, is_summary
from kvtool.stats.bootstrap import ratio
from kvtool.tasks.base import Array, Table, table_rows
from kvtool.tasks.chance import Chances, _OnGrids, beside_chance, pixels_unseen
from kvtool.tasks.episodes import draw_episodes
from kvtool.tasks.scoring import choose_best
from kvtool.types import GridSpan
from tests.support.tasks import foreground_segmentation as pascal
from tests.support.tasks import semantic_correspondence as spair
from tests.support.tasks import temporal_correspondence as davis
from tests.support.tasks.language import NAMES, commit_texts, imagenet_run
from tests.support.units import noise, sample, write_run

SEGMENTATION = "semantic-segmentation"
FOREGROUND, CELLS = 11, 47
"""Pixels of an image of `imagenet_run` that are foreground, and all but the ignored one."""


def guess(result: Result, predictor: str, **labels: Any) -> Row:
    """The row of what knows nothing about all units, or about those with these labels."""
    rows = [row for row in result.chance if row["predictor"] == predictor]
    rows = [row for row in rows if labels or is_summary(row)]
    (row,) = [row for row in rows if labels.items() <= row.items()]
    return row


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory: pytest.TempPathFactory) -> Result:
    run = imagenet_run(tmp_path_factory.mktemp("imagenet"))
    commit_texts(run, NAMES)
    return probe(run, SEGMENTATION, layers=[0, 5])


def test_constant_masks_are_scored_by_hand(segmentation: Result) -> None:
    background, foreground = FOREGROUND / CELLS, 1 - FOREGROUND / CELLS
    nothing = guess(segmentation, "all background")
    assert nothing["miou_fgbg"] == pytest.approx(foreground / 2)
    assert nothing["iou_fg"] == 0.0
    assert nothing["auroc"] == 0.5
    assert nothing["average_precision"] == pytest.approx(background)
    everything = guess(segmentation, "all foreground")
    assert everything["miou_fgbg"] == pytest.approx(background / 2)
    assert everything["iou_fg"] == pytest.approx(background)
    assert guess(segmentation, "all background", category="owl")["n"] == 4
    assert guess(segmentation, "random map")["draws"] == 8
    assert guess(segmentation, "random map")["auroc"] == pytest.approx(0.5, abs=0.05)


def test_every_row_says_what_knows_nothing_gets(segmentation: Result) -> None:
    for row in segmentation.rows:
        label = {"category": row["category"]} if "category" in row else {}
        level = guess(segmentation, row["chance_kind"], **label)
        for end in ("", "_low", "_high"):
            assert row[f"chance{end}"] == level[f"miou_fgbg{end}"]
        levels = [
            row for row in segmentation.chance if row.get("category") == label.get("category")
        ]
        assert row["chance"] == max(level["miou_fgbg"] for level in levels)
        assert row["unseen"] == 0.0
        if not label:
            assert row["chance_difference"] == pytest.approx(row["miou_fgbg"] - row["chance"])


def test_planted_values_exceed_chance_and_their_map_is_perfect(segmentation: Result) -> None:
    assert segmentation.best is not None
    assert segmentation.best["exceeds_chance"] is True
    assert segmentation.best["auroc"] == segmentation.best["average_precision"] == 1.0
    assert segmentation.best["chance_max"] >= segmentation.best["chance"] - 1e-12


@pytest.mark.slow
def test_random_values_do_not_exceed_chance(tmp_path: Path) -> None:
    run = imagenet_run(tmp_path)
    commit_texts(run, NAMES)
    for select in ("max", "split"):
        best = probe(run, SEGMENTATION, layers=[0, 1, 2, 3], select=select).best
        assert best is not None
        assert best["exceeds_chance"] is False
        assert ("chance_max" in best) == (select == "max")


@pytest.mark.slow
def test_a_random_point_of_the_box_and_the_best_patch(tmp_path: Path) -> None:
    run = spair.make_run(tmp_path)
    result = probe(run, spair.TASK, layers=[0, 5])
    pairs = SPair71k(Path(str(run.config.dataset_path)), "test").pairs()
    ceiling = np.mean([share_of_best_patches(pair, run.samples[0].base()) for pair in pairs])
    assert result.best is not None
    assert result.best["ceiling"] == pytest.approx(ceiling)
    assert result.best["exceeds_chance"] is True
    # Of a box of side s, a point that is right lies in a disk of radius s / 10 around the true one.
    assert 0.0 < guess(result, "random point")["pck_image"] < 0.04
    alpha = guess(result, "random point", alpha=0.15)
    assert alpha["pck_image"] > guess(result, "random point")["pck_image"]
    assert {row["predictor"] for row in result.chance} == {
        "random point",
        "random patch",
        "same place",
    }


def share_of_best_patches(pair: Pair, span: GridSpan) -> float:
    """A pair's PCK at 0.1 where each keypoint is found at the center of the patch over it."""
    x0, y0, x1, y1 = pair.trg_box_xyxy_px
    centers = np.array([span.centre_px(*span.cell_at(*point)) for point in pair.trg_kps_px])
    distance_px = np.linalg.norm(centers - np.array(pair.trg_kps_px), axis=1)
    return float(np.mean(distance_px <= 0.1 * max(x1 - x0, y1 - y0)))


@pytest.mark.slow
def test_few_shot_episodes_are_set_beside_constant_masks(tmp_path: Path) -> None:
    result = probe(pascal.make_run(tmp_path, 1), pascal.TASK, episodes=35, layers=[0, 5])
    assert result.best is not None
    assert guess(result, "all background")["miou"] == 0.0
    # Objects of 12 of 48 patches, two of them void.
    assert guess(result, "all foreground")["miou"] == pytest.approx(10 / 46)
    assert result.best["exceeds_chance"] is True
    assert result.best["n_undefined"] == 0


@pytest.mark.slow
def test_halves_of_few_shot_episodes_share_no_image(tmp_path: Path) -> None:
    run = pascal.make_run(tmp_path, 1, per_class=14)
    dataset = Pascal5i(Path(str(run.config.dataset_path)), "fold0")
    entries = dataset.entries()
    episodes, half = draw_episodes(dataset, 71, 5, 0, entries, "split")
    assert half is not None
    images = [
        {
            image
            for episode, side in zip(episodes, half, strict=True)
            if side == number
            for image in (episode.query_id, *episode.support_ids)
        }
        for number in (0, 1)
    ]
    assert images[0].isdisjoint(images[1])
    assert [episode.index for episode in episodes] == list(range(71))
    assert {episode.class_id for episode in episodes} == {1, 2, 3, 4, 5}
    best = probe(run, pascal.TASK, episodes=40, layers=[5], select="split").best
    assert best is not None
    assert (best["n"], best["miou"]) == (20, 1.0)


@pytest.mark.slow
def test_episodes_are_resampled_by_query(tmp_path: Path) -> None:
    result = probe(pascal.make_run(tmp_path, 1), pascal.TASK, episodes=70, layers=[0])
    for row in filter(is_summary, result.rows):
        assert (row["n"], row["n_resampled"]) == (70, 35)


@pytest.mark.slow
def test_classes_that_no_episode_is_of_are_named(tmp_path: Path) -> None:
    result = probe(pascal.make_run(tmp_path, 1), pascal.TASK, episodes=3, layers=[5])
    assert result.best is not None
    assert result.best["miou"] == 1.0
    assert any(
        line.startswith("no episode is of bicycle, bird, boat, bottle") for line in result.skipped
    )


@pytest.mark.slow
def test_what_a_crop_leaves_out_is_counted_beside_every_score(tmp_path: Path) -> None:
    """The middle half of the width is seen: of four points in a row, the outer two are not."""
    spair.write_spair(tmp_path / "data")
    refs = SPair71k(tmp_path / "data", "test").images()
    width, height = spair.WH
    cover = (width / 4, 0.0, 3 * width / 4, float(height))
    samples = [sample(ref.id, i, spair.WH, spair.GRID, cover=cover) for i, ref in enumerate(refs)]
    run = write_run(tmp_path / "store", "spair71k", "test", tmp_path / "data", samples, noise(0))
    result = probe(run, spair.TASK, layers=[0])
    ends = [
        cover[0] <= source[0] < cover[2] and cover[0] <= target[0] < cover[2]
        for pair in SPair71k(tmp_path / "data", "test").pairs()
        for source, target in zip(pair.src_kps_px, pair.trg_kps_px, strict=True)
    ]
    share = 1 - np.mean(ends)
    assert 0.3 < share < 1.0
    for row in filter(is_summary, result.rows):
        assert row["unseen"] == pytest.approx(share)


@pytest.mark.slow
def test_tables_and_sentences_say_what_is_no_better_than_chance(
    segmentation: Result, tmp_path: Path
) -> None:
    assert "above chance (all background, 38.3" in str(against_chance(segmentation))
    run = imagenet_run(tmp_path)
    commit_texts(run, NAMES)
    result = probe(run, SEGMENTATION, layers=[0, 1])
    sentence = str(against_chance(result))
    assert sentence.startswith("It is no better than chance (")
    output = io.StringIO()
    console = Console(file=output, width=120)
    for table in score_tables(result):
        console.print(table)
    printed = output.getvalue()
    assert "no better than chance" in printed
    assert "chance, all background" in printed
    assert "auroc" in printed


def test_the_first_mask_held_still_is_chance_of_a_video(tmp_path: Path) -> None:
    result = probe(davis.make_run(tmp_path), davis.TASK, layers=[0])
    still = guess(result, "first mask held still")
    assert 0.0 < still["j_mean"] < 1.0
    for row in filter(is_summary, result.rows):
        assert row["chance"] == still["j_and_f"]
        assert row["n_resampled"] <= row["n"]


def test_unseen_pixels_are_those_outside_the_cover() -> None:
    entire = GridSpan("base", 0, (2, 2), 2, (0.0, 0.0, 10.0, 6.0))
    crop = GridSpan("base", 0, (2, 2), 2, (2.0, 0.0, 8.0, 6.0))
    padded = GridSpan("base", 0, (2, 2), 2, (0.0, -2.0, 10.0, 8.0))
    assert pixels_unseen(entire, (10, 6)) == (0, 60)
    assert pixels_unseen(crop, (10, 6)) == (24, 60)
    assert pixels_unseen(padded, (10, 6)) == (0, 60)


def test_a_block_is_set_beside_what_its_own_grids_give() -> None:
    """A tower's grid may be finer than the decoder's, and may be scored first."""
    finer = [{"kind": "vision"}, {"kind": "key"}]
    assert [chance_kind_of(finer, kind) for kind in ("vision", "value")] == ["vision", "key"]
    assert chance_kind_of([{"kind": "key"}], "vision") == "key"
    assert chance_kind_of([], "value") is None


class Coins:
    """A task of yes-no units, of which every predictor knows nothing."""

    name, metric, unit, higher_is_better = "coins", "share", "fraction", True
    n = 60

    def tables(self, measured: Array) -> Iterator[Table]:
        yield Table({}, measured, lambda sums: {"share": ratio(sums[..., 0], sums[..., 1])})

    def guesses(self, _grids: Any, seed: int) -> Iterator[tuple[str, Array]]:
        yield "coin", coins(np.random.default_rng([seed, 1]), 8)


def coins(rng: np.random.Generator, blocks: int) -> Array:
    """(block, unit, 2): heads or tails, and 1."""
    values = rng.integers(0, 2, (blocks, Coins.n)).astype(float)
    return np.stack([values, np.ones_like(values)], axis=-1)


@pytest.mark.slow
def test_of_blocks_that_know_nothing_the_best_rarely_exceeds_chance() -> None:
    """Of 400 runs of 40 blocks: the best of them exceeds chance in some 3 %, while its interval
    alone is beyond chance in most; and a single block's interval covers chance in some 95 %.
    """
    task: Any = Coins()
    exceeding, beyond, covering = 0, 0, 0
    for seed in range(400):
        (table,) = task.tables(coins(np.random.default_rng([seed, 0]), 40))
        on_grids = _OnGrids(task, seed, {})
        chance = [{"kind": "value", **row} for row in on_grids.rows()]
        blocks = [{"kind": "value", "layer": 0, "kv_head": head} for head in range(40)]
        rows = table_rows(blocks, table, seed, None, on_grids.level(table))
        best = choose_best(rows, [], "share")
        assert best is not None
        result = Result("probe", "coins", "share", 60, rows, config={"seed": seed}, chance=chance)
        best = beside_chance(best, result, 40, "max")
        exceeding += best["exceeds_chance"]
        beyond += best["chance_difference_low"] > 0
        covering += rows[0]["chance_difference_low"] <= 0 <= rows[0]["chance_difference_high"]
    assert exceeding / 400 <= 0.07
    assert beyond / 400 > 0.5
    assert 0.92 <= covering / 400 <= 0.98


def test_a_task_without_guesses_has_no_chance() -> None:
    class Silent(Coins):
        """As a plug-in's task that says nothing of chance."""

        guesses: Any = None

    task: Any = Silent()
    run: Any = None
    (table,) = task.tables(coins(np.random.default_rng(0), 1))
    assert Chances(task, 0).of(run, "value", table) is None

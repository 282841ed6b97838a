"""The first screen's figures: every mark where its score says, and tasks on their way from chance
to the best."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvtool.reporting import render
from kvtool.reporting.overview import data_name, layers_figure, leading_probes, score_tracks
from kvtool.result import Result, best_row
from tests.support import studies
from tests.support.page import Reader

TASKS = ("foreground-segmentation", "semantic-correspondence")


def with_chance(result: Result, chance: float, exceeds: bool | None = True) -> Result:
    """Return a probe beside what knows nothing."""
    level = {**studies.scored(result.metric, chance, 0.01), "kind": "value", "n": 60, "draws": 1}
    best = {**(result.best or {}), "exceeds_chance": exceeds, "chance": chance}
    best |= {"chance_kind": "all background", **studies.scored("chance_difference", 0.1)}
    return replace(result, best=best, chance=[{**level, "predictor": "all background"}])


def probe(task: str, chance: float = 0.1, seed: int = 0, **options: Any) -> Result:
    return with_chance(studies.probe_result(task, seed=seed, **options), chance)


def test_marks_lie_where_scores_say() -> None:
    results = [probe(task, seed=seed) for seed, task in enumerate(TASKS)]
    scores = score_tracks(results)
    assert scores is not None
    ends = [float(tick.text) for tick in scores.ticks]
    low, high = scores.ticks[0].position, scores.ticks[-1].position
    per_percent = (high - low) / (ends[-1] - ends[0])
    for result, row in zip(results, scores.rows, strict=True):
        expected = [
            (result.best or {})[result.metric],
            *(line[result.metric] for line in result.baselines),
            0.1,
        ]
        positions = [low + per_percent * (100 * value - ends[0]) for value in expected]
        assert [mark.position for mark in row.marks] == pytest.approx(positions, abs=0.02)
        for mark in row.marks:
            assert mark.low is not None
            assert mark.high is not None
            assert mark.low < mark.position < mark.high
    assert [name for name, _ in scores.legend] == [
        "best value",
        "projected",
        "vision tower of tower",
        "chance",
    ]


def test_scores_in_other_units_have_no_place_on_the_axis() -> None:
    meters = replace(probe(TASKS[0]), unit="m", metric="miou")
    assert score_tracks([meters]) is None
    scores = score_tracks([meters, probe(TASKS[1])])
    assert scores is not None
    assert [row.name for row in scores.rows] == ["Semantic correspondence"]


def test_lines_go_from_chance_to_the_best() -> None:
    """The slow way: each layer's best score, less chance, over the best of all less chance."""
    results = [probe(task, chance=0.1 + seed / 20, seed=seed) for seed, task in enumerate(TASKS)]
    figure = layers_figure(results)
    assert figure is not None
    assert figure.left_out == []
    floor, ceiling = (
        next(tick.position for tick in figure.chart.y_ticks if tick.text == text)
        for text in ("chance", "best")
    )
    for result, line in zip(results, figure.chart.lines, strict=True):
        chance = result.chance[0][result.metric]
        bests = [float(row[result.metric]) for row in result.per_layer]
        shares = [(value - chance) / (max(bests) - chance) for value in bests]
        assert [dot.y for dot in line.dots] == pytest.approx(
            [floor + share * (ceiling - floor) for share in shares], abs=0.02
        )
        assert max(shares) == 1


def test_errors_go_the_same_way() -> None:
    """Of an error the lowest is the best, and stands at the same height as the best of a score."""
    result = probe(TASKS[0], chance=0.9)
    lowest = best_row(result.rows, result.metric, higher_is_better=False) or {}
    error = replace(result, higher_is_better=False, best={**lowest, "exceeds_chance": True})
    figure = layers_figure([error, probe(TASKS[1])])
    assert figure is not None
    best = next(tick.position for tick in figure.chart.y_ticks if tick.text == "best")
    assert min(dot.y for dot in figure.chart.lines[0].dots) == best


def test_tasks_no_better_than_chance_go_by_auroc_or_are_left_out() -> None:
    """All background has the better masks; maps without a cut may still rank patches well."""
    hopeless = with_chance(probe("referring-expression", seed=3), 0.7, exceeds=False)
    ranked = with_chance(probe("semantic-segmentation", seed=4), 0.7, exceeds=False)
    rows = [{**row, **studies.scored("auroc", 0.8)} for row in ranked.rows]
    chance = [{**ranked.chance[0], "auroc": 0.5}]
    ranked = replace(ranked, rows=rows, chance=chance)
    figure = layers_figure([probe(TASKS[0]), hopeless, ranked])
    assert figure is not None
    assert figure.left_out == ["Referring expression"]
    assert [line.name for line in figure.chart.lines] == [
        "Foreground segmentation, IoU",
        "Semantic segmentation, AUROC",
    ]
    page = Reader(render(studies.study(probe(TASKS[0]), hopeless, ranked))).text
    assert "No better than chance, and not drawn: Referring expression." in page


def test_one_task_or_one_layer_is_no_figure() -> None:
    assert layers_figure([probe(TASKS[0])]) is None
    assert layers_figure([probe(task, layers=1) for task in TASKS]) is None


def test_the_model_of_most_probes_leads() -> None:
    results = [probe(TASKS[0], model="first"), *(probe(task, model="second") for task in TASKS)]
    assert [result.config["model"] for result in leading_probes(results)] == ["second"] * 2
    assert leading_probes([studies.variance_result()]) == []


def test_data_is_named_where_a_task_has_several() -> None:
    first, second = probe(TASKS[0]), probe(TASKS[0])
    assert data_name(first, [first]) == ""
    second.config["dataset"] = "msrc"
    assert data_name(second, [first, second]) == "msrc"
    third = replace(second, config=second.config | {"split": "night"})
    assert data_name(third, [first, second, third]) == "night"

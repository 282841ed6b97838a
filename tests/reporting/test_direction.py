"""A score and the error that is its mirror image: the same block is best, in every table, picture
and sentence.
"""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from kvtool.experiments.prefix import article as prefix_article
from kvtool.experiments.prefix import table as prefix_table
from kvtool.reporting import numbers, render, sentences, trimming
from kvtool.reporting.heatmap import heatmap
from kvtool.reporting.measures import plain_name
from kvtool.reporting.plots import figure
from kvtool.reporting.terminal import render as render_tables
from kvtool.result import Result, Row, best_row, is_summary
from kvtool.tasks.scoring import choose_best, per_layer
from tests.support import results
from tests.support.studies import probe_result, study

SCORE = probe_result(categories=())
METRIC = SCORE.metric


def mirrored_row(row: Row) -> Row:
    """The row of the error 1 - score, in meters: what was the upper end is the lower one."""
    value, low, high = (1 - row[f"{METRIC}{end}"] for end in ("", "_low", "_high"))
    return {**row, METRIC: value, f"{METRIC}_low": high, f"{METRIC}_high": low}


def mirrored(result: Result, unit: str = "m") -> Result:
    assert result.best is not None
    return replace(
        result,
        rows=[mirrored_row(row) for row in result.rows],
        best=mirrored_row(result.best),
        per_layer=[mirrored_row(row) for row in result.per_layer],
        baselines=[mirrored_row(row) for row in result.baselines],
        unit=unit,
        higher_is_better=False,
    )


ERROR = mirrored(SCORE)


def place(row: Row | None) -> tuple[object, ...]:
    assert row is not None
    return row["kind"], row["layer"], row["kv_head"]


def summary(result: Result) -> list[Row]:
    return [row for row in result.rows if is_summary(row) and row["kind"] == "value"]


def test_the_lowest_error_is_best() -> None:
    for rows, flag in ((summary(SCORE), True), (summary(ERROR), False)):
        assert place(choose_best(rows, [], METRIC, flag)) == place(SCORE.best)
        halves = [{**row, f"chosen_{METRIC}": row[METRIC]} for row in rows]
        assert place(choose_best(rows, halves, METRIC, flag)) == place(SCORE.best)
        winners = [place(row) for row in per_layer(rows, METRIC, flag)]
        assert winners == [place(row) for row in per_layer(summary(SCORE), METRIC)]
    assert [place(row) for row in ERROR.ranked(ERROR.rows)] == [
        place(row) for row in SCORE.ranked(SCORE.rows)
    ]
    equal: list[Row] = [
        {"x": 1.0, "at": 0},
        {"x": 1.0, "at": 1},
        {"x": None, "at": 2},
        {"x": float("nan"), "at": 3},
    ]
    assert best_row(equal, "x", False) == equal[0]


def test_results_kept_before_are_of_scores() -> None:
    record = SCORE.to_json()
    del record["higher_is_better"]
    assert Result.from_json(record).higher_is_better
    assert not Result.from_json(ERROR.to_json()).higher_is_better


def printed(result: Result, color: bool = False) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream, width=100, force_terminal=color, color_system="truecolor" if color else None
    )
    for part in render_tables(result):
        console.print(part)
    return stream.getvalue()


def test_tables() -> None:
    """The star and the hottest cell are the best's; meters have no percent sign and four digits."""
    text, score_text = printed(ERROR), printed(SCORE)
    assert "scores, m, 95 % interval" in text
    assert "value: PCK, m" in text
    assert re.search(r"layer +h0 +h1 +min", text)
    assert re.search(r"layer +h0 +h1 +max", score_text)
    assert ERROR.best is not None
    assert f"*{ERROR.best[METRIC]:.4g}" in text
    colors = [
        re.findall(r"48;2;(\d+;\d+;\d+)m", printed(result, color=True)) for result in (SCORE, ERROR)
    ]
    assert len(set(colors[0])) > 3
    for first, second in zip(*colors, strict=True):
        pairs = zip(map(int, first.split(";")), map(int, second.split(";")), strict=True)
        assert all(abs(a - b) <= 1 for a, b in pairs)  # rounding of mirrored numbers


def test_heatmap_of_the_page() -> None:
    score, error = heatmap(SCORE, "value", summary(SCORE)), heatmap(ERROR, "value", summary(ERROR))
    cells = [
        (a, b)
        for row, mirror_row in zip(score.cells, error.cells, strict=True)
        for a, b in zip(row, mirror_row, strict=True)
    ]
    for cell, mirror in cells:
        assert cell is not None
        assert mirror is not None
        assert cell.best == mirror.best
        ends = [
            [int(fill[start : start + 2], 16) for start in (1, 3, 5)]
            for fill in (cell.fill, mirror.fill)
        ]
        assert all(abs(a - b) <= 1 for a, b in zip(*ends, strict=True))
    assert (error.caption, error.column) == (f"value: {plain_name(METRIC)}, m", METRIC)
    assert float(error.low) > float(error.high)


def test_sentences() -> None:
    best, beside = SCORE.best, sentences.leading_baselines(ERROR)
    assert best is not None
    assert "] m (PCK, n = 60; lower is better)" in sentences.best_block(ERROR)
    assert "lower" not in sentences.best_block(SCORE)
    tower = next(row for row in beside if row["kind"] == "vision")
    assert ERROR.best is not None
    assert "It is below" in sentences.against_baseline(ERROR, ERROR.best, tower)
    models = [replace(ERROR, config={**ERROR.config, "model": name}) for name in ("near", "far")]
    assert models[1].best is not None
    far = {
        **models[1].best,
        **{f"{METRIC}{end}": models[1].best[f"{METRIC}{end}"] + 1 for end in ("", "_low", "_high")},
    }
    sentence = sentences.between_models([replace(models[1], best=far), models[0]])
    assert sentence is not None
    assert re.search(r"the best block of near \(.*\) is below that of the next, far", sentence)


def test_the_page_has_each_metrics_unit() -> None:
    page = render(study(SCORE, ERROR))
    assert '<th scope="col">score, %</th>' not in page
    assert f"{plain_name(METRIC)}, m" in page
    assert "score, %" in render(study(SCORE))


def test_plot() -> None:
    pytest.importorskip("matplotlib")
    maps = [figure(result).axes[1].collections[0].get_cmap().name for result in (SCORE, ERROR)]
    assert maps == ["viridis", "viridis_r"]
    label = figure(ERROR).axes[0].get_ylabel()
    assert label == f"{METRIC}, m"


def test_prefixes() -> None:
    """A difference of errors has the errors' unit, and what raised an error is said to have done
    so.
    """
    study = results.prefix()
    result = replace(
        study, unit="m", higher_is_better=False, config={**study.config, "kinds": ["value"]}
    )
    lines = list(prefix_article.sentences(result))
    assert any("raised the error: difference" in line for line in lines)
    assert not any("the score" in line for line in lines)
    table = next(iter(prefix_table.tables(result)))
    assert isinstance(table, Table)
    assert str(table.title) == (
        "miou_fgbg, m, 95 % interval; difference to none, paired, p by Holm"
    )


def test_numbers() -> None:
    assert [numbers.show(ERROR, value) for value in (None, 0.123456, -0.0)] == ["-", "0.1235", "0"]
    assert [numbers.show(SCORE, value, "+") for value in (0.1234, -0.00001)] == ["+12.3", "+0.0"]
    assert [
        numbers.unit_mark(result) for result in (SCORE, ERROR, replace(ERROR, unit=METRIC))
    ] == [", %", ", m", ""]


def test_rows_of_the_best_blocks_have_room_on_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    result = probe_result(categories=("cat", "dog"))
    categories = {row["category"] for row in result.rows if not is_summary(row)}
    assert categories
    mirror = mirrored(result)
    monkeypatch.setattr(trimming, "MOST_CELLS", sum(map(len, mirror.rows)) - 1)
    rows, n_left_out = trimming.trim(mirror, [mirror])
    left_out = {place(row) for row in mirror.rows} - {
        place(row) for row in rows if not is_summary(row)
    }
    ranked = mirror.ranked([row for row in mirror.rows if is_summary(row)])
    labeled = [place(row) for row in ranked if row["kind"] == "value"]
    assert n_left_out >= 1
    assert labeled[-1] in left_out
    assert labeled[0] not in left_out

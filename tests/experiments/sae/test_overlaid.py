"""SAE results of several models share a panel of the page, on one pair of axes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvtool.experiments.sae.overlaid import overlay
from kvtool.experiments.sae.series import IMAGE, condition_rows
from kvtool.reporting import render
from kvtool.reporting.measures import plain_name
from kvtool.reporting.sections import sections_of
from kvtool.reporting.tables import Data
from kvtool.result import Result
from tests.support import sae_results, studies


def named(result: Result, model: str) -> Result:
    """The result as that of a model."""
    settings = {"model": model, "run": f"{model}-coco", "dataset": "coco", "split": "val"}
    return replace(result, config={**result.config, **settings})


@pytest.fixture
def with_sae() -> Result:
    """A result that has both features' and directions' scores, as `kvtool sae` gives it."""
    result = sae_results.sae_result()
    ends = ("", "_low", "_high")
    rows = [
        row | {f"directions{end}": row[f"transfer{end}"] for end in ends} for row in result.rows
    ]
    return named(replace(result, rows=rows), "a")


@pytest.fixture
def without_sae() -> Result:
    return named(sae_results.directions_result(range(8)), "b")


def test_models_share_the_measure_that_both_have(with_sae: Result, without_sae: Result) -> None:
    chart = overlay([with_sae, without_sae])
    assert chart is not None
    names = [line.name for line in chart.lines]
    assert names[:2] == ["a, n = 120", "b, n = 120"]
    assert names[2].startswith("chance 0.5")
    assert chart.label.startswith(f"{plain_name('directions')} over layers")
    first, second, _ = chart.lines
    assert (bool(first.band), second.band) == (True, "")
    for line, result in ((first, with_sae), (second, without_sae)):
        values = [row["directions"] for row in condition_rows(result.rows, IMAGE)]
        tips = [dot.tip for dot in line.dots]
        assert len(tips) == len(values)
        assert all(f"{value:.4g}"[:4] in tip for value, tip in zip(values, tips, strict=True))


def test_features_are_overlaid_where_all_have_them(with_sae: Result) -> None:
    twin = named(with_sae, "c")
    chart = overlay([with_sae, twin])
    assert chart is not None
    assert chart.label.startswith(f"{plain_name('transfer')} over layers")
    # Results of one model are numbered.
    again = overlay([with_sae, with_sae])
    assert again is not None
    assert [line.name for line in again.lines[:2]] == ["a, n = 120 (1)", "a, n = 120 (2)"]


def test_they_stand_in_one_panel_with_all_conditions_below(
    with_sae: Result, without_sae: Result
) -> None:
    study = studies.study(with_sae, without_sae)
    (section,) = sections_of(study, Data(), [])
    (panel,) = section.panels
    assert panel.overlay is not None
    assert "image's tokens" in panel.overlay_caption
    page = render(study)
    assert page.count("the band is a 95 % interval, chance is 0.5") == 1
    # Each model's conditions and controls stand in its details.
    assert page.count("noise-residual</li>") == 2
    assert "Word directions find their patches, without an SAE" in page


def test_other_data_stands_alone(with_sae: Result, without_sae: Result) -> None:
    without_sae.config["dataset"] = "cc3m"
    (section,) = sections_of(studies.study(with_sae, without_sae), Data(), [])
    assert [panel.overlay for panel in section.panels] == [None, None]


def test_without_a_common_measure_there_is_no_overlay(with_sae: Result) -> None:
    empty = {"transfer": None, "directions": None}
    blank = replace(with_sae, rows=[row | empty for row in with_sae.rows])
    assert overlay([with_sae, blank]) is None

"""What the page says of attention: levels of chance and sentences."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvtool.experiments.attend.article import level_rows, sentences
from kvtool.reporting.heatmap import heatmap
from kvtool.reporting.measures import plain_name
from tests.support.attend_results import attend_result, sinks_result
from tests.support.result_rows import interval


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("auroc", ", chance 0.500"),
        ("mass", ", %"),
        ("sink_share", ", %, 1 were all tokens alike"),
    ],
)
def test_a_map_of_heads_has_the_level_of_its_own_measure(name: str, level: str) -> None:
    result = attend_result()
    rows = level_rows([row | {"kind": "query"} for row in result.rows], name)
    chart = heatmap(replace(result, metric=name), "query", rows)
    assert chart.caption == f"query: {plain_name(name)}{level}"
    if "chance" not in level:
        assert chart.chance_at is None


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("overlap", ", %, chance 1.0"),
        ("mass", ", %"),
        ("sink_share", ", %, 1 were all tokens alike"),
    ],
)
def test_a_map_of_sinks_has_the_level_of_its_own_measure(name: str, level: str) -> None:
    result = sinks_result()
    chart = heatmap(replace(result, metric=name), "key", level_rows(result.rows, name))
    assert chart.caption == f"key: {plain_name(name)}{level}"


@pytest.mark.parametrize(
    ("auroc", "words"),
    [
        (0.61, "masks, find them together"),
        (0.51, "masks, cannot be told to find them together"),
        (0.40, "masks, are below chance together"),
    ],
)
def test_a_sentence_says_on_which_side_of_chance_heads_are(auroc: float, words: str) -> None:
    result = attend_result()
    result.config["localization"] |= interval("auroc", auroc)
    assert any(words in sentence for sentence in sentences(result))


def test_a_head_below_chance() -> None:
    result = attend_result()
    result.config["chosen_head"] |= interval("auroc", 0.4)
    assert ", is below chance on the other half: AUROC 0.400" in next(sentences(result))

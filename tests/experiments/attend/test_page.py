"""What the page says of attention: levels of chance and sentences."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvtool.experiments.attend.article import level_rows
from kvtool.reporting.heatmap import heatmap
from tests.support.attend_results import attend_result, sinks_result


@pytest.mark.parametrize(
    ("name", "level"), [("auroc", ", chance 50.0"), ("mass", ""), ("sink_share", "")]
)
def test_a_map_of_heads_has_the_level_of_its_own_measure(name: str, level: str) -> None:
    result = attend_result()
    rows = level_rows([row | {"kind": "query"} for row in result.rows], name)
    drawn = heatmap(replace(result, metric=name), "query", rows)
    assert drawn.caption.startswith(f"query: {name}")
    assert drawn.caption.endswith(f"%{level}")
    if not level:
        assert drawn.chance_at is None


@pytest.mark.parametrize(
    ("name", "level"), [("overlap", ", chance 1.0"), ("mass", ""), ("sink_share", "")]
)
def test_a_map_of_sinks_has_the_level_of_its_own_measure(name: str, level: str) -> None:
    result = sinks_result()
    drawn = heatmap(replace(result, metric=name), "key", level_rows(result.rows, name))
    assert drawn.caption.endswith(f"%{level}")

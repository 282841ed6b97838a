"""One unit for one measure: an area under a ROC curve is no percentage, whatever stands beside."""

from __future__ import annotations

from dataclasses import replace

from kvtool.reporting.articles import clickable_blocks
from kvtool.reporting.numbers import interval, scale, show, unit_mark
from tests.support.attend_results import attend_result
from tests.support.results import probe

ROW = {"auroc": 0.6291, "auroc_low": 0.5793, "auroc_high": 0.68, "mass": 0.125}


def test_an_area_is_the_same_in_all_results() -> None:
    for result in (attend_result(), replace(probe(), metric="miou")):
        assert interval(result, ROW, "auroc") == "0.629 [0.579, 0.680]"
        assert unit_mark(result, "auroc") == ""
        assert scale(result, "auroc") == 1
        assert interval(result, ROW, "mass") == "12.5"
        assert unit_mark(result, "mass") == ", %"
        assert show(replace(result, metric="auroc_permuted"), 0.5) == "0.500"


def test_the_page_writes_each_metric_in_its_unit() -> None:
    formats = clickable_blocks(replace(attend_result(), best=None), {})["formats"]
    assert formats["auroc"] == {"scale": 1, "decimals": 3, "unit": ""}
    assert formats["mass"] == {"scale": 100, "decimals": 1, "unit": ", %"}
    assert clickable_blocks(probe(), {})["formats"]["pck_image"]["unit"] == ", %"

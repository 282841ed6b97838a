"""The report page without a browser: what is chosen and drawn, and that nothing of a result leaves
its text.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from kvtool.reporting import Study, choose, render, trimming
from kvtool.reporting.axes import Axis, nice_steps
from kvtool.reporting.heatmap import heatmap, viridis
from kvtool.reporting.numbers import interval
from kvtool.reporting.trimming import trim
from kvtool.result import Result, Row
from tests.support import studies
from tests.support.page import Reader


def read(*results: Result, **options: Any) -> Reader:
    return Reader(render(studies.study(*results, **options)))


def embedded_rows(data: Any, name: str) -> list[Row]:
    table = data["tables"][name]
    return [
        table["same"] | dict(zip(table["own"], values, strict=True)) for values in table["rows"]
    ]


def without_none(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None}


@pytest.mark.parametrize("position", range(len(studies.every_result())))
def test_all_rows_are_in_the_page_with_every_digit(position: int) -> None:
    result = studies.every_result()[position]
    data = read(result).data
    name = next(iter(data["tables"]))
    assert [without_none(row) for row in embedded_rows(data, name)] == [
        without_none(r) for r in result.flat_rows()
    ]


def test_nothing_of_a_result_gets_out_of_its_text() -> None:
    reader = read(*studies.every_result())
    assert reader.text.count(studies.NASTY) >= 4
    assert [tag for tag, _ in reader.elements].count("script") == 2
    page = render(studies.study(*studies.every_result()))
    assert studies.NASTY not in page
    assert "alert(1)" in page


def test_the_page_asks_nothing_of_anyone() -> None:
    reader = read(*studies.every_result())
    for tag, attributes in reader.elements:
        assert tag not in ("iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    policy = next(a["content"] for tag, a in reader.elements if tag == "meta" and "http-equiv" in a)
    assert (policy or "").startswith("default-src 'none'; img-src data:")
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|https?://", render(studies.study()))


def test_of_several_results_the_fullest_then_the_newest() -> None:
    small, full = studies.probe_result(layers=2), studies.probe_result()
    older, fewer = replace(full, best=None), replace(full, n=5)
    records = [("a.kv", result.to_json()) for result in (small, fewer, full, older)]
    records += [
        ("b.kv", small.to_json()),
        ("a.kv", {"kind": "answers"}),
        ("a.kv", {"schema": "later/2"}),
    ]
    choices = choose(iter(records))
    assert [(entry.store, entry.n_duplicates) for entry in choices] == [("a.kv", 3), ("b.kv", 0)]
    assert choices[0].result == full


def test_results_in_a_readers_order() -> None:
    results = choose(("s.kv", result.to_json()) for result in reversed(studies.every_result()))
    commands = [entry.result.command for entry in results]
    assert commands == [
        "probe",
        "probe",
        "variance",
        "knockout",
        "prefix",
        "paired",
        "correlate",
        "hereafter",
    ]
    assert [entry.run for entry in results[:2]] == [
        "model-semantic-correspondence",
        "second-semantic-correspondence",
    ]


def test_a_heatmap_says_what_the_rows_say() -> None:
    result = studies.probe_result()
    rows = [row for row in result.rows if row["kind"] == "value" and "category" not in row]
    chart = heatmap(result, "value", rows)
    assert (chart.layers, chart.heads) == ([0, 1, 2, 3], [0, 1])
    for row in rows:
        cell = chart.cells[row["kv_head"]][row["layer"]]
        assert cell is not None
        block = f"value, layer {row['layer']}, head {row['kv_head']}"
        assert cell.label == f"{block}: {interval(result, row)}, n = 60"
        assert cell.best == (row["pck_image"] == (result.best or {})["pck_image"])
    holes = heatmap(result, "value", rows[:3])
    assert holes.cells[1][1] is None
    framed = heatmap(studies.variance_result(), "key", studies.variance_result().rows)
    assert sum(cell.framed for line in framed.cells for cell in line if cell) == 3


def test_colours_go_one_way() -> None:
    levels = [
        sum(int(viridis(share)[i : i + 2], 16) for i in (0, 2, 4))
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert levels == sorted(levels)


def test_scales() -> None:
    assert nice_steps(0.0, 1.0, 5) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert [tick.text for tick in Axis(0.1, 1000, 0, 100, logarithmic=True).ticks()] == [
        "0.1",
        "1",
        "10",
        "100",
        "1000",
    ]
    assert Axis(0, 10, 100, 0)(2.5) == 75


def test_sections_without_pictures_say_nothing_false() -> None:
    reader = read(
        studies.variance_result(bimodal=False), notes=("No pictures for variance: <gone>",)
    )
    assert "No pictures for variance: <gone>" in reader.text
    assert "Principal components" not in reader.text
    assert "not bimodal" in reader.text


def test_a_result_without_any_block_or_score() -> None:
    empty = Result("probe", "co-segmentation", "j_mean", 0, [])
    undefined = replace(studies.probe_result(layers=1, heads=1), best=None, per_layer=[])
    for row in undefined.rows:
        row |= {"pck_image": None, "pck_image_low": None, "pck_image_high": None}
    for result in (empty, undefined, replace(studies.variance_result(), rows=[], config={})):
        assert "is defined for no block" in read(result).text or result.command == "variance"


def test_a_page_of_nothing_but_a_title() -> None:
    assert "A study" in Reader(render(Study("A study", "", ()))).text


def test_rows_beyond_a_pages_room(monkeypatch: pytest.MonkeyPatch) -> None:
    result = studies.probe_result()
    assert trim(result, [result]) == (result.rows, 0)
    cells = [len(row) for row in result.rows]
    summary = [row for row in result.rows if "category" not in row]
    monkeypatch.setattr(trimming, "MOST_CELLS", sum(cells) - 1)
    rows, left_out = trim(result, [result])
    worst = min(
        (row for row in summary if row["kind"] == "value"), key=lambda row: float(row["pck_image"])
    )
    block = ["kind", "layer", "kv_head"]
    assert left_out == 1
    assert rows == [
        row
        for row in result.rows
        if row in summary or any(row[name] != worst[name] for name in block)
    ]
    assert (
        "rows by category of 1 block of lower score; --format csv prints all" in read(result).text
    )
    monkeypatch.setattr(trimming, "MOST_CELLS", 1)
    assert trim(result, [result]) == (summary, 8)


def test_of_equal_results_the_more_thorough_is_shown() -> None:
    quick, thorough = (
        Result(
            "probe", "co-segmentation", "j_mean", 70, [], config={"run": "r", "restarts": restarts}
        )
        for restarts in (1, 10)
    )
    (entry,) = choose([("s", quick.to_json()), ("s", thorough.to_json())])
    assert entry.result.config["restarts"] == 10

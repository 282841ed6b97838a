"""The result schema: round trip, formats, rendering, and its documentation."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from kvtool.errors import KvtoolError, UsageError
from kvtool.reporting.emit import emit
from kvtool.reporting.terminal import render
from kvtool.result import LEVELS, Result, Row, best_row, is_summary, metric_names, result_key
from tests.support.fields import assert_documented


def row(kind: str, layer: int, head: int, value: float | None, **labels: Any) -> Row:
    low, high = (None, None) if value is None else (value - 0.02, value + 0.02)
    scores = {"pck_image": value, "pck_image_low": low, "pck_image_high": high}
    return {"kind": kind, "layer": layer, "kv_head": head, **labels, **scores, "n": 60}


def result(layers: int = 28, heads: int = 8) -> Result:
    rows = [
        row("value", i, h, 0.1 + 1 / 3 * ((i * 7 + h) % 11) / 11)
        for i in range(layers)
        for h in range(heads)
    ]
    rows += [
        row("value", 1, 3, 0.25, alpha=0.05),
        row("projected", 0, 0, 0.12),
        row("vision", 25, 0, 0.2),
    ]
    best = {
        **(best_row([r for r in rows if r["kind"] == "value"], "pck_image") or {}),
        "select": "max",
    }
    return Result(
        command="probe",
        task="semantic-correspondence",
        metric="pck_image",
        n=60,
        rows=rows,
        best=best,
        per_layer=[rows[0]],
        baselines=[
            {"run": "r", "model": "m", **rows[-2]},
            {"run": "clip[layer/3]", "model": "c", **rows[-1]},
        ],
        config={"run": "r", "model": "m[layer/3]"},
        versions={"kvtool": "0"},
        n_skipped=2,
        skipped=["2 pairs need images"],
    )


def test_round_trip() -> None:
    sample = result(3, 2)
    text = json.dumps(sample.to_json(), allow_nan=False)
    again = Result.from_json(json.loads(text))
    assert again == sample
    assert json.dumps(again.to_json()) == text
    assert sample.to_json()["schema"] == "kvtool.result/1"


def test_what_is_not_finite_becomes_null_and_is_counted() -> None:
    sample = replace(
        result(1, 1), rows=[{"a": float("nan"), "b": float("inf"), "c": 1.5, "d": None}]
    )
    record = sample.to_json()
    assert record["rows"] == [{"a": None, "b": None, "c": 1.5, "d": None}]
    assert record["n_undefined"] == 2


def test_another_schema_is_refused() -> None:
    with pytest.raises(
        KvtoolError, match=r"expected schema kvtool.result/1, found 'kvtool.result/2'"
    ):
        Result.from_json({"schema": "kvtool.result/2"})
    later = result(1, 1).to_json() | {"added_later": 1}
    assert Result.from_json(later) == result(1, 1)


def test_formats_keep_every_digit() -> None:
    sample = result(2, 2)
    outs = {name: io.StringIO() for name in ("json", "jsonl", "csv")}
    for name, out in outs.items():
        emit(sample, name, out)
    assert Result.from_json(json.loads(outs["json"].getvalue())) == sample
    lines = [json.loads(line) for line in outs["jsonl"].getvalue().splitlines()]
    added = ("task", "run", "level")
    assert [{k: v for k, v in line.items() if k not in added} for line in lines] == sample.rows
    assert {(line["task"], line["run"]) for line in lines} == {("semantic-correspondence", "r")}
    table = list(csv.DictReader(io.StringIO(outs["csv"].getvalue())))
    assert [float(line["pck_image"]) for line in table] == [r["pck_image"] for r in sample.rows]
    assert [line["alpha"] for line in table].count("0.05") == 1
    with pytest.raises(UsageError, match="known: table, json, jsonl, csv"):
        emit(sample, "yaml", io.StringIO())


@pytest.mark.slow
@pytest.mark.parametrize("heads", [8, 10])
def test_a_table_fits_eighty_columns(heads: int) -> None:
    sample = result(28, heads)
    out = io.StringIO()
    emit(sample, "table", out)
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    for words in (
        "best: value, layer",
        "projected",
        "vision, layer 25",
        "m[layer/3]",
        "clip[layer/3]",
        "2 left out",
    ):
        assert words in text
    heat = [line for line in text.splitlines() if re.match(r"^\W*27 ", line)]
    assert len(heat) == 1
    assert len(re.findall(r"\d+\.\d", heat[0])) == heads + 1
    assert text.count("*") >= 1


def test_a_table_on_a_terminal_has_colours() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="truecolor", width=80)
    for part in render(result(2, 2)):
        console.print(part)
    assert "\x1b[" in out.getvalue()


def test_of_many_heads_each_is_a_character() -> None:
    sample = result(4, 32)
    sample.rows[-1]["pck_image"] = None
    out = io.StringIO()
    emit(sample, "table", out)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("h0 to h31" in line for line in lines)
    maps = [line for line in lines if re.match(r" +\d [ ·░▒▓█]{32} ", line)]
    assert len(maps) == 4
    scores = {
        (row["layer"], row["kv_head"]): row["pck_image"]
        for row in sample.rows
        if row["kind"] == "value" and row.get("alpha") in (None, "all")
    }
    # The more a head scores, the darker is its character.
    shades = {
        (layer, head): line[line.index(f" {layer} ") + 3 + head]
        for layer, line in enumerate(maps)
        for head in range(32)
    }
    ordered = sorted((score, shades[block]) for block, score in scores.items() if score is not None)
    darkness = ["·░▒▓█".index(shade) for _, shade in ordered]
    assert darkness == sorted(darkness)
    assert {0, 4} <= set(darkness)


def test_rows_without_blocks_and_undefined_scores() -> None:
    conditions: list[Row] = [
        {"condition": "none", "f1": 78.1, "f1_low": 70.0, "f1_high": 80.0, "n": 9},
        {"condition": "late", "f1": None, "f1_low": None, "f1_high": None, "n": 9},
    ]
    sample = Result("score", None, "f1", 9, conditions, unit="percent")
    out = io.StringIO()
    emit(sample, "table", out)
    assert "78.1 [70.0, 80.0]" in out.getvalue()
    assert re.search(r"late\W+- ", out.getvalue())


def test_helpers() -> None:
    assert is_summary({"kind": "value", "category": "all"})
    assert not is_summary({"kind": "value", "alpha": 0.1})
    assert metric_names(row("value", 0, 0, 0.5)) == ["pck_image"]
    assert best_row([row("value", 0, 0, None)], "pck_image") is None
    ties = [row("value", 0, 0, 0.5), row("value", 0, 1, 0.5)]
    assert best_row(ties, "pck_image") is ties[0]
    assert result_key({"a": 1, "b": (2,)}) == result_key({"b": [2], "a": 1}) != result_key({"a": 2})


def test_pandas_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(KvtoolError, match="pip install pandas"):
        result(1, 1).to_pandas()


def test_a_summary_has_a_row_for_each_condition() -> None:
    rows: list[Row] = [
        {"condition": condition, "choice": "A", "subset": subset, "f1": 0.5}
        for condition in ("none", "late")
        for subset in ("all", "random")
    ]
    sample = Result("knockout", None, "f1", 9, rows)
    assert sample.level_rows("summary") == [rows[0], rows[2]]
    assert sample.level_rows("category") == [rows[1], rows[3]]


def test_pandas_has_a_table_for_each_level() -> None:
    pandas = pytest.importorskip("pandas")
    sample = result(2, 2)
    for level in LEVELS:
        frame = sample.to_pandas(level)
        assert isinstance(frame, pandas.DataFrame)
        assert len(frame) == len(sample.level_rows(level))
    summary, category = sample.level_rows("summary"), sample.level_rows("category")
    assert summary + category == sorted(sample.rows, key=lambda row: "alpha" in row)
    assert len(category) == 1
    assert sample.to_pandas().equals(sample.to_pandas("summary"))
    assert "alpha" not in sample.to_pandas().columns
    assert sample.level_rows("baselines") is sample.baselines
    with pytest.raises(UsageError, match="level 'blocks': expected one of summary, category"):
        sample.to_pandas("blocks")  # type: ignore[arg-type]


def test_every_field_is_documented() -> None:
    record = result(2, 2).to_json()
    assert_documented(record)
    with pytest.raises(AssertionError):
        assert_documented(record | {"not_documented": 1})

"""The page's article about model and values on the same questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from kvtool.reporting import charts
from kvtool.reporting.articles import Article
from kvtool.reporting.commands import block_flags, flags
from kvtool.reporting.numbers import interval, plural, probability
from kvtool.reporting.sentences import SURE, chosen_how
from kvtool.reporting.study import ITEMS_SHOWN, KeptResult, Study
from kvtool.reporting.tables import Data, scores_table
from kvtool.result import Result, Row, best_row, block_name

CELLS = (
    ("both", "both right"),
    ("value_only", "values alone"),
    ("model_only", "the model alone"),
    ("neither", "neither"),
)


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    result = study.kept[position].result
    row = result.best or best_row(result.rows, "value") or {}
    ends = ("", "_low", "_high")
    of_cells = [
        (name, {f"share{end}": row.get(f"{field}{end}") for end in ends}, f"c-{field}")
        for field, name in CELLS
        if row.get(field) is not None
    ]
    drawn = charts.whiskers(
        result, of_cells, "share", f"{block_name(row)}: share of questions, %", bars=True
    )
    named = [(block_name(one), one) for one in result.rows]
    tables = [scores_table(result, named, "Blocks", summary.rows)]
    known = [item for item in result.items if item.get("cell") == "value_only"]
    if result.items:
        data.add(f"{summary.rows}-questions", result.items)
    return replace(
        summary,
        template="paired.html",
        charts={
            "whiskers": drawn,
            "questions": [
                _question(item, study.kept[position], study) for item in known[:ITEMS_SHOWN]
            ],
            "n_questions": len(known),
            "items": f"{summary.rows}-questions" if result.items else None,
        },
        tables=tables,
    )


def _question(item: Row, kept: KeptResult, study: Study) -> dict[str, Any]:
    """A question, its answers and its pictures: marked ones where the result names them, else the
    images."""
    names = item.get("files") or item.get("images") or ()
    drawn = [study.thumbnails.get((kept.store, str(kept.run), str(name))) for name in names]
    return {**item, "drawn": [one for one in drawn if one is not None]}


def paired_cells(result: Result, row: Row) -> str:
    """What values know that the model does not say, and the other way round."""
    cells = ", ".join(
        f"{name} {interval(result, row, field)}"
        for name, field in (
            ("both right", "both"),
            ("values alone", "value_only"),
            ("model alone", "model_only"),
            ("neither", "neither"),
        )
    )
    return f"{block_name(row).capitalize()}, percent of {plural(row['n'], 'question')}: {cells}."


def paired_test(result: Result, row: Row) -> str:
    """Whether values or model answer better, by McNemar's test."""
    value = row.get("value")
    model = row.get("model")
    p = row.get("mcnemar_p")
    sides = f"values {interval(result, row, 'value')}, model {interval(result, row, 'model')}"
    if value is None or model is None or p is None:
        return f"Which of them answers better was not tested: {sides}."
    if p < SURE and value != model:
        who = "The values answer" if value > model else "The model answers"
        than = "the model" if value > model else "the values"
        return f"{who} more questions right than {than}: {sides} ({probability(p)})."
    return f"Values and model are not distinguishable: {sides} ({probability(p)})."


def sentences(result: Result) -> Iterator[str]:
    """What was found, a sentence each."""
    row = result.best or best_row(result.rows, "value")
    if row is not None:
        yield paired_cells(result, row)
        yield paired_test(result, row)
        if row.get("select") == "max":
            yield chosen_how(result)


def command(kept: KeptResult, config: Mapping[str, Any], info: Row | None) -> list[str]:
    """The words of the command that would make the result again."""
    words = ["paired", kept.store, str(kept.result.task), *flags({"run": config.get("run")})]
    words += block_flags(config.get("blocks", []), info)
    asked = {
        name: config.get(name) for name in ("select", "seed", "n", "max_new_tokens", "folds", "c")
    }
    asked["reading"] = "pck" if config.get("metric") == "value_pck" else None
    return words + flags(asked, {"select": "max", "seed": 0, "max_new_tokens": 16})

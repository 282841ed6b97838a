"""The page's article about interventions: each beside the model as it is, and its controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kvtool.experiments.intervene.table import selection_line
from kvtool.experiments.intervene.words import (
    action,
    condition_rows,
    control_rows,
    has_margins,
    label,
    method_rows,
    none_row,
    of_margins,
)
from kvtool.reporting import chapters
from kvtool.reporting.articles import Article
from kvtool.reporting.chance import conditions_against_chance
from kvtool.reporting.commands import UNWORDED, WORDED, flags
from kvtool.reporting.conditions import (
    condition_effect,
    conditions_headline,
    conditions_of,
    heads_flag,
    piped_heads,
)
from kvtool.reporting.numbers import amount, capitalized, probability, ranges
from kvtool.reporting.sentences import SURE
from kvtool.reporting.study import KeptResult, Study
from kvtool.reporting.tables import Data, scores_table
from kvtool.result import Result, Row

CHAPTER = chapters.ATTENTION
TITLE = "Attention changed"

piped_rows = piped_heads
MARGIN = "margin"


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return the article of conditions, with their margins in nats."""
    result = study.kept[position].result
    # Margins have a unit of their own, and hence a table of their own.
    rows = [
        {name: value for name, value in row.items() if not name.startswith(MARGIN)}
        for row in result.rows
    ]
    page = conditions_of(summary, replace(result, rows=rows), data, label)
    if not has_margins(result):
        return page
    margins = [
        {name: value for name, value in row.items() if name.startswith((MARGIN, "condition"))}
        | {"n": row["n_margins"]}
        for row in condition_rows(result)
    ]
    names = map(label, condition_rows(result))
    labeled = list(zip(names, margins, strict=True))
    name = data.add(f"{summary.rows}-margins", margins)
    table = scores_table(of_margins(result), labeled, "Margins of right options", name)
    return replace(page, tables=[*page.tables, table])


def headline(results: Sequence[Result]) -> str | None:
    """Say in how many conditions changed attention changed which answers are right."""
    return conditions_headline(results, "Changing attention")


def sentences(result: Result) -> Iterator[str]:
    """Say what each method does in its heads, beside its controls, and what exceeds chance."""
    none = none_row(result)
    if (selection := result.config.get("selection")) is not None:
        yield f"{capitalized(selection_line(result, selection))}."
    for row in method_rows(result):
        yield condition_effect(result, none, row, capitalized(action(row)))
        yield from _margin(result, row)
        controls = [
            f"{control['control']} {amount(result, control)}"
            for control in control_rows(result, row)
        ]
        if controls:
            yield f"The same in as many heads of the same layers: {', '.join(controls)}."
    if (line := conditions_against_chance(result, condition_rows(result), label)) is not None:
        yield line


def _margin(result: Result, row: Row) -> Iterator[str]:
    """Say by how much the margin of the right option changes, where a test is sure of it."""
    p = row.get("margin_holm_p")
    if p is not None and p < SURE:
        change = amount(of_margins(result), row)
        yield (
            f"The margin of the right option changes by {change} ({row['condition']}; "
            f"Wilcoxon's test by picture, {probability(p)} by Holm)."
        )


def command(stored: KeptResult, config: Mapping[str, Any], _info: Row | None) -> list[str]:
    """Return the command line that would compute the result again."""
    layers = None if config.get("layers") is None else ranges(config["layers"])
    values = {
        "run": config.get("heads_run"),
        "select": config.get("select"),
        "threshold": config.get("threshold"),
        "layers": layers,
        "controls": ",".join(config.get("controls") or []) or None,
        **{
            name: config.get(name) for name in ("draws", "max_new_tokens", "limit", "seed", *WORDED)
        },
    }
    arguments = [
        "intervene",
        stored.store,
        "--benchmark",
        config.get("benchmark", "SPEC"),
        "--heads",
        heads_flag(config),
    ]
    for method in config.get("methods", []):
        arguments += ["--method", method]
    return arguments + flags(values, {"draws": 1, "max_new_tokens": 16, "seed": 0, **UNWORDED})

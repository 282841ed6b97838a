"""Conditions side by side on the page: what the articles of knockouts and prefixes share."""

from __future__ import annotations

from dataclasses import replace

from kvtool.reporting import charts
from kvtool.reporting.articles import Article
from kvtool.reporting.chance import level_row
from kvtool.reporting.numbers import plural, unit_mark
from kvtool.reporting.study import Study
from kvtool.reporting.tables import Data, label_table, scores_table
from kvtool.result import Result, Row, block_name, is_summary


def conditions_article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return an article of conditions side by side with their intervals."""
    result = study.kept[position].result
    rows = condition_rows(result)
    labeled = [
        (condition_label(row), row, "s-key" if row["condition"] == "none" else "s-value")
        for row in rows
    ]
    if (level := level_row(result, rows)) is not None:
        labeled.append((*level, "s-other"))
    chart = charts.whiskers(
        result, labeled, result.metric, f"{result.metric}{unit_mark(result)}, 95 % intervals"
    )
    scores = [(name, row) for name, row, _ in labeled]
    tables = [
        scores_table(result, scores, "Conditions", data.add(f"{summary.rows}-conditions", rows))
    ]
    parts = [row for row in result.rows if row not in rows]
    if parts:
        tables.append(
            label_table(result, parts, "By part", data.add(f"{summary.rows}-parts", parts))
        )
    return replace(summary, template="conditions.html", charts={"whiskers": chart}, tables=tables)


def condition_rows(result: Result) -> list[Row]:
    """Return a row for each condition: all of the benchmark, and the mean of several draws."""
    return [row for row in result.rows if is_summary({**row, "condition": None, "choice": None})]


def condition(row: Row) -> str:
    """Return a condition's name in words."""
    names = {"chosen": "the heads given", "dependent": "control: as many that depend on the input"}
    names |= {"random": "control: as many at random"}
    names |= {name: f"those in {name} layers" for name in ("early", "middle", "late")}
    name = str(row["condition"])
    draw = row.get("draw")
    return names.get(name, name) + (f", draw {draw}" if draw not in (None, "all") else "")


def condition_label(row: Row) -> str:
    """Return a condition's name with its block and its number of heads."""
    is_knockout = "n_heads" in row and row["condition"] != "none"
    parts = [condition(row) if is_knockout else str(row["condition"])]
    parts += [f"{row['choice']} block"] if row.get("choice") else []
    parts += [block_name({**row, "condition": None, "choice": None})] if row.get("kind") else []
    parts += [plural(row["n_heads"], "head")] if row.get("n_heads") else []
    return ", ".join(parts)

"""The page's article about models: how well they segment, and how well they perceive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from kvtool.reporting import charts
from kvtool.reporting.articles import Article
from kvtool.reporting.commands import flags
from kvtool.reporting.numbers import plural, probability
from kvtool.reporting.sentences import capitalized
from kvtool.reporting.study import KeptResult, Study
from kvtool.reporting.tables import Data, plain_table
from kvtool.result import Result, Row


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    result = study.kept[position].result
    models = [row for row in result.rows if "model" in row]
    rest = [row for row in result.rows if "coefficient" in row]
    tables = [
        plain_table(models, "Models", data.add(f"{summary.rows}-models", models)),
        plain_table(rest, "Coefficients", data.add(f"{summary.rows}-coefficients", rest)),
    ]
    drawn = charts.scatter(result, models, "segmentation", "accuracy", "model")
    shown = drawn if drawn.points else None
    return replace(summary, template="correlate.html", charts={"scatter": shown}, tables=tables)


def correlation(row: Row) -> str:
    """A coefficient over models; a relation only where its interval leaves out 0."""
    name, value, low, high = (
        row.get(each) for each in ("coefficient", "value", "value_low", "value_high")
    )
    models = plural(row["n"], "model")
    if value is None:
        return f"{capitalized(str(name))} is not defined over {models}."
    if low is None or high is None:
        return f"{capitalized(str(name))} over {models}: {value:.2f}; without an interval no relation is claimed."
    number = f"{value:.2f} [{low:.2f}, {high:.2f}]"
    p = "" if row.get("p") is None else f", {probability(row['p'])}"
    if low > 0 or high < 0:
        return f"{capitalized(str(name))} over {models} is {'positive' if low > 0 else 'negative'}: {number}{p}."
    return f"{capitalized(str(name))} over {models} cannot be told from none: {number}{p}."


def sentences(result: Result) -> Iterator[str]:
    """What was found, a sentence each."""
    for row in result.rows:
        if "coefficient" in row:
            yield correlation(row)


def command(kept: KeptResult, config: Mapping[str, Any], _info: Row | None) -> list[str]:
    """The words of the command that would make the result again."""
    own: dict[str, Any] = {}
    for options in (config.get("options") or {}).values():
        own |= options
    asked = {
        "models": ",".join(each["name"] for each in config.get("models", [])) or None,
        "tasks": ",".join(config.get("tasks", {})) or None,
        "benchmarks": ",".join(config.get("benchmarks", [])) or None,
        **{name: config.get(name) for name in ("select", "limit", "max_new_tokens", "seed")},
        **own,
    }
    return [
        "correlate",
        kept.store,
        *flags(asked, {"select": "max", "max_new_tokens": 16, "seed": 0}),
    ]

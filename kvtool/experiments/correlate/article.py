"""The page's article about models: how well they segment, and how well they perceive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kvtool.reporting import chapters
from kvtool.reporting.articles import Article
from kvtool.reporting.chance import level_row
from kvtool.reporting.commands import UNWORDED, WORDED, flags
from kvtool.reporting.numbers import amount, capitalized, plural, probability
from kvtool.reporting.scatters import scatter
from kvtool.reporting.study import KeptResult, Study
from kvtool.reporting.tables import Data, plain_table
from kvtool.result import Result, Row

CHAPTER = chapters.MODELS
TITLE = "Segmentation and accuracy"


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return the article of a correlation: models and coefficients, and a chart of both scores."""
    result = study.kept[position].result
    models = [row for row in result.rows if "model" in row]
    coefficients = [row for row in result.rows if "coefficient" in row]
    tables = [
        plain_table(models, "Models", data.add(f"{summary.rows}-models", models)),
        plain_table(
            coefficients, "Coefficients", data.add(f"{summary.rows}-coefficients", coefficients)
        ),
    ]
    chart = scatter(result, models, "segmentation", "accuracy", "model", list(_levels(models)))
    visible_chart = chart if chart.points else None
    return replace(
        summary,
        template="correlate.html",
        n_leads=len(summary.findings),
        charts={"scatter": visible_chart},
        tables=tables,
    )


def _levels(models: Sequence[Row]) -> Iterator[tuple[str, float | None, float | None]]:
    """Yield what knows nothing gets, to the right and upward, where all models have the same."""
    for field, name in (("segmentation_chance", "segmentation"), ("chance", "accuracy")):
        levels = {float(row[field]) for row in models if row.get(field) is not None}
        if len(levels) == 1:
            level = levels.pop()
            is_right = field == "segmentation_chance"
            yield f"chance, {name}", level if is_right else None, None if is_right else level


def correlation(row: Row) -> str:
    """Say a coefficient over models; a relation only where its interval leaves out 0."""
    name, value, low, high = (
        row.get(field) for field in ("coefficient", "value", "value_low", "value_high")
    )
    family = row.get("family")
    whose = {None: "", "all": " of all families"}.get(family, f" of {family}")
    models = plural(row["n"], "model") + whose
    if value is None:
        return f"{capitalized(str(name))} is not defined over {models}."
    if low is None or high is None:
        return (
            f"{capitalized(str(name))} over {models}: {value:.2f}; without an interval no relation "
            "is claimed."
        )
    number = f"{value:.2f} [{low:.2f}, {high:.2f}]"
    p = "" if row.get("p") is None else f", {probability(row['p'])}"
    if row.get("p") is not None and row.get("holm_p", row["p"]) != row["p"]:
        p += f" ({probability(row['holm_p'])} by Holm)"
    # An interval on one side of 0 is a relation; Holm's p is told beside it.
    if low > 0 or high < 0:
        sign = "positive" if low > 0 else "negative"
        return f"{capitalized(str(name))} over {models} is {sign}: {number}{p}."
    return f"{capitalized(str(name))} over {models} cannot be told from none: {number}{p}."


def headline(results: Sequence[Result]) -> str | None:
    """Say the first coefficient, and what it is of."""
    line = next((correlation(row) for row in results[0].rows if "coefficient" in row), None)
    return None if line is None else f"Segmentation by values, and accuracy of answers: {line}"


def sentences(result: Result) -> Iterator[str]:
    """Say what the coefficients show, a sentence each, and what knows nothing answers right."""
    for row in result.rows:
        if "coefficient" in row:
            yield correlation(row)
    models = [row for row in result.rows if "model" in row]
    if (level := level_row(result, models)) is not None:
        name, guess = level
        yield f"Accuracy by {name}: {amount(result, guess)}."


def command(stored: KeptResult, config: Mapping[str, Any], _info: Row | None) -> list[str]:
    """Return the command line that would compute the result again."""
    task_options: dict[str, Any] = {}
    for options in (config.get("options") or {}).values():
        task_options |= options
    values = {
        "models": ",".join(model["name"] for model in config.get("models", [])) or None,
        "tasks": ",".join(config.get("tasks", {})) or None,
        "benchmarks": ",".join(config.get("benchmarks", [])) or None,
        **{name: config.get(name) for name in ("select", "limit", "max_new_tokens", "seed")},
        **{name: config.get(name) for name in WORDED},
        **task_options,
        "pooled": config.get("pooled", False),
    }
    return [
        "correlate",
        stored.store,
        *flags(values, {"select": "max", "max_new_tokens": 16, "seed": 0, **UNWORDED}),
    ]

"""Conditions side by side: what the articles of knockouts, interventions and prefixes share."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kvtool.reporting import charts
from kvtool.reporting.articles import Article
from kvtool.reporting.chance import level_row
from kvtool.reporting.condition_names import condition_name
from kvtool.reporting.measures import plain_name
from kvtool.reporting.numbers import (
    amount,
    interval,
    plural,
    probability,
    relation,
    unit_mark,
)
from kvtool.reporting.sentences import SURE
from kvtool.reporting.study import Study
from kvtool.reporting.tables import Data, label_table, scores_table
from kvtool.result import Result, Row, block_name, is_summary

BEST_AND_FIXED = "best and fixed"
"""The choice of a line whose best block is the fixed one."""


def conditions_article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return an article of conditions side by side with their intervals."""
    return conditions_of(summary, study.kept[position].result, data)


def conditions_of(
    summary: Article, result: Result, data: Data, label: Callable[[Row], str] | None = None
) -> Article:
    """Return a summary with a chart and tables of a result's conditions.

    Args:
        summary: the article without its face.
        result: the result.
        data: the rows of the page.
        label: returns the name of a row; by default its condition, block and number of heads.
    """
    rows = condition_rows(result)
    # What knows nothing stands in the same chart, as one more line.
    level = level_row(result, rows)
    levels = [] if level is None else [(*level, "s-other")]
    kinds = {row.get("kind") for row in rows}
    kind = kinds.pop() if len(kinds) == 1 else None
    # A kind that all blocks have stands once, above them.
    lines = [
        (name.replace(f", {kind},", ","), row, style)
        for name, row, style in _drawn(rows, label or condition_label)
    ]
    caption = f"{f'{kind}: ' if kind else ''}{plain_name(result.metric)}{unit_mark(result)}"
    chart = charts.whiskers(result, [*lines, *levels], result.metric, caption)
    scores = [((label or condition_label)(row), row) for row in rows]
    scores += [(name, row) for name, row, _ in levels]
    tables = [
        scores_table(result, scores, "Conditions", data.add(f"{summary.rows}-conditions", rows))
    ]
    # Rows about groups or subsets have a table of their own.
    parts = [row for row in result.rows if row not in rows]
    if parts:
        tables.append(
            label_table(result, parts, "By part", data.add(f"{summary.rows}-parts", parts))
        )
    return replace(summary, template="conditions.html", charts={"whiskers": chart}, tables=tables)


def condition_rows(result: Result) -> list[Row]:
    """Return a row for each condition: all of the benchmark, and the mean of several draws."""
    return [row for row in result.rows if is_summary({**row, "condition": None, "choice": None})]


def _drawn(rows: Sequence[Row], label: Callable[[Row], str]) -> Iterator[tuple[str, Row, str]]:
    """Yield name, row and style of each line of the figure: a condition whose best block is the
    fixed one has a single line."""
    lines: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        line = tuple(row.get(name) for name in ("condition", "draw", "kind", "layer", "kv_head"))
        lines.setdefault(line, []).append(row)
    for first, *repeated in lines.values():
        row = {**first, "choice": BEST_AND_FIXED} if repeated else first
        yield label(row), row, "s-key" if row["condition"] == "none" else "s-value"


def condition_label(row: Row) -> str:
    """Return a condition's name with its block and its number of heads."""
    parts = [condition_name(row)]
    choice = row.get("choice") or BEST_AND_FIXED
    parts += [f"{choice} block"] if choice != BEST_AND_FIXED else []
    parts += [block_name({**row, "condition": None, "choice": None})] if row.get("kind") else []
    parts += [plural(row["n_heads"], "head")] if row.get("n_heads") else []
    return ", ".join(parts)


def condition_effect(result: Result, none: Row, row: Row, subject: str) -> str:
    """Set a condition, which the subject names, beside none.

    A test of the answers decides, corrected for the number of conditions: by picture where there is
    one, else McNemar's, which takes questions as independent. Where nothing was tested, the
    intervals of the score decide.
    """
    scores = f"{interval(result, row)} against {amount(result, none)}"
    side = relation(row, none, result.metric)
    p = _corrected_p(row)
    test = ""
    if p is not None:
        certainty = _corrected(row[f"{_test_name(row)}_p"], p)
        test = f"{row['n_lost']} answers lost, {row['n_gained']} gained, {certainty}"
    # Both have to agree: intervals apart, and a test that survives its correction.
    if side in ("above", "below") and (p is None or p < SURE):
        verb = "raised" if side == "above" else "lowered"
        return f"{subject} {verb} the score: {scores}{'; ' * bool(test)}{test}."
    # The test pairs answers question by question, and sees more than two intervals do.
    if p is not None and p < SURE and row["n_lost"] != row["n_gained"]:
        comparison = "fewer" if row["n_lost"] > row["n_gained"] else "more"
        return (
            f"{subject} left {comparison} answers right ({test}), though the intervals overlap: "
            f"{scores}."
        )
    return f"{subject} made no difference that could be told: {scores}{'; ' * bool(test)}{test}."


def conditions_headline(results: Sequence[Result], subject: str) -> str | None:
    """Say in how many conditions what the subject names changed which answers are right, by the
    tests; None where nothing was tested.
    """
    texts = []
    for result in results:
        tests = [_corrected_p(row) for row in condition_rows(result) if row["condition"] != "none"]
        p_values = [p for p in tests if p is not None]
        if p_values:
            count = sum(p < SURE for p in p_values)
            name = str(result.task or result.config.get("benchmark")).upper()
            texts.append(f"{count} of {plural(len(p_values), 'condition')} on {name}")
    if not texts:
        return None
    return f"{subject} changed which answers are right in {', '.join(texts)} (p below 0.05)."


def _test_name(row: Row) -> str:
    """Return which test a condition was put to: by picture where there is one, else McNemar's."""
    return "picture" if "picture_p" in row else "mcnemar"


def _corrected_p(row: Row) -> float | None:
    """Return the p of a condition's answers, corrected where there are several; None without a
    test."""
    name = _test_name(row)
    p: float | None = row.get(f"{name}_holm_p", row.get(f"{name}_p"))
    return p


def _corrected(raw: float, p: float) -> str:
    """Return a p, and the raw one beside it where it was corrected for several conditions."""
    return probability(p) if p == raw else f"{probability(p)} by Holm, {probability(raw)} raw"


def shares_pictures(rows: Sequence[Row]) -> bool:
    """Tell whether several questions are asked about some picture, and rows have the test that
    knows it.
    """
    return any("picture_p" in row and row["n_pictures"] < row["n_distinct"] for row in rows)


PIPED = ("given", "standard input")
"""Heads that no flag names: they came from standard input, or from Python."""


def heads_flag(config: Mapping[str, Any]) -> str:
    """Return the source of heads as the command line takes it."""
    heads = str(config.get("heads", "given"))
    return "-" if heads in PIPED else heads


def piped_heads(config: Mapping[str, Any]) -> str:
    """Return what to pipe into a command whose heads came from standard input or from Python.

    It prints a JSON line for each head; for heads that a flag names there is nothing to pipe.
    """
    if config.get("heads", "given") not in PIPED:
        return ""
    conditions: list[Row] = config.get("conditions", [])
    # All other conditions but controls have some of the heads that were given.
    sets = [entry["heads"] for entry in conditions if entry.get("draw") is None]
    lines = (
        json.dumps({"layer": layer, "kv_head": kv_head})
        for layer, kv_head in max(sets, key=len, default=[])
    )
    return shlex.join(["printf", r"%s\n", *lines]) + " | "

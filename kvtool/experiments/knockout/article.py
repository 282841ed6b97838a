"""The page's article about a knockout: its conditions beside no knockout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kvtool.experiments.knockout import each_shown
from kvtool.reporting import chapters
from kvtool.reporting.articles import Article
from kvtool.reporting.chance import conditions_against_chance
from kvtool.reporting.commands import UNWORDED, WORDED, flags
from kvtool.reporting.condition_names import condition_name
from kvtool.reporting.conditions import (
    condition_effect,
    condition_rows,
    conditions_article,
    conditions_headline,
    heads_flag,
    piped_heads,
)
from kvtool.reporting.numbers import plural, ranges
from kvtool.reporting.study import KeptResult, Study
from kvtool.reporting.tables import Data
from kvtool.result import Result, Row

CHAPTER = chapters.KEYS
TITLE = "Knockout"

piped_rows = piped_heads


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return the article of conditions, or of every head alone."""
    is_single = each_shown.is_each(study.kept[position].result)
    make = each_shown.article if is_single else conditions_article
    # The figure says what the others did.
    return make(replace(summary, n_leads=2), position, study, data)


def knockout_effect(result: Result, none: Row, row: Row) -> str:
    """Set a condition beside no knockout, see condition_effect."""
    blocking = f"Blocking {plural(row['n_heads'], 'head')} ({condition_name(row)})"
    return condition_effect(result, none, row, blocking)


def headline(results: Sequence[Result]) -> str | None:
    """Say in how many conditions blocking heads changed which answers are right, by the tests."""
    return conditions_headline(
        [result for result in results if not each_shown.is_each(result)], "Blocking keys"
    )


def sentences(result: Result) -> Iterator[str]:
    """Say what each condition did, a sentence each, and after the first one which conditions exceed
    chance."""
    if each_shown.is_each(result):
        yield from each_shown.sentences(result)
        return
    rows = condition_rows(result)
    none = next((row for row in rows if row["condition"] == "none"), None)
    effects = [
        knockout_effect(result, none, row) for row in rows if none is not None and row is not none
    ]
    yield from effects[:1]
    if (line := conditions_against_chance(result, rows)) is not None:
        yield line
    yield from effects[1:]


def command(stored: KeptResult, config: Mapping[str, Any], _info: Row | None) -> list[str]:
    """Return the command line that would compute the result again."""
    layers = None if config.get("layers") is None else ranges(config["layers"])
    values = {
        "run": config.get("heads_run"),
        "threshold": config.get("threshold"),
        "layers": layers,
        "controls": ",".join(config.get("controls") or []) or None,
        **{
            name: config.get(name) for name in ("draws", "max_new_tokens", "limit", "seed", *WORDED)
        },
    }
    arguments = [
        "knockout",
        stored.store,
        "--benchmark",
        config.get("benchmark", "SPEC"),
        *(["--each"] if config.get("each") else ["--heads", heads_flag(config)]),
    ]
    return arguments + flags(values, {"draws": 1, "max_new_tokens": 16, "seed": 0, **UNWORDED})

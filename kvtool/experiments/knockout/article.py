"""The page's article about a knockout: its conditions beside no knockout."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kvtool.experiments.knockout import each_shown
from kvtool.reporting import chapters
from kvtool.reporting.articles import Article
from kvtool.reporting.chance import conditions_against_chance
from kvtool.reporting.commands import UNWORDED, WORDED, flags
from kvtool.reporting.conditions import condition, condition_rows, conditions_article
from kvtool.reporting.numbers import interval, plural, probability, ranges, relation
from kvtool.reporting.sentences import SURE
from kvtool.reporting.study import KeptResult, Study
from kvtool.reporting.tables import Data
from kvtool.result import Result, Row

CHAPTER = chapters.KEYS
TITLE = "Knockout"


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return the article of conditions, or of every head alone."""
    is_single = each_shown.is_each(study.kept[position].result)
    make = each_shown.article if is_single else conditions_article
    # Each sentence is about another condition.
    return make(replace(summary, n_leads=len(summary.findings)), position, study, data)


def knockout_effect(result: Result, none: Row, row: Row) -> str:
    """Set a condition beside no knockout.

    A test of the answers decides, corrected for the number of conditions: by picture where there is
    one, else McNemar's, which takes questions as independent. Where nothing was tested, the
    intervals of the score decide.
    """
    blocking = f"Blocking {plural(row['n_heads'], 'head')} ({condition(row)})"
    scores = f"{interval(result, row)} {result.metric} against {interval(result, none)}"
    side = relation(row, none, result.metric)
    p = _corrected_p(row)
    test = ""
    if p is not None:
        certainty = _corrected(row[f"{_test_name(row)}_p"], p)
        test = f"{row['n_lost']} answers lost, {row['n_gained']} gained, {certainty}"
    if side in ("above", "below") and (p is None or p < SURE):
        verb = "raised" if side == "above" else "lowered"
        return f"{blocking} {verb} the score: {scores}{'; ' * bool(test)}{test}."
    if p is not None and p < SURE and row["n_lost"] != row["n_gained"]:
        comparison = "fewer" if row["n_lost"] > row["n_gained"] else "more"
        return (
            f"{blocking} left {comparison} answers right ({test}), though the intervals overlap: "
            f"{scores}."
        )
    return f"{blocking} made no difference that could be told: {scores}{'; ' * bool(test)}{test}."


def _test_name(row: Row) -> str:
    """Return which test a condition was put to: by picture where there is one, else McNemar's."""
    return "picture" if "picture_p" in row else "mcnemar"


def _corrected_p(row: Row) -> float | None:
    """Return the p of a condition's answers, corrected where there are several; None without a
    test."""
    name = _test_name(row)
    p: float | None = row.get(f"{name}_holm_p", row.get(f"{name}_p"))
    return p


def headline(results: Sequence[Result]) -> str | None:
    """Say in how many conditions blocking heads changed which answers are right, by the tests."""
    texts = []
    for result in results:
        if each_shown.is_each(result):
            continue
        tests = [_corrected_p(row) for row in condition_rows(result) if row["condition"] != "none"]
        p_values = [p for p in tests if p is not None]
        if not p_values:
            continue
        count = sum(p < SURE for p in p_values)
        name = str(result.task or result.config.get("benchmark")).upper()
        texts.append(f"{count} of {plural(len(p_values), 'condition')} on {name}")
    if not texts:
        return None
    return f"Blocking keys changed which answers are right in {', '.join(texts)} (p below 0.05)."


def _corrected(raw: float, p: float) -> str:
    """Return a p, and the raw one beside it where it was corrected for several conditions."""
    return probability(p) if p == raw else f"{probability(p)} by Holm, {probability(raw)} raw"


def sentences(result: Result) -> Iterator[str]:
    """Say what each condition did, a sentence each, and which conditions exceed chance."""
    if each_shown.is_each(result):
        yield from each_shown.sentences(result)
        return
    rows = condition_rows(result)
    none = next((row for row in rows if row["condition"] == "none"), None)
    for row in rows:
        if none is not None and row is not none:
            yield knockout_effect(result, none, row)
    if (line := conditions_against_chance(result, rows)) is not None:
        yield line


def piped_rows(config: Mapping[str, Any]) -> str:
    """Return what to pipe into a knockout whose heads came from standard input or from Python.

    It prints a JSON line for each head; for heads from a file there is nothing to pipe.
    """
    if config.get("heads", "given") not in ("given", "standard input"):
        return ""
    conditions: list[Row] = config.get("conditions", [])
    heads = [
        kv_head
        for entry in conditions
        if entry["condition"] == "chosen"
        for kv_head in entry["heads"]
    ]
    lines = (json.dumps({"layer": layer, "kv_head": kv_head}) for layer, kv_head in heads)
    return shlex.join(["printf", r"%s\n", *lines]) + " | "


def command(stored: KeptResult, config: Mapping[str, Any], _info: Row | None) -> list[str]:
    """Return the command line that would compute the result again."""
    heads = {"given": "-", "standard input": "-"}.get(
        config.get("heads", "given"), config.get("heads")
    )
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
        *(["--each"] if config.get("each") else ["--heads", heads]),
    ]
    return arguments + flags(values, {"draws": 1, "max_new_tokens": 16, "seed": 0, **UNWORDED})

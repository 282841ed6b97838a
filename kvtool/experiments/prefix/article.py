"""The page's article about prefixes: conditions beside no prefix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kvtool.reporting import chapters
from kvtool.reporting.articles import Article
from kvtool.reporting.chance import conditions_against_chance
from kvtool.reporting.commands import flags
from kvtool.reporting.conditions import condition_rows, conditions_article
from kvtool.reporting.numbers import amount, gap, gap_unit, plural, probability, ranges, show
from kvtool.reporting.sentences import SURE
from kvtool.reporting.study import KeptResult, Study
from kvtool.reporting.tables import Data
from kvtool.result import Result, Row

CHAPTER = chapters.PREFIXES
TITLE = "Prefixes"

LEADS = 2
"""Sentences that stand open: what the first prefix did, and which layers were compared."""


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return the article of prefixes."""
    return conditions_article(replace(summary, n_leads=LEADS), position, study, data)


def prefix_effect(result: Result, row: Row) -> str:
    """Set a prefix beside none, by the interval of the difference."""
    low, high, value = (
        row.get(name) for name in ("difference_low", "difference_high", "difference")
    )
    subject = f"The {row['condition']} prefix ({_choice(row)})"
    if value is None:
        return f"{subject} scores {amount(result, row)}; its difference to none is not known."
    if low is None or high is None:
        return (
            f"{subject} differs from none by {show(result, value)} {gap_unit(result)}; without an "
            "interval nothing more is said."
        )
    p = row.get("swap_holm_p")
    test = "" if p is None else f", {probability(p)} by Holm"
    if low > 0 or high < 0:
        verb = "raised" if low > 0 else "lowered"
        what = "score" if result.higher_is_better else "error"
        return f"{subject} {verb} the {what}: difference {gap(result, row)}{test}."
    return f"{subject} made no difference that could be told: {gap(result, row)}{test}."


def headline(results: Sequence[Result]) -> str | None:
    """Say how many prefixes raised a task's score, and how many lowered it, by the paired
    differences of each condition's best block."""
    if len(results) < 2:
        return None
    sides = [
        _side(row) * (1 if result.higher_is_better else -1)
        for result in results
        for row in condition_rows(result)
        if row.get("choice") == "best" and row["condition"] != "none"
    ]
    return (
        f"Of {plural(len(sides), 'prefix', 'prefixes')} over {len(results)} tasks and sets of "
        f"pictures {sides.count(1)} made the best block better and {sides.count(-1)} made it worse "
        "(by paired differences)."
    )


def _side(row: Row) -> int:
    """Return 1 for a prefix that raised the metric, -1 for one that lowered it, 0 where that cannot
    be told: by the corrected p where there is one, and the difference's interval."""
    low, high = row.get("difference_low"), row.get("difference_high")
    if low is None or high is None or (row.get("swap_holm_p") or 0.0) >= SURE:
        return 0
    return int(low > 0) - int(high < 0)


def sentences(result: Result) -> Iterator[str]:
    """Say what each prefix did, a sentence each, why layer 0 may be missing, and which best blocks
    exceed chance."""
    effects = [
        prefix_effect(result, row) for row in condition_rows(result) if row["condition"] != "none"
    ]
    yield from effects[:1]
    layers = result.config.get("layers") or [0]
    if 0 not in layers:
        yield (
            f"Blocks of layers {ranges(layers)} were compared: those of layer 0 do not see the "
            "text before the picture."
        )
    yield from effects[1:]
    bests = [row for row in result.rows if row.get("choice") == "best"]
    if (line := conditions_against_chance(result, bests)) is not None:
        yield line


def _choice(row: Row) -> str:
    return {"best": "best block of each condition", "fixed": "same block as without"}.get(
        row.get("choice", ""), ""
    )


PREFIXES = ("none", "correct", "random", "incorrect")


def command(stored: KeptResult, config: Mapping[str, Any], info: Row | None) -> list[str]:
    """Return the command line that would compute the result again."""
    names = [condition["condition"] for condition in config.get("conditions", [])]
    layers = config.get("layers")
    narrowed = layers if layers and (info is None or layers != info["layers"]) else None
    values = {
        "run": config.get("run"),
        "kinds": ",".join(config.get("kinds", [])) or None,
        "layers": None if narrowed is None else ranges(narrowed),
        "conditions": ",".join(name for name in names if name in PREFIXES) or None,
        **{name: config.get(name) for name in ("select", "seed")},
    }
    arguments = [
        "prefix",
        stored.store,
        str(stored.result.task),
        *flags(values, {"select": "max", "seed": 0}),
    ]
    # Texts of the user's own are given again; those from a file are not in the result.
    for item in stored.result.items:
        if item.get("condition") not in PREFIXES and item.get("n_texts") == 1:
            arguments += ["--prefix", f"text:{item['text']}"]
    return arguments + flags(config.get("options") or {})

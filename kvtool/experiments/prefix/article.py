"""The page's article about prefixes: conditions beside no prefix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kvtool.reporting.commands import flags
from kvtool.reporting.conditions import condition_rows, conditions_article
from kvtool.reporting.numbers import interval, ranges, show
from kvtool.reporting.study import KeptResult
from kvtool.result import Result, Row

article = conditions_article


def prefix_effect(result: Result, row: Row) -> str:
    """A prefix beside none, by the interval of the difference."""
    low, high, value = (
        row.get(name) for name in ("difference_low", "difference_high", "difference")
    )
    how = f"The {row['condition']} prefix ({_choice(row)})"
    if value is None:
        return f"{how} scores {interval(result, row)}; its difference to none is not known."
    if low is None or high is None:
        return f"{how} differs from none by {show(result, value)}; without an interval nothing more is said."
    by = f"{show(result, abs(value))} {result.metric}; difference {interval(result, row, 'difference')}"
    if low > 0 or high < 0:
        what = "score" if result.higher_is_better else "error"
        return f"{how} {'raised' if low > 0 else 'lowered'} the {what} by {by}."
    return f"{how} made no difference that could be told: {interval(result, row, 'difference')} {result.metric}."


def sentences(result: Result) -> Iterator[str]:
    """What was found, a sentence each."""
    for row in condition_rows(result):
        if row["condition"] != "none":
            yield prefix_effect(result, row)


def _choice(row: Row) -> str:
    return {"best": "best block of each condition", "fixed": "same block as without"}.get(
        row.get("choice", ""), ""
    )


PREFIXES = ("none", "correct", "random", "incorrect")


def command(kept: KeptResult, config: Mapping[str, Any], info: Row | None) -> list[str]:
    """The words of the command that would make the result again."""
    names = [each["condition"] for each in config.get("conditions", [])]
    layers = config.get("layers")
    narrowed = layers if layers and (info is None or layers != info["layers"]) else None
    asked = {
        "run": config.get("run"),
        "kinds": ",".join(config.get("kinds", [])) or None,
        "layers": None if narrowed is None else ranges(narrowed),
        "conditions": ",".join(name for name in names if name in PREFIXES) or None,
        **{name: config.get(name) for name in ("select", "seed")},
    }
    words = [
        "prefix",
        kept.store,
        str(kept.result.task),
        *flags(asked, {"select": "max", "seed": 0}),
    ]
    for item in kept.result.items:
        if item.get("condition") not in PREFIXES and item.get("n_texts") == 1:
            words += ["--prefix", f"text:{item['text']}"]
    return words + flags(config.get("options") or {})

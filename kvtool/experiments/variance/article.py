"""The page's article about variances: their distribution, and which blocks do not depend on the
input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from kvtool.reporting import charts
from kvtool.reporting.articles import Article, clickable_blocks
from kvtool.reporting.commands import flags
from kvtool.reporting.heatmap import heatmap
from kvtool.reporting.numbers import plural
from kvtool.reporting.study import KeptResult, Study
from kvtool.reporting.tables import Data, plain_table
from kvtool.result import Result, Row


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    result = study.kept[position].result
    about = result.config.get("distribution") or {}
    marks = [("mode", place, "m-mode") for place in about.get("modes") or ()]
    threshold = result.config.get("threshold")
    marks += [("cut", threshold, "m-cut")] if threshold else []
    kind = result.config.get("kind", "key")
    groups = result.config.get("groups") or []
    tables = (
        [plain_table(groups, "By layers", data.add(f"{summary.rows}-groups", groups))]
        if groups
        else []
    )
    drawn = None
    if about.get("counts") and max(about["counts"]):
        drawn = charts.histogram(
            about["bin_edges"], about["counts"], marks, f"L2 variance of a {kind} block"
        )
    return replace(
        summary,
        template="variance.html",
        charts={
            "histogram": drawn,
            "heatmaps": [heatmap(result, kind, result.rows, logarithmic=True)]
            if result.rows
            else [],
            "sheets": study.sheets.get(position, []),
        },
        tables=tables,
        blocks=clickable_blocks(result, {}) | {"best": None},
    )


def agnostic_keys(result: Result) -> str:
    """How many vectors do not depend on the input, or that this cannot be told."""
    kind = result.config.get("kind", "key")
    threshold = result.config.get("threshold")
    known = [row for row in result.rows if row.get("input_agnostic") is not None]
    if threshold is None or not known:
        why = (result.config.get("distribution") or {}).get("why") or "no threshold"
        return f"No {kind} is called input-agnostic: the variances are not bimodal ({why})."
    count = sum(row["input_agnostic"] for row in known)
    cut = (
        "the valley between the two modes"
        if result.config.get("threshold_from") == "auto"
        else "as given"
    )
    where = [
        f"{group['n_input_agnostic']} of {group['n_keys']} {group['group']}"
        for group in result.config.get("groups", [])
        if group.get("n_input_agnostic") is not None
    ]
    spread = f" ({', '.join(where)})" if where else ""
    what = f"{kind} block"
    are = "is" if count == 1 else "are"
    return f"{count} of {plural(len(known), what)} {are} input-agnostic{spread}: variance below {threshold:.4g}, {cut}."


def sentences(result: Result) -> Iterator[str]:
    """What was found, a sentence each."""
    yield agnostic_keys(result)


def command(kept: KeptResult, config: Mapping[str, Any], _info: Row | None) -> list[str]:
    """The words of the command that would make the result again."""
    threshold = config.get("threshold") if config.get("threshold_from") == "given" else None
    asked = {
        "run": config.get("run"),
        "kind": config.get("kind"),
        "threshold": threshold,
        "seed": config.get("seed"),
    }
    return ["variance", kept.store, *flags(asked, {"kind": "key", "seed": 0})]

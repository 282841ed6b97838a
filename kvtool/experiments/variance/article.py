"""The page's article about variances: their distribution, and the blocks that do not depend on the
input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kvtool.reporting import chapters, charts
from kvtool.reporting.articles import Article, clickable_blocks
from kvtool.reporting.commands import flags
from kvtool.reporting.heatmap import heatmap
from kvtool.reporting.numbers import plural
from kvtool.reporting.study import KeptResult, Study
from kvtool.reporting.tables import Data, plain_table
from kvtool.result import Result, Row

CHAPTER = chapters.KEYS
TITLE = "Input-agnostic keys"


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return the article of variances."""
    result = study.kept[position].result
    distribution = result.config.get("distribution") or {}
    marks = [("mode", mode, "m-mode") for mode in distribution.get("modes") or ()]
    threshold = result.config.get("threshold")
    marks += [("cut", threshold, "m-cut")] if threshold else []
    kind = result.config.get("kind", "key")
    groups = result.config.get("groups") or []
    tables = (
        [plain_table(groups, "By layers", data.add(f"{summary.rows}-groups", groups))]
        if groups
        else []
    )
    chart = None
    if distribution.get("counts") and max(distribution["counts"]):
        chart = charts.histogram(
            distribution["bin_edges"],
            distribution["counts"],
            marks,
            f"L2 variance of a {kind} block",
        )
    return replace(
        summary,
        template="variance.html",
        charts={
            "histogram": chart,
            "heatmaps": [heatmap(result, kind, result.rows, logarithmic=True, best=None)]
            if result.rows
            else [],
            "plates": study.plates.get(position, []),
        },
        tables=tables,
        blocks=clickable_blocks(result, {}) | {"best": None},
    )


def agnostic_keys(result: Result) -> str:
    """Say how many vectors do not depend on the input, or that this cannot be told."""
    kind = result.config.get("kind", "key")
    threshold = result.config.get("threshold")
    defined = [row for row in result.rows if row.get("input_agnostic") is not None]
    if threshold is None or not defined:
        reason = (result.config.get("distribution") or {}).get("why") or "no threshold"
        return f"No {kind} is called input-agnostic: the variances are not bimodal ({reason})."
    count = sum(row["input_agnostic"] for row in defined)
    cut = (
        "the valley between the two modes"
        if result.config.get("threshold_from") == "auto"
        else "as given"
    )
    group_counts = [
        f"{group['n_input_agnostic']} of {group['n_keys']} {group['group']}"
        for group in result.config.get("groups", [])
        if group.get("n_input_agnostic") is not None
    ]
    spread = f" ({', '.join(group_counts)})" if group_counts else ""
    what = f"{kind} block"
    are = "is" if count == 1 else "are"
    share = f"{count} of {plural(len(defined), what)} {are} input-agnostic{spread}"
    return f"{share}: variance below {threshold:.4g}, {cut}."


def headline(results: Sequence[Result]) -> str | None:
    """Say over how many runs keys part into input-agnostic ones and others."""
    if len(results) < 2:
        return None
    n_bimodal = sum(result.config.get("threshold") is not None for result in results)
    return (
        f"In {n_bimodal} of {len(results)} sets of pictures the variances of keys part into "
        "input-agnostic ones and others."
    )


def sentences(result: Result) -> Iterator[str]:
    """Say what the variances show, a sentence each."""
    yield agnostic_keys(result)


def command(stored: KeptResult, config: Mapping[str, Any], _info: Row | None) -> list[str]:
    """Return the command line that would compute the result again."""
    threshold = config.get("threshold") if config.get("threshold_from") == "given" else None
    values = {
        "run": config.get("run"),
        "kind": config.get("kind"),
        "threshold": threshold,
        "seed": config.get("seed"),
    }
    return ["variance", stored.store, *flags(values, {"kind": "key", "seed": 0})]

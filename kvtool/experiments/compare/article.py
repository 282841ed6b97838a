"""The page's article about compared runs: best against best, and maps of differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kvtool.reporting import chapters, charts
from kvtool.reporting.articles import Article, clickable_blocks, is_grid
from kvtool.reporting.chance import chance_interval
from kvtool.reporting.commands import flags, request_flags
from kvtool.reporting.differences import (
    base_block,
    best_rows,
    block_rows,
    chance_sentence,
    differs,
    paired_sentence,
)
from kvtool.reporting.heatmap import Heatmap, heatmap
from kvtool.reporting.numbers import (
    gap,
    gap_unit,
    interval,
    p_value,
    plural,
    probability,
    unit_mark,
)
from kvtool.reporting.study import KeptResult, Study
from kvtool.reporting.tables import Data, PageTable
from kvtool.result import Result, Row, block_name

CHAPTER = chapters.MODELS
TITLE = "Runs compared"


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return the article of a comparison."""
    result = study.kept[position].result
    by_difference = replace(result, metric="difference")
    bests = best_rows(result)
    labeled = [(str(row["run"]), row, "s-value") for row in bests]
    unit = f", {gap_unit(result)}" if gap_unit(result) else ""
    name = f"difference to {result.config.get('run')}, best against best{unit}"
    tables = [_table(result, bests, data.add(f"{summary.rows}-best", bests))]
    return replace(
        summary,
        heading=f"{', '.join(_others(result))} against {result.config.get('run')}",
        template="compare.html",
        # How the two differ, and chance.
        n_leads=2,
        charts={
            "whiskers": charts.whiskers(by_difference, labeled, "difference", name),
            "heatmaps": list(_maps(by_difference)),
        },
        tables=tables,
        blocks=clickable_blocks(result, {}),
    )


def _table(result: Result, rows: list[Row], name: str) -> PageTable:
    """Return a line for each run: its best block beside the first run's, and the test."""
    mark = unit_mark(result)
    columns = [
        "run",
        "block",
        f"{result.metric}{mark}",
        "chance",
        f"block of {result.config.get('run')}",
    ]
    columns += [f"its {result.metric}{mark}", "its chance", f"difference{mark}"]
    columns += ["p", "p by Holm", "n"]
    cells = [
        [
            str(row["run"]),
            block_name({**row, "choice": None}),
            interval(result, row),
            chance_interval(result, row),
            base_block(row),
            interval(result, row, "base_score"),
            interval(result, row, "base_chance"),
            interval(result, row, "difference"),
            *("" if row.get(p) is None else p_value(row[p]) for p in ("p", "holm_p")),
            str(row["n"]),
        ]
        for row in rows
    ]
    return PageTable("Best against best", columns, cells, name)


def _others(result: Result) -> list[str]:
    """Return the names of the runs that are compared with the first."""
    return [str(entry["run"]) for entry in result.config.get("runs", [])[1:]]


def _maps(result: Result) -> Iterator[Heatmap]:
    """Yield a map of differences for each run and kind of more than one block."""
    for run in _others(result):
        rows = block_rows(result, run)
        for kind in dict.fromkeys(row["kind"] for row in rows):
            if is_grid(rows, kind):
                chart = heatmap(result, kind, block_rows(result, run, kind), best=None)
                yield replace(chart, caption=f"{run}, {chart.caption}")


def headline(results: Sequence[Result]) -> str | None:
    """Say of how many runs the best block differs from the first run's; of a single one by how
    much."""
    rows = [(result, row) for result in results for row in best_rows(result)]
    tested = [(result, row) for result, row in rows if row.get("holm_p") is not None]
    if len(tested) != 1:
        count = sum(differs(row) for _, row in tested)
        return (
            f"Of {plural(len(tested), 'run')} {count} have a best block that differs."
            if tested
            else None
        )
    result, row = tested[0]
    models = {str(entry["run"]): str(entry["model"]) for entry in result.config.get("runs", [])}
    pair = f"{models.get(row['run'], row['run'])} and {models.get(row['base'], row['base'])}"
    verb = "differ" if differs(row) else "cannot be told apart"
    return (
        f"The best blocks of {pair} {verb} in {str(result.task).replace('-', ' ')}: "
        f"{gap(result, row)}, {probability(row['holm_p'])}."
    )


def sentences(result: Result) -> Iterator[str]:
    """Say what the comparison shows, a sentence each."""
    for row in best_rows(result):
        yield paired_sentence(result, row)
        if (line := chance_sentence(result, row)) is not None:
            yield line
    if best_rows(result) and result.config.get("select") != "split":
        yield "Both blocks were chosen on the same data that they are compared on."
    for run in _others(result):
        rows = block_rows(result, run)
        if rows:
            n_different = sum(map(differs, rows))
            yield (
                f"Of {plural(len(rows), 'block')} that {run} and {result.config.get('run')} both "
                f"have, {n_different} differ (p below 0.05 by Holm)."
            )


def command(stored: KeptResult, config: Mapping[str, Any], _info: Row | None) -> list[str]:
    """Return the command line that would compute the result again."""
    names = [str(entry["run"]) for entry in config.get("runs", [])]
    values = {
        "runs": ",".join(names),
        **{name: config.get(name) for name in ("select", "seed")},
        **(config.get("options") or {}),
    }
    arguments = ["compare", stored.store, str(stored.result.task)]
    arguments += request_flags(config.get("request") or {})
    return arguments + flags(values, {"select": "split", "seed": 0})

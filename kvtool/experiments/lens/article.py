"""The page's article about the lens: how well words find their patches, and words on pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kvtool.experiments.lens.series import (
    PATCHES,
    PERMUTED,
    TEXT,
    lines_of,
    measures_of,
    rows_of,
)
from kvtool.reporting import chapters, charts
from kvtool.reporting.articles import Article
from kvtool.reporting.commands import flags, request_flags
from kvtool.reporting.numbers import interval, show
from kvtool.reporting.panels import CaptionedChart, panels_of
from kvtool.reporting.study import KeptResult, Study
from kvtool.reporting.tables import Data, PageTable
from kvtool.result import Result, Row, best_row

CHAPTER = chapters.LANGUAGE
TITLE = "Words read at image tokens"

CAPTIONS = {
    "lens": "What norm and head read: the word's logit (AUROC)",
    "directions": "The stream along the word's direction, made of sentences (AUROC)",
}
SUBJECTS = {"lens": "Norm and head", "directions": "Word directions"}
STYLES = {PATCHES: "t-image", PERMUTED: "t-random", TEXT: "t-text"}
DEFAULTS: dict[str, Any] = {"tokens": 64, "seed": 0}


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return the article of the lens."""
    result = study.kept[position].result
    tables = [
        _table(result, measure, data.add(f"{summary.rows}-{measure}", rows_of(result, measure)))
        for measure in measures_of(result)
    ]
    panels = [_chart(result, measure) for measure in measures_of(result)]
    return replace(
        summary,
        template="lens.html",
        charts={
            "face": panels_of(panels[:1]),
            "panels": panels_of(panels[1:]),
            "plates": study.plates.get(position, []),
        },
        tables=tables,
    )


def _chart(result: Result, measure: str) -> CaptionedChart:
    """Return the lines of a measure over layers, with chance."""
    series = [(line.name, STYLES[line.name], line.rows) for line in lines_of(result, measure)]
    level: Row = {"auroc": result.rows[0]["chance"]}
    chart = charts.layers_chart(result, series, [("chance", "s-other s-dashed", level)])
    return CaptionedChart(CAPTIONS.get(measure, measure), replace(chart, y_name=""))


def _table(result: Result, measure: str, name: str) -> PageTable:
    """Return a measure layer by layer."""
    rows = rows_of(result, measure)
    columns = ["layer", "auroc", PERMUTED, TEXT]
    has_ranks = any(row["rank"] is not None for row in rows)
    columns += [f"rank of {result.config.get('n_words')}", "rank elsewhere"] * has_ranks
    cells = [[str(row["layer"]), *_cells(result, row, has_ranks)] for row in rows]
    return PageTable(CAPTIONS.get(measure, measure), columns, cells, name)


def _cells(result: Result, row: Row, has_ranks: bool) -> Iterator[str]:
    yield interval(result, row)
    yield show(result, row["permuted"])
    yield show(result, row["text"])
    if has_ranks:
        yield show(result, row["rank"], metric="rank")
        yield show(result, row["rank_background"], metric="rank")


def sentences(result: Result) -> Iterator[str]:
    """Say of each measure whether words find their patches, a sentence each."""
    for measure in measures_of(result):
        best = best_row(rows_of(result, measure), result.metric)
        if best is not None:
            yield _sentence(result, measure, best, rows_of(result, measure))


def _sentence(result: Result, measure: str, best: Row, rows: Sequence[Row]) -> str:
    """Say how well the best layer of a measure finds patches, and what it is worth."""
    permuted = best["permuted"]
    # Words have to beat chance and the words of other concepts, whichever is higher.
    floor = max(best["chance"], permuted if permuted is not None else best["chance"])
    low = best["auroc_low"]
    verb = "find" if low is not None and low > floor else "do not find"
    than = "" if verb == "find" else " better than chance or than words of other concepts"
    beside = (
        f"chance {show(result, best['chance'])}, words of other concepts {show(result, permuted)}"
    )
    choice = f", the best of {len(rows)}" if len(rows) > 1 else ""
    return (
        f"{SUBJECTS.get(measure, measure)} {verb} the patches that words name{than}: AUROC "
        f"{interval(result, best)} after layer {best['layer']}{choice} ({beside})."
    )


def command(stored: KeptResult, config: Mapping[str, Any], info: Row | None) -> list[str]:
    """Return the command line that would compute the result again."""
    is_whole = info is not None and config.get("layers") == list(range(info.get("depth") or 0))
    layers = None if is_whole else config.get("layers")
    request = {"layers": layers, "limit": config.get("limit")}
    values = {name: config.get(name) for name in DEFAULTS}
    # Captions are the default, which needs no flag.
    text = None if config.get("text") in (None, "", "captions") else config["text"]
    return [
        "lens",
        stored.store,
        *flags({"run": config.get("run")}),
        *request_flags(request),
        *flags({**values, "text": text}, DEFAULTS),
    ]

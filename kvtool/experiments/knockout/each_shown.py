"""Every head alone as it is shown: on a terminal and on the page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rich import box
from rich.table import Table
from rich.text import Text

from kvtool.experiments.knockout.each_beside import measures_of
from kvtool.reporting.articles import Article, clickable_blocks
from kvtool.reporting.heatmap import Heatmap, heatmap
from kvtool.reporting.numbers import amount, interval, p_value, plural, probability, show
from kvtool.reporting.sentences import SURE
from kvtool.reporting.study import Study
from kvtool.reporting.tables import Data, plain_table
from kvtool.reporting.task_names import short_name
from kvtool.result import Result, Row

HEADS_SHOWN = 12
"""Heads that are listed, those whose margin changes most first."""
MEASURES_SHOWN = 5
"""More measures of heads do not fit 80 columns; the rows have all."""
KIND = "head"
"""The kind by which the page names heads."""
WORDS = {"mass": "attention on the picture"}
MAPS = {"margin_change": "nats", "accuracy_change": "fraction"}
"""Measures that are drawn, and their units."""


def is_each(result: Result) -> bool:
    """Tell whether a knockout is of every head alone."""
    return bool(result.config.get("each"))


def tables(result: Result) -> Iterator[Table]:
    """Yield the heads whose margin changes most, and what else is known of them."""
    yield _changes(result)
    if measures_of(result):
        yield _measures(result)
    if result.config.get("correlations"):
        yield _correlations(result)


def _changes(result: Result) -> Table:
    """Return the heads whose margin changes most, one a line."""
    heads = strongest(result)[:HEADS_SHOWN]
    none = result.config["none"]
    percent = replace(result, unit="fraction")
    text = (
        f"{len(heads)} of {len(result.rows)} heads, each blocked alone; without a knockout "
        f"accuracy {interval(percent, none, 'accuracy')}, "
        f"margin {interval(result, none, 'margin')}"
    )
    lines = _table(text)
    for name in ("layer", "head", "margin", "Holm", "accuracy", "lost", "gained", "Holm"):
        lines.add_column(name, justify="right")
    for row in heads:
        cells = [str(row["layer"]), str(row["kv_head"])]
        cells += [_nats(row), p_value(row["margin_holm_p"])]
        cells += [show(percent, row["accuracy_change"], "+")]
        cells += [str(row["n_lost"]), str(row["n_gained"]), p_value(row["mcnemar_holm_p"])]
        lines.add_row(*map(Text, cells))
    return lines


def _measures(result: Result) -> Table:
    """Return the same heads with their attention and what their values know."""
    sources = measures_of(result)[:MEASURES_SHOWN]
    lines = _table("the same heads: attention on the picture, and probes of their values")
    for name in ("layer", "head", "margin"):
        lines.add_column(name, justify="right", no_wrap=True)
    for source in sources:
        lines.add_column(short_name(source["measure"]), justify="right", no_wrap=True)
    for row in strongest(result)[:HEADS_SHOWN]:
        cells = [str(row["layer"]), str(row["kv_head"]), f"{row['margin_change']:+.3f}"]
        cells += [
            show(replace(result, unit=source["unit"]), row[source["measure"]]) for source in sources
        ]
        lines.add_row(*map(Text, cells))
    return lines


def _correlations(result: Result) -> Table:
    """Return the rank correlations of the margin's change with each measure."""
    lines = _table("over heads: change of the margin with ...")
    for name in ("measure", "rho", "95 %", "N", "p", "Holm"):
        lines.add_column(name, justify="left" if name == "measure" else "right")
    for row in result.config["correlations"]:
        cells = [row["measure"], f"{row['rho']:.2f}", _ends(row), str(row["n"])]
        lines.add_row(*map(Text, [*cells, p_value(row["p"]), p_value(row["holm_p"])]))
    return lines


def _nats(row: Row) -> str:
    """Return the change of the margin, as wide in all rows."""
    ends = (row[f"margin_change_{end}"] for end in ("low", "high"))
    low, high = ("-" if end is None else f"{end:.3f}" for end in ends)
    return f"{row['margin_change']:+.3f} [{low}, {high}]"


def _ends(row: Row) -> str:
    """Return the interval of a coefficient; nothing where there is none."""
    if row["rho_low"] is None:
        return ""
    return f"{row['rho_low']:.2f} to {row['rho_high']:.2f}"


def _table(title: str) -> Table:
    return Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )


def maps(result: Result) -> dict[str, str]:
    """Return what is drawn as maps of layers and heads, and the unit of each."""
    return MAPS | {source["measure"]: source["unit"] for source in measures_of(result)}


def strongest(result: Result) -> list[Row]:
    """Return the heads, those whose margin changes most first."""
    return sorted(result.rows, key=lambda row: -abs(row["margin_change"]))


def is_sure(row: Row) -> bool:
    """Tell whether a head changes the margin, by the test that is corrected for all heads."""
    return float(row["margin_holm_p"]) < SURE


def article(summary: Article, position: int, study: Study, data: Data) -> Article:
    """Return the article with the maps of both changes."""
    result = study.kept[position].result
    rows = [row | {"kind": KIND} for row in result.rows]
    page_result = replace(result, rows=rows)
    heatmaps = [
        _map(replace(page_result, metric=name, unit=unit)) for name, unit in maps(result).items()
    ]
    q_heads = result.config.get("q_heads", [])
    entries = {
        "correlations": ("Change of the margin with measures of heads", _related(result)),
        "q-heads": ("Query heads, and the change by blocking their keys and values", q_heads),
    }
    return replace(
        summary,
        template="attend.html",
        rows=data.add(f"{summary.rows}-heads", rows),
        charts={"heatmaps": heatmaps},
        tables=[
            plain_table(lines, title, data.add(f"{summary.rows}-{name}", lines))
            for name, (title, lines) in entries.items()
            if lines
        ],
        blocks=clickable_blocks(page_result, {}) | {"best": None},
    )


def _map(result: Result) -> Heatmap:
    """Return the map of a measure; of a change the strongest is marked, whichever its sign."""
    if result.metric not in MAPS:
        return heatmap(result, KIND, result.rows)
    strongest_row = max(
        result.rows, key=lambda row: abs(row.get(result.metric) or 0.0), default=None
    )
    return heatmap(result, KIND, result.rows, best=strongest_row)


def _related(result: Result) -> list[Row]:
    """Return the rank correlations; none where nothing is known beside."""
    related: list[Row] = result.config.get("correlations", [])
    return related


def sentences(result: Result) -> Iterator[str]:
    """Say which heads change the answers' margin, and which the answers."""
    sure = [row for row in strongest(result) if is_sure(row)]
    count = f"{len(sure)} of {plural(len(result.rows), 'head')}"
    scope = f"over {plural(result.n, 'question')}"
    if not sure:
        blocks = f"No head alone, of {len(result.rows)},"
        yield f"{blocks} changes the answers' margin for sure, {scope}."
        yield from _relations(result)
        return
    head = f"layer {sure[0]['layer']} head {sure[0]['kv_head']}"
    yield (
        f"Blocked alone, {count} change the answers' margin {scope} (Wilcoxon's test by picture, "
        f"Holm over heads), most {head}: {amount(result, sure[0])}."
    )
    # Of those just named: heads that change answers but no margin are none of them.
    lost = sum(row["mcnemar_holm_p"] < SURE for row in sure)
    verb = "changes" if lost == 1 else "change"
    yield f"{lost} of them {verb} which answers are right (McNemar's test, Holm over heads)."
    yield from _relations(result)


def _relations(result: Result) -> Iterator[str]:
    """Say which measures of heads go with what the heads do to answers."""
    related = _related(result)
    for row in related:
        if row["holm_p"] < SURE:
            direction = "raises" if row["rho"] > 0 else "lowers"
            yield (
                f"The higher a head's {_words(row)}, the more "
                f"blocking it {direction} the margin: rho {row['rho']:.2f} [{_ends(row)}] over "
                f"{row['n']} heads, {probability(row['holm_p'])} by Holm."
            )
    unsure = [_words(row) for row in related if row["holm_p"] >= SURE]
    if unsure:
        yield (
            f"No relation of the change with heads' {', '.join(unsure)} could be told, over "
            f"{related[0]['n']} heads."
        )


def _words(row: Row) -> str:
    """Return the name of a measure in a sentence."""
    measure: str = row["measure"]
    return WORDS.get(measure, measure)

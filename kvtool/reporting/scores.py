"""Scores on a terminal: the best block beside the baselines, the per-layer maximum, and the layer x
head map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvtool.reporting.chance import against_chance, guess_rows
from kvtool.reporting.fitting import MapTable
from kvtool.reporting.measures import legend, short_measure
from kvtool.reporting.numbers import interval, show, unit_mark
from kvtool.result import LABELS, Result, Row, block_name, is_summary, metric_names

HEADS_SHOWN = 10
"""More heads than this do not fit 80 columns as numbers: each is a character."""

SHADES = "·░▒▓█"
"""From the lowest score of a map to its highest, where a head is one character."""

MAX_METRICS = 3
"""Metrics with an interval that fit beside a name."""

COLD = (38, 50, 90)
HOT = (220, 120, 30)


def _leading_rows(result: Result) -> list[tuple[str, Row]]:
    """Return the best block and the best of each baseline, with their names; all rows where they
    are no blocks."""
    rows: list[tuple[str, Row]] = []
    if result.best is not None:
        choice = ""
        if result.best.get("select") == "split":
            # The rows below it are over all units, so that the two are not of the same data.
            choice = f" (chosen on the other half; n = {result.best['n']} of {result.n})"
        rows.append((f"best: {block_name(result.best)}{choice}", result.best))
    elif not any("kv_head" in row for row in result.rows):
        rows += [(block_name(row), row) for row in result.rows]
    this_run = result.config.get("run")
    # Each run and kind of baseline is shown by its best block.
    groups: dict[tuple[Any, Any], list[Row]] = {}
    for row in result.baselines:
        groups.setdefault((row.get("run"), row.get("kind")), []).append(row)
    for row in (result.best_of(group) or group[0] for group in groups.values()):
        name = row.get("run")
        if (
            result.best is not None
            and name == this_run
            and block_name(row) == block_name(result.best)
        ):
            continue  # an encoder's best block is the baseline itself
        rows.append((block_name(row) + (f", {name}" if name and name != this_run else ""), row))
    return rows + guess_rows(result)


def _metrics(rows: Sequence[tuple[str, Row]]) -> list[str]:
    """Return the columns of the leading rows that fit."""
    names = dict.fromkeys(name for _, row in rows for name in metric_names(row))
    return list(names)[:MAX_METRICS]


def _scores(result: Result, rows: Sequence[tuple[str, Row]]) -> Table:
    """Return a table of the leading rows with their intervals."""
    metrics = _metrics(rows)
    title = Text(f"scores{unit_mark(result)}, 95 % interval")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("block" if result.best is not None else "", overflow="fold")
    for name in metrics:
        table.add_column(Text(name), justify="right", no_wrap=True)
    for label, row in rows:
        table.add_row(Text(label), *(Text(interval(result, row, name)) for name in metrics))
    return table


def _label_rows(result: Result) -> list[Row]:
    """Return the rows of the best block about a category, an alpha and the like."""
    if result.best is None:
        return []
    name = _block(result.best)
    return [row for row in result.rows if _block(row) == name and not is_summary(row)]


def _block(row: Row) -> list[Any]:
    """Return what names a row's block."""
    return [row.get(field) for field in ("kind", "layer", "kv_head")]


def _by_label(result: Result, rows: Sequence[Row]) -> Table:
    labels = [name for name in LABELS if any(row.get(name) not in (None, "all") for row in rows)]
    metrics = metric_names(rows[0])[:MAX_METRICS]
    table = Table(
        title=Text(f"the best block{unit_mark(result)}"), title_justify="left", box=box.SIMPLE_HEAD
    )
    for name in labels:
        table.add_column(Text(name), overflow="fold")
    for name in metrics:
        table.add_column(Text(name), justify="right")
    has_chance = any(row.get("chance") is not None for row in rows)
    if has_chance:
        table.add_column("chance", justify="right")
    table.add_column("n", justify="right")
    for row in rows:
        cells = [str(row.get(name, "")) for name in labels]
        cells += [interval(result, row, name) for name in metrics]
        cells += [show(result, row.get("chance"))] * has_chance
        table.add_row(*map(Text, [*cells, str(row.get("n", ""))]))
    return table


def _heat_table(result: Result, kind: str, rows: Sequence[Row]) -> Table:
    """Put layers down and heads across; the layer's best is last, and the best of all has a star
    and is the hottest. Few heads are numbers, many a character each."""
    shades = _map_table(result, kind, rows, has_numbers=False)
    if len({row["kv_head"] for row in rows}) > HEADS_SHOWN:
        return shades
    table = _map_table(result, kind, rows, has_numbers=True)
    table.narrow = shades
    return table


def _map_table(result: Result, kind: str, rows: Sequence[Row], has_numbers: bool) -> MapTable:
    heads = sorted({row["kv_head"] for row in rows})
    top = result.best_of(rows)
    values = [row[result.metric] for row in rows if row[result.metric] is not None]
    low = min(values, default=0.0)
    high = max(values, default=1.0)
    table = MapTable(
        title=Text(f"{kind}: {short_measure(result.metric)}{unit_mark(result)}"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    table.add_column("layer", justify="right", no_wrap=True)
    for name in [f"h{head}" for head in heads] if has_numbers else [f"h0 to h{heads[-1]}"]:
        table.add_column(name, justify="right" if has_numbers else "left", no_wrap=True)
    table.add_column("max" if result.higher_is_better else "min", justify="right", no_wrap=True)
    table.add_column("head", justify="right", no_wrap=True)
    for layer in sorted({row["layer"] for row in rows}):
        # Layers may have fewer heads than others: what lacks is left blank.
        layer_rows = {row["kv_head"]: row for row in rows if row["layer"] == layer}
        head_rows = [layer_rows.get(head) for head in heads]
        cells = (
            [_cell(result, row, low, high, top) for row in head_rows]
            if has_numbers
            else [_shaded(result, head_rows, low, high)]
        )
        best = result.best_of(list(layer_rows.values()))
        table.add_row(
            Text(str(layer)),
            *cells,
            _cell(result, best, low, high, top),
            Text("" if best is None else str(best["kv_head"])),
        )
    return table


def _cell(result: Result, row: Row | None, low: float, high: float, top: Row | None) -> Text:
    value = None if row is None else row.get(result.metric)
    if value is None:
        return Text("-")
    star = "*" if row is top else ""
    style = f"white on {_color(_share(result, value, low, high))}"
    return Text(f"{star}{show(result, value)}", style=style)


def _shaded(result: Result, rows: Sequence[Row | None], low: float, high: float) -> Text:
    """Return a layer's heads as a character each; a blank where a head has no score."""
    text = Text()
    for row in rows:
        value = None if row is None else row.get(result.metric)
        if value is None:
            text.append(" ")
            continue
        share = _share(result, value, low, high)
        text.append(SHADES[round(share * (len(SHADES) - 1))], style=_color(share))
    return text


def _share(result: Result, value: float, low: float, high: float) -> float:
    """Return where a score lies between the worst of a map, 0, and its best, 1."""
    share = (value - low) / (high - low) if high > low else 0.0
    return share if result.higher_is_better else 1 - share


def _color(share: float) -> str:
    """Return the color of a score, of rich's names."""
    numbers = (round(a + share * (b - a)) for a, b in zip(COLD, HOT, strict=True))
    return f"rgb({','.join(map(str, numbers))})"


def score_tables(result: Result) -> Iterator[RenderableType]:
    """Yield the best block beside the baselines, its rows by label, and a map for each kind."""
    leading = _leading_rows(result)
    if leading:
        yield _scores(result, leading)
        if names := legend(_metrics(leading)):
            yield Text(names)
    if (line := against_chance(result)) is not None:
        yield Text(line)
    yield from block_tables(result)


def block_tables(result: Result) -> Iterator[RenderableType]:
    """Yield a map of layers and heads for each kind, and the best block's rows by label."""
    for kind in dict.fromkeys(row.get("kind") for row in result.rows):
        rows = [
            row
            for row in result.rows
            if row.get("kind") == kind and is_summary(row) and "kv_head" in row
        ]
        if len(rows) > 1:
            yield _heat_table(result, str(kind), rows)
    labeled = _label_rows(result)
    if labeled:
        yield _by_label(result, labeled)

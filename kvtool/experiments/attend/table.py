"""Attention on a terminal: the heads that find objects best, or look at the picture most, the
localization heads, and what sinks are like.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvtool.result import Result, Row

HEADS_SHOWN = 12
"""Heads that are listed, the best first."""
KEYS_SHOWN = 16
SINK_COLUMNS = {
    "share": "sink_share",
    "mass": "mass",
    "same": "overlap",
    "border": "border",
    "key": "key_norm_ratio",
    "value": "value_norm_ratio",
    "depends": "value_dependence",
    "peak": "peak",
    "variance": "variance",
}
"""Columns of the table of sinks, and the fields of rows that they show."""
FINDING = (
    "auroc: does attention find what a text names; permuted: the same with objects of other "
    "pictures; pointing: the strongest patch lies in the object; "
)
LOOKING = (
    "mass: attention on the picture, the rest is on text; entropy: of attention within it, 1 where "
    "all tokens draw alike; sinks: share of mass on the strongest 1 % of its tokens"
)
SINKS = (
    "sinks are the strongest 1 % of a picture's tokens; share: of mass that they draw; mass: "
    "attention on the picture; same: sinks that another picture has, too; border: sinks on the "
    "grid's border; key, value: their length over that of other tokens; depends: share of their "
    "value that depends on the picture; peak: the residual stream's largest dimension there over "
    "the median; variance: L2 variance of the keys"
)
"""What the columns say."""


def tables(result: Result) -> Iterator[RenderableType]:
    """Yield what `kvtool attend` shows below the headline."""
    if result.task == "sinks":
        yield _sinks(result)
        yield Text(SINKS)
        yield from _relations(result)
        return
    yield _heads(result)
    yield Text(FINDING * (result.metric == "auroc") + LOOKING)
    if result.config["localization"]["heads"]:
        yield _localization(result.config["localization"])
    yield from map(Text, _lines(result.config))


def _heads(result: Result) -> Table:
    """Return the heads of the highest metric, one a line."""
    has_masks = result.metric == "auroc"
    best = result.ranked(result.rows)[:HEADS_SHOWN]
    counts = f"{len(best)} of {len(result.rows)} heads"
    shares = "mass and sinks"
    if has_masks:
        shares = f"pointing (at random {_percent(best[0]['pointing_chance'])}), {shares}"
    source = result.config["from"]
    table = _table(f"{counts}, from {source}, the highest {result.metric}; {shares} in %")
    names = ["layer", "head"]
    names += ["auroc", "95 %", "permuted", "pointing"] * has_masks
    names += ["mass", "entropy", "sinks"]
    for name in names:
        table.add_column(name, justify="right")
    for row in best:
        cells = [str(row[name]) for name in ("layer", "q_head")]
        if has_masks:
            cells += [
                number(row["auroc"]),
                _ends(row, "auroc", joined="-"),
                number(row["auroc_permuted"]),
            ]
            cells.append(_percent(row["pointing"]))
        cells += [_percent(row["mass"]), number(row["entropy"]), _percent(row["sink_share"])]
        table.add_row(*map(Text, cells))
    return table


def _localization(localization: Row) -> Table:
    """Return the localization heads, one a line."""
    table = _table(f"localization heads, chosen over {localization['n_chosen']} texts")
    for name in ("layer", "head", "kv", "among the ten, %"):
        table.add_column(name, justify="right")
    for head in localization["heads"]:
        cells = [str(head[name]) for name in ("layer", "q_head", "kv_head")]
        table.add_row(*cells, _percent(head["frequency"]))
    return table


def _lines(config: Row) -> Iterator[str]:
    """Yield what was found on the half of the pictures that nothing was chosen on."""
    localization = config["localization"]
    if localization.get("auroc") is not None:
        yield (
            f"localization heads on the other half: auroc {number(localization['auroc'])} "
            f"[{_ends(localization, 'auroc')}], permuted {number(localization['auroc_permuted'])}"
        )
    best_head = config["chosen_head"]
    if best_head is not None:
        yield (
            f"best head by auroc, layer {best_head['layer']} head {best_head['q_head']}: "
            f"{number(best_head['chosen_auroc'])} on its half, {number(best_head['auroc'])} "
            f"[{_ends(best_head, 'auroc')}] on the other"
        )
    segmentation = localization.get("segmentation")
    if segmentation:
        metric = segmentation["metric"]
        yield (
            f"segmentation by attention: {metric} {_percent(segmentation[metric])} %, chance "
            f"{_percent(segmentation['chance'])} %"
        )
        values = segmentation["values"]
        if values and metric in values:
            yield (
                f"segmentation by values, layer {values['layer']} head {values['kv_head']}: "
                f"{_percent(values[metric])} %"
            )


def _sinks(result: Result) -> Table:
    """Return the keys of the highest sink share, one a line."""
    rows = result.ranked(result.rows)[:KEYS_SHOWN]
    counts = f"{len(rows)} of {len(result.rows)} keys, {result.n} pictures"
    table = _table(f"sinks of {counts}; share to border and depends in %")
    for name in ("layer", "kv", *SINK_COLUMNS):
        table.add_column(name, justify="right")
    for row in rows:
        mark = "*" if row["input_agnostic"] else ""
        cells = [f"{row['layer']}{mark}", str(row["kv_head"])]
        cells += [_short(name, row[name]) for name in SINK_COLUMNS.values()]
        table.add_row(*map(Text, cells))
    # Overlap and border have chances of their own; ratios of sinks to others have 1.
    first = rows[0]
    chances = [first["overlap_chance"], first["border_chance"]]
    cells = ["chance", "", "", "", *map(_percent, chances), "1.00", "1.00", "", "", ""]
    table.add_row(*map(Text, cells))
    return table


def _relations(result: Result) -> Iterator[RenderableType]:
    """Yield what sinks have to do with the keys' variance."""
    columns = {field: name for name, field in SINK_COLUMNS.items()}
    if result.config["correlations"]:
        table = _table("over keys: variance with ...")
        for name in ("measure", "rho", "95 %", "p (Holm)"):
            table.add_column(name, justify="left" if name == "measure" else "right")
        for row in result.config["correlations"]:
            cells = [number(row["rho"], 2), _ends(row, "rho", 2), number(row["holm_p"])]
            table.add_row(columns.get(row["measure"], row["measure"]), *map(Text, cells))
        yield table
    if result.config["agnostic"]:
        table = _table("input-agnostic keys (*) and the others")
        for name in ("measure", "agnostic", "others", "p (Holm)"):
            table.add_column(name, justify="left" if name == "measure" else "right")
        for row in result.config["agnostic"]:
            cells = [number(row["agnostic"]), number(row["others"]), number(row["holm_p"])]
            table.add_row(columns.get(row["measure"], row["measure"]), *map(Text, cells))
        yield table


def _short(name: str, value: float | None) -> str:
    if name in ("sink_share", "mass", "overlap", "border", "value_dependence"):
        return _percent(value)
    return "-" if value is None else f"{value:.3g}"


def number(value: float | None, decimals: int = 3) -> str:
    """Return a number with some decimals; "-" where it is not defined."""
    return "-" if value is None else f"{value:.{decimals}f}"


def _ends(row: Row, name: str, decimals: int = 3, joined: str = " to ") -> str:
    ends: Sequence[float | None] = (row[f"{name}_low"], row[f"{name}_high"])
    return joined.join(number(end, decimals) for end in ends)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _table(title: str) -> Table:
    return Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        min_width=min(len(title) + 2, 80),
    )

"""An SAE study on a terminal: image tokens layer by layer beside the text and the controls, the
conditions of the layer where words find their patches best, and what is evidence of what."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kvtool.experiments.sae.remarks import remarks
from kvtool.experiments.sae.series import (
    EXCEEDS,
    IMAGE,
    TEXT,
    best_image,
    condition_rows,
    control_range,
    exceeds_chance,
    is_number,
    sought,
)
from kvtool.reporting.measures import legend
from kvtool.result import Result, Row


def tables(result: Result) -> Iterator[RenderableType]:
    """Yield what `kvtool sae` shows below the headline."""
    yield _layers(result)
    field = sought(result)
    best = best_image(result)
    if best is not None:
        yield _conditions(result, best)
    yield Text(legend(["fvu", "l0", field] if result.metric == "fvu" else [field]))
    for line in (*remarks(result), *result.config["notes"]):
        yield Text(line)


def _layers(result: Result) -> RenderableType:
    """Put layers down, and the image's measures across."""
    field = sought(result)
    has_sae = result.metric == "fvu"
    table = _table()
    table.add_column("layer", justify="right", no_wrap=True)
    names = ["fvu", "text's", "l0", "text's", "norm"] if has_sae else ["norm"]
    for name in (*names, field, "text's", "controls"):
        table.add_column(name, justify="right", no_wrap=True)
    for image in condition_rows(result.rows, IMAGE):
        # Text and controls of the same layer and SAE.
        neighbors = [row for row in result.rows if _block(row) == _block(image)]
        text = next(iter(condition_rows(neighbors, TEXT)), {})
        cells = []
        if has_sae:
            for name, digits in (("fvu", 2), ("l0", 3)):
                cells += [_short(row.get(name), digits) for row in (image, text)]
        norm_ratio = image.get("norm_ratio") if has_sae else _quotient(image, text)
        ends = control_range(neighbors, field)
        # Without controls nothing is told from chance.
        is_marked = ends is not None and exceeds_chance(image, field, ends)
        cells += [
            _short(norm_ratio),
            f"{_interval(image, field)}{EXCEEDS if is_marked else ' '}",
            _short(text.get(field), 2),
            "-" if ends is None else f"{ends[0]:.2f}-{ends[1]:.2f}",
        ]
        table.add_row(str(image["layer"]), *map(Text, cells))
    return _titled("image tokens; norm is over the text's", table)


def _conditions(result: Result, best: Row) -> RenderableType:
    """Put the conditions of a layer down."""
    field = sought(result)
    columns = ("fvu", "cos", "l0", "norm_ratio") if result.metric == "fvu" else ()
    verb = "are" if field == "directions" else "is"
    table = _table()
    table.add_column("condition", no_wrap=True)
    for name in (*columns, field):
        label = {"norm_ratio": "norm"}.get(name, name)
        table.add_column(label, justify="right", no_wrap=True)
    for row in result.rows:
        if _block(row) == _block(best):
            cells = [row["condition"], *(_short(row.get(name)) for name in columns)]
            table.add_row(*map(Text, cells), Text(_interval(row, field)))
    return _titled(f"layer {best['layer']}, where {field} {verb} best", table)


def _block(row: Row) -> tuple[int, str]:
    return row["layer"], row["sae"]


def _quotient(image: Row, text: Row) -> float | None:
    """Return how long the image's tokens are beside the text's."""
    return image["norm"] / text["norm"] if image.get("norm") and text.get("norm") else None


def _interval(row: Row, field: str) -> str:
    """Return "0.95 [0.94, 0.96]"; AUROCs are shown alike, however near 1."""
    ends = [row.get(name) for name in (field, f"{field}_low", f"{field}_high")]
    if not all(map(is_number, ends)):
        return _short(ends[0])
    value, low, high = (f"{end:.2f}" for end in ends)
    return f"{value} [{low}, {high}]"


def _short(value: float | None, digits: int = 3) -> str:
    return f"{value:.{digits}g}" if value is not None and is_number(value) else "-"


def _titled(title: str, table: Table) -> RenderableType:
    """Put a title above a table, which may be narrower: rich folds a title at the table's width."""
    return Group(Text(title, style="table.title"), table)


def _table() -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )

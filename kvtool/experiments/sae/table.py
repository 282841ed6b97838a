"""An SAE study on a terminal: image tokens layer by layer beside the text and the controls, the
conditions of the layer where words find their patches best, and what is evidence of what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from kvtool.experiments.sae.series import (
    CONTROLS,
    IMAGE,
    TEXT,
    best_image,
    condition_rows,
    control_range,
    is_number,
    layer_interval,
    sought,
)
from kvtool.result import Result, Row

EXCEEDS = "*"
"""Marks transfer whose interval lies above those of all controls."""


def tables(result: Result) -> Iterator[RenderableType]:
    """Yield what `kvtool sae` shows below the headline."""
    yield _layers(result)
    best = best_image(result)
    if best is not None:
        yield _conditions(result, best)
    for entry in result.config["alignment_layer"]:
        yield Text(alignment_line(entry))
    for note in result.config["notes"]:
        yield Text(note)


def exceeds_controls(rows: Sequence[Row], image: Row, field: str) -> bool:
    """Tell whether the interval of the image's tokens lies above that of every control in its
    layer; False without controls."""
    highs = [row.get(f"{field}_high") for row in condition_rows(rows, *CONTROLS)]
    defined = [float(high) for high in highs if high is not None and is_number(high)]
    low = image.get(f"{field}_low")
    return bool(defined) and low is not None and float(low) > max(defined)


def alignment_line(entry: Row) -> str:
    """Say the layer from which image tokens read as text does, by one measure."""
    what = {
        "fvu": "fvu stays within 1.25 times the text's",
        "transfer": "transfer stays near its best, and above chance",
        "directions": "words' directions stay near their best, and above chance",
    }[entry["by"]]
    return f"layer from which {what}: {layer_interval(entry)}"


def _layers(result: Result) -> Table:
    """Put layers down, and the image's measures across."""
    field = sought(result)
    has_sae = result.metric == "fvu"
    table = _table(f"image tokens; norm over text's; {EXCEEDS} {field} exceeds every control's")
    table.add_column("layer", justify="right", no_wrap=True)
    names = ["fvu", "text's", "l0", "text's", "norm"] if has_sae else ["norm"]
    for name in (*names, field, "text's", "controls"):
        table.add_column(name, justify="right", no_wrap=True)
    for image in condition_rows(result.rows, IMAGE):
        neighbors = [row for row in result.rows if _block(row) == _block(image)]
        text = next(iter(condition_rows(neighbors, TEXT)), {})
        cells = []
        if has_sae:
            for name, digits in (("fvu", 2), ("l0", 3)):
                cells += [_short(row.get(name), digits) for row in (image, text)]
        norm_ratio = image.get("norm_ratio") if has_sae else _quotient(image, text)
        ends = control_range(neighbors, field)
        mark = EXCEEDS if exceeds_controls(neighbors, image, field) else " "
        cells += [
            _short(norm_ratio),
            f"{_interval(image, field)}{mark}",
            _short(text.get(field), 2),
            "-" if ends is None else f"{ends[0]:.2f}-{ends[1]:.2f}",
        ]
        table.add_row(str(image["layer"]), *map(Text, cells))
    return table


def _conditions(result: Result, best: Row) -> Table:
    """Put the conditions of a layer down."""
    field = sought(result)
    columns = ("fvu", "cos", "l0", "norm_ratio") if result.metric == "fvu" else ()
    table = _table(f"layer {best['layer']}, where {field} is best")
    table.add_column("condition", no_wrap=True)
    for name in (*columns, field):
        label = {"norm_ratio": "norm"}.get(name, name)
        table.add_column(label, justify="right", no_wrap=True)
    for row in result.rows:
        if _block(row) == _block(best):
            cells = [row["condition"], *(_short(row.get(name)) for name in columns)]
            table.add_row(*map(Text, cells), Text(_interval(row, field)))
    return table


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


def _table(title: str) -> Table:
    return Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )

"""Layers x heads in color, as a table of buttons: readable by keyboard, by screen readers, and in
print."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from kvtool.reporting.axes import share_of
from kvtool.reporting.measures import column_beside, level_words, plain_name
from kvtool.reporting.numbers import in_percent, interval, is_area, scale, show, unit_mark
from kvtool.result import Result, Row

VIRIDIS = (
    "440154",
    "482878",
    "3e4989",
    "31688e",
    "26828e",
    "1f9e89",
    "35b779",
    "6ece58",
    "b5de2b",
    "fde725",
)
"""Ten steps of matplotlib's perceptually even map, between which colors are mixed."""

NUMBERS_UP_TO = 16
"""Columns beyond which a cell has no room for one decimal."""
DIGITS = 3
"""Digits in a cell, of numbers that are neither percent nor areas under a curve."""
CHARACTER_REM = 0.49
TIGHT_CHARACTER_REM = 0.43
"""Widths of a digit in the style sheet's cells."""
PADDING_REM = 0.3


@dataclass(frozen=True)
class HeatmapCell:
    """One block: its color, the ink on it, the number in it, and the label that a reader hears."""

    layer: int
    kv_head: int
    fill: str
    ink: str
    text: str
    label: str
    best: bool = False
    framed: bool = False


@dataclass(frozen=True)
class Heatmap:
    """Layers across, heads down; cells by head, then layer; None where a block is not scored.

    low, high: what the darkest and the brightest color stand for. chance_at: where chance lies
    between them, in percent; None where it is beyond them or not known.
    """

    kind: str
    layers: list[int]
    heads: list[int]
    cells: list[list[HeatmapCell | None]]
    low: str
    high: str
    caption: str
    tight: bool
    chance_at: float | None = None
    column: str = ""

    @property
    def cell_rem(self) -> float:
        """The least width of a cell in which every number of the map fits."""
        texts = (cell.text for row in self.cells for cell in row if cell is not None)
        character = TIGHT_CHARACTER_REM if self.tight else CHARACTER_REM
        return round(max(map(len, texts), default=0) * character + PADDING_REM, 2)


BEST: Row = {}
"""Stands for the best row of a map, see heatmap."""


def heatmap(
    result: Result,
    kind: str,
    rows: Sequence[Row],
    *,
    logarithmic: bool = False,
    best: Row | None = BEST,
) -> Heatmap:
    """Return the metric of summary rows of one kind, input-agnostic blocks framed.

    Args:
        result: the result.
        kind: the kind of its blocks.
        rows: a row a block.
        logarithmic: whether colors are on a logarithmic scale.
        best: the row that is marked, by default that of the best metric; None for none.
    """
    layers = sorted({row["layer"] for row in rows})
    heads = sorted({row["kv_head"] for row in rows})
    scored = [float(row[result.metric]) for row in rows if row.get(result.metric) is not None]
    low, high = min(scored, default=0.0), max(scored, default=1.0)
    # The brightest is the best: of an error the lowest.
    ends = (low, high) if result.higher_is_better else (high, low)
    marked = result.best_of(rows) if best is BEST else best
    text_of = _number(result, scored)
    # Many layers leave room for short numbers only.
    tight = len(layers) > NUMBERS_UP_TO
    cell_of = {}

    def brightness(value: float) -> float:
        """Return where a score lies between the worst, 0, and the best, 1."""
        share = share_of(value, low, high, logarithmic)
        return share if result.higher_is_better else 1 - share

    for row in rows:
        value = row.get(result.metric)
        color = "" if value is None else viridis(brightness(value))
        cell_of[row["kv_head"], row["layer"]] = HeatmapCell(
            row["layer"],
            row["kv_head"],
            f"#{color}" if color else "var(--hole)",
            "#fff" if color and _is_dark(color) else "#111",
            _short(result, value) if tight else text_of(value),
            cell_label(result, row),
            row is marked,
            row.get("input_agnostic") is True,
        )
    cells = [[cell_of.get((head, layer)) for layer in layers] for head in heads]
    chance = rows[0].get("chance") if rows else None
    is_within = chance is not None and low <= chance <= high
    chance_at = 100 * brightness(float(chance or 0)) if is_within else None
    low_text, high_text = map(text_of, ends)
    caption = _caption(result, kind, chance)
    column = column_beside(result.metric)
    return Heatmap(
        kind, layers, heads, cells, low_text, high_text, caption, tight, chance_at, column
    )


def _caption(result: Result, kind: str, chance: float | None) -> str:
    level = level_words(result.metric) if chance is None else f"chance {show(result, chance)}"
    gaps = gap_note(result.config)
    name = f"{plain_name(result.metric)}{unit_mark(result)}"
    return f"{kind}: {name}{level and f', {level}'}{gaps and f'; {gaps}'}"


def _number(result: Result, values: Sequence[float]) -> Callable[[float | None], str]:
    """Return how a map's numbers are written: percent and areas as everywhere, others with as many
    decimals as give the largest its digits, with signs where some are below 0."""
    if in_percent(result) or is_area(result.metric):
        return partial(show, result)
    largest = max(map(abs, values), default=0.0)
    magnitude = math.floor(math.log10(largest)) if largest > 0 else 0
    decimals = max(DIGITS - 1 - magnitude, 0)
    sign = "+" if min(values, default=0.0) < 0 else ""
    if abs(magnitude) > DIGITS:
        # Beyond some zeros the exponent is shorter.
        return lambda value: "" if value is None else format(value, f"{sign}.1e")
    style = f"{sign}.{decimals}f"
    return lambda value: "" if value is None else format(round(value, decimals) + 0.0, style)


def gap_note(config: Mapping[str, Any]) -> str:
    """Return why a map of blocks has gaps: which heads the layers of a run have; nothing where all
    layers are alike.
    """
    heads = config.get("heads_by_layer")
    return f"heads: {heads}" if heads else ""


def cell_label(result: Result, row: Row) -> str:
    """Return a block's label, e.g. "value, layer 5, head 1: 46.1 [45.2, 47.0], n = 60"."""
    agnostic = ", input-agnostic" if row.get("input_agnostic") else ""
    block = f"{row['kind']}, layer {row['layer']}, head {row['kv_head']}"
    return f"{block}: {interval(result, row)}, n = {row['n']}{agnostic}"


def _short(result: Result, value: float | None) -> str:
    return "" if value is None or not in_percent(result) else f"{scale(result) * value:.0f}"


def viridis(share: float) -> str:
    """Return the color at 0 to 1 as six hex digits."""
    position = min(max(share, 0.0), 1.0) * (len(VIRIDIS) - 1)
    first = min(int(position), len(VIRIDIS) - 2)
    ends = zip(_rgb(VIRIDIS[first]), _rgb(VIRIDIS[first + 1]), strict=True)
    return "".join(f"{round(a + (position - first) * (b - a)):02x}" for a, b in ends)


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (0, 2, 4))


def _is_dark(color: str) -> bool:
    """Tell whether white stands out more than black, by the relative luminance of WCAG 2."""
    shares = [channel / 255 for channel in _rgb(color)]
    # Undo the gamma of sRGB.
    linear = [
        share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares
    ]
    weighted = zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    return sum(weight * level for weight, level in weighted) < 0.179

"""How every plot looks: fonts, colours, sizes, and text that is cut where it does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import isfinite
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter

from kvtool.reporting.numbers import scale, show, unit_mark
from kvtool.result import Result, Row

COLUMN_IN = 3.5
PAGE_IN = 7.0
"""Widths of a figure: a paper's column, and its page."""
TEXT_PT = 8
SMALL_PT = 7
LINE_IN = 0.14
"""Height of a line of small text."""
FINE_DPI = 720
"""Of measured text: at few dots an inch, letters would be whole dots wide."""
FONT = "DejaVu Sans"
"""Comes with matplotlib, so that a plot is the same everywhere."""

INK = "#000000"
PALE = "#999999"
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#5C4A00")
"""Okabe and Ito's, told apart by the colour-blind; their yellow, too pale on white, darkened."""
MARK = "#D55E00"
"""Frames of cells: apart from both ends of the map."""
MAP = "viridis"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = (
    (0, (4, 1.5)),
    (0, (1, 1)),
    (0, (5, 1, 1, 1)),
    (0, (7, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
"""As many colours, markers and dashes as have no common divisor: the pairs repeat late."""


class Interval(NamedTuple):
    """A number with the ends of its interval; what is not defined is NaN."""

    value: float
    low: float
    high: float


def parameters() -> Any:
    """Settings of matplotlib for a plot: its own defaults, whatever the user's are, and ours on
    top."""
    kept = (
        "backend",
        "backend_fallback",
        "interactive",
        "toolbar",
        "webagg",
        "date.epoch",
        "savefig.directory",
    )
    plain: dict[str, Any] = {
        name: value
        for name, value in matplotlib.rcParamsDefault.items()
        if not name.startswith(kept)
    }
    return plain | {
        "font.family": FONT,
        "font.size": SMALL_PT,
        "axes.titlesize": TEXT_PT,
        "axes.labelsize": SMALL_PT,
        "figure.titlesize": TEXT_PT,
        "legend.fontsize": SMALL_PT,
        "legend.frameon": False,
        "legend.handlelength": 2.4,
        "xtick.labelsize": SMALL_PT,
        "ytick.labelsize": SMALL_PT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "lines.linewidth": 1.2,
        "lines.markersize": 3.5,
        "hatch.linewidth": 0.5,
        "text.parse_math": False,  # a $ in a model's name is a $
        "pdf.fonttype": 42,
        "svg.fonttype": "path",
        "svg.hashsalt": "kvtool",
    }


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure that makes room for its own labels."""
    return Figure(
        figsize=(width_in, height_in), layout=ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.04)
    )


def scored(row: Row, name: str) -> Interval:
    """A row's metric with its interval."""
    return Interval(*(as_number(row.get(each)) for each in (name, f"{name}_low", f"{name}_high")))


def as_number(value: Any) -> float:
    """NaN for null."""
    return float("nan") if value is None else float(value)


def points(
    axes: Axes,
    at: Sequence[float],
    found: Sequence[Interval],
    *,
    across: bool = False,
    label: str = "",
    **look: Any,
) -> None:
    """Values with their intervals as bars; `across`: values to the right. What is not defined is a
    gap.

    Bars are not errorbar's: the ends of a bootstrap may lie on one side of the value.
    """
    values = [each.value for each in found]
    (line,) = axes.plot(*((values, at) if across else (at, values)), label=label, **look)
    ends = [
        (place, each.low, each.high)
        for place, each in zip(at, found, strict=True)
        if all(map(isfinite, each))
    ]
    if ends:
        places, lows, highs = zip(*ends, strict=True)
        lines = axes.hlines if across else axes.vlines
        lines(
            places,
            lows,
            highs,
            colors=[line.get_color()],
            linewidth=0.8,
            zorder=line.get_zorder() - 0.1,
        )


def metric_label(result: Result, name: str) -> str:
    return f"{name}{unit_mark(result)}"


def metric_ticks(result: Result) -> FuncFormatter:
    """Fractions as percent; the numbers drawn stay the result's own."""
    factor = scale(result)
    return FuncFormatter(lambda value, _: f"{round(factor * value, 9):g}")


def in_words(result: Result, ends: Interval) -> str:
    """'11.3 [8.2, 14.7]'; what is not defined is '-'."""
    value, low, high = (show(result, end if isfinite(end) else None) for end in ends)
    return value if "-" in (low, high) else f"{value} [{low}, {high}]"


def title(drawn: Figure, *groups: Iterable[Any]) -> int:
    """Set the figure's title, a line or more for each group of parts. Returns the number of
    lines."""
    room = drawn.get_figwidth() - 0.15
    lines = [
        line
        for group in groups
        for line in packed([str(part) for part in group if part], room, TEXT_PT)
    ]
    drawn.suptitle("\n".join(lines), x=0.06 / drawn.get_figwidth(), ha="left", fontsize=TEXT_PT)
    return len(lines)


def about(result: Result) -> list[str]:
    """What a title says of every result."""
    config = result.config
    data = "@".join(str(config[name]) for name in ("dataset", "split") if config.get(name))
    return [
        result.task or result.command,
        str(config.get("model") or ""),
        data,
        result.metric,
        f"N = {result.n}",
    ]


def packed(parts: Sequence[str], width_in: float, size_pt: float) -> list[str]:
    """Parts joined by dots, as few lines as hold them; what is longer than a line is broken between
    words."""
    lines: list[str] = []
    for part in parts:
        glue = " · "
        whole = width_of(shown(part), size_pt) <= width_in
        for piece in [part] if whole else part.split():
            if (
                lines
                and width_of(longer := f"{lines[-1]}{glue}{shown(piece)}", size_pt) <= width_in
            ):
                lines[-1] = longer
            else:
                lines.append(fitted(piece, width_in, size_pt))
            glue = " "
    return lines


def fitted(text: str, width_in: float, size_pt: float = SMALL_PT) -> str:
    """The text, its middle left out where it is wider."""
    text = shown(text)
    if width_of(text, size_pt) <= width_in:
        return text
    for keep in range(len(text) - 1, 1, -1):
        cut = f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"
        if width_of(cut, size_pt) <= width_in:
            return cut
    return "…"


def shown(text: str) -> str:
    """What the font has a sign for, on one line."""
    signs = _signs()
    return "".join(
        each if ord(each) in signs and each.isprintable() else "?"
        for each in " ".join(text.split())
    )


@lru_cache(maxsize=4096)
def width_of(text: str, size_pt: float) -> float:
    """Inches."""
    font = get_font(findfont(FONT))
    font.set_size(size_pt, FINE_DPI)
    font.set_text(text)
    return font.get_width_height()[0] / 64 / FINE_DPI


def legend(axes: Axes, width_in: float) -> int:
    """A legend above the axes, in as many columns as fit a width. Returns its height in lines, 0
    for none."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return 0
    handle_in = 0.5
    labels = [fitted(label, width_in - handle_in) for label in labels]
    widest = max(width_of(label, SMALL_PT) for label in labels) + handle_in
    columns = min(len(labels), max(1, int(width_in / widest)))
    axes.legend(
        handles,
        labels,
        ncols=columns,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.3,
        columnspacing=1,
        handletextpad=0.6,
        labelspacing=0.25,
        borderpad=0,
    )
    return -(-len(labels) // columns)


@lru_cache(maxsize=1)
def _signs() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())

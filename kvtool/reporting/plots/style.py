"""The look of every plot: fonts, colors, sizes, and text that is cut where it does not fit."""

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
from kvtool.store.places import folder_name

COLUMN_IN = 3.5
PAGE_IN = 7.0
"""Widths of a figure: a paper's column, and its page."""
TEXT_PT = 8
SMALL_PT = 7
LINE_IN = 0.14
"""Height of a line of small text."""
FINE_DPI = 720
"""The resolution of measured text: at few dots an inch, letters would be whole dots wide."""
FONT = "DejaVu Sans"
"""Comes with matplotlib, so that a plot is the same everywhere."""

INK = "#000000"
PALE = "#999999"
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#5C4A00")
"""Okabe and Ito's, told apart by the color-blind; their yellow, too pale on white, darkened."""
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
"""As many colors, markers and dashes as have no common divisor: the pairs repeat late."""

LEGEND: dict[str, Any] = {
    "columnspacing": 1,
    "handletextpad": 0.6,
    "labelspacing": 0.25,
    "borderpad": 0,
}
"""The spacing of every legend."""

USER_SETTINGS = (
    "backend",
    "backend_fallback",
    "interactive",
    "toolbar",
    "webagg",
    "date.epoch",
    "savefig.directory",
)
"""Settings of matplotlib that stay the user's."""


class Interval(NamedTuple):
    """A number with the ends of its interval; what is not defined is NaN."""

    value: float
    low: float
    high: float


def parameters() -> Any:
    """Return matplotlib's settings for a plot: its defaults, whatever the user's are, and ours on
    top."""
    plain: dict[str, Any] = {
        name: value
        for name, value in matplotlib.rcParamsDefault.items()
        if not name.startswith(USER_SETTINGS)
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
    """Return an empty figure that makes room for its labels."""
    return Figure(
        figsize=(width_in, height_in), layout=ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.04)
    )


def scored(row: Row, name: str) -> Interval:
    """Return a row's metric with its interval."""
    return Interval(*(as_number(row.get(field)) for field in (name, f"{name}_low", f"{name}_high")))


def as_number(value: Any) -> float:
    """Return a number; NaN for null."""
    return float("nan") if value is None else float(value)


def points(
    axes: Axes,
    positions: Sequence[float],
    scores: Sequence[Interval],
    *,
    across: bool = False,
    label: str = "",
    **look: Any,
) -> None:
    """Draw values with their intervals as bars; `across` puts values to the right.

    What is not defined is a gap. Bars are not errorbar's: the ends of a bootstrap may lie on one
    side of the value.
    """
    values = [score.value for score in scores]
    (line,) = axes.plot(
        *((values, positions) if across else (positions, values)), label=label, **look
    )
    ends = [
        (position, score.low, score.high)
        for position, score in zip(positions, scores, strict=True)
        if all(map(isfinite, score))
    ]
    if ends:
        bar_positions, lows, highs = zip(*ends, strict=True)
        lines = axes.hlines if across else axes.vlines
        lines(
            bar_positions,
            lows,
            highs,
            colors=[line.get_color()],
            linewidth=0.8,
            zorder=line.get_zorder() - 0.1,
        )


def metric_label(result: Result, name: str) -> str:
    """Return a metric's name with its unit."""
    return f"{name}{unit_mark(result)}"


def metric_ticks(result: Result) -> FuncFormatter:
    """Write fractions as percent; the numbers in the plot stay the result's."""
    factor = scale(result)
    return FuncFormatter(lambda value, _: f"{round(factor * value, 9):g}")


def in_words(result: Result, ends: Interval) -> str:
    """Say a number: '11.3 [8.2, 14.7]'; what is not defined is '-'."""
    value, low, high = (show(result, end if isfinite(end) else None) for end in ends)
    return value if "-" in (low, high) else f"{value} [{low}, {high}]"


def title(figure: Figure, *groups: Iterable[Any]) -> int:
    """Set the figure's title, a line or more for each group of parts, and return the number of
    lines."""
    room = figure.get_figwidth() - 0.15
    lines: list[str] = []
    for group in groups:
        lines += packed([str(part) for part in group if part], room, TEXT_PT)
    figure.suptitle("\n".join(lines), x=0.06 / figure.get_figwidth(), ha="left", fontsize=TEXT_PT)
    return len(lines)


def about(result: Result) -> list[str]:
    """Return what a title says of every result."""
    config = result.config
    data = "@".join(str(config[name]) for name in ("dataset", "split") if config.get(name))
    return [
        result.task or result.command,
        folder_name(str(config.get("model") or "")),
        data,
        result.metric,
        f"N = {result.n}",
    ]


def packed(parts: Sequence[str], width_in: float, size_pt: float) -> list[str]:
    """Join parts by dots, in as few lines as hold them.

    What is longer than a line is broken between words.
    """
    lines: list[str] = []
    for part in parts:
        glue = " · "
        is_short = width_of(shown(part), size_pt) <= width_in
        for piece in [part] if is_short else part.split():
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
    """Return the text, its middle left out where it is wider than the room."""
    text = shown(text)
    if width_of(text, size_pt) <= width_in:
        return text
    for keep in range(len(text) - 1, 1, -1):
        cut = f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"
        if width_of(cut, size_pt) <= width_in:
            return cut
    return "…"


def shown(text: str) -> str:
    """Return the text on one line, with what the font has a sign for."""
    signs = _signs()
    return "".join(
        character if ord(character) in signs and character.isprintable() else "?"
        for character in " ".join(text.split())
    )


@lru_cache(maxsize=4096)
def width_of(text: str, size_pt: float) -> float:
    """Return the width of a text in inches."""
    font = get_font(findfont(FONT))
    font.set_size(size_pt, FINE_DPI)
    font.set_text(text)
    return font.get_width_height()[0] / 64 / FINE_DPI


def legend(axes: Axes, width_in: float) -> int:
    """Put a legend above the axes, in as many columns as fit, and return its number of lines, 0 for
    none."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return 0
    labels, columns = _columns(labels, width_in)
    axes.legend(
        handles,
        labels,
        ncols=columns,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.3,
        **LEGEND,
    )
    return -(-len(labels) // columns)


def figure_legend(figure: Figure, axes: Axes, width_in: float) -> int:
    """Put the legend of some axes below all panels of a figure, in as many columns as fit, and
    return its number of lines."""
    handles, labels = axes.get_legend_handles_labels()
    labels, columns = _columns(labels, width_in)
    figure.legend(handles, labels, ncols=columns, loc="outside lower left", **LEGEND)
    return -(-len(labels) // columns)


def _columns(labels: Sequence[str], width_in: float) -> tuple[list[str], int]:
    """Return the labels of a legend, cut where one is too long, and how many stand side by side."""
    handle_in = 0.5
    cut_labels = [fitted(label, width_in - handle_in) for label in labels]
    widest = max(width_of(label, SMALL_PT) for label in cut_labels) + handle_in
    return cut_labels, min(len(cut_labels), max(1, int(width_in / widest)))


@lru_cache(maxsize=1)
def _signs() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())

"""The lens as a figure: how well words find their patches over layers, a panel a measure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from matplotlib.figure import Figure

from kvtool.errors import KvtoolError
from kvtool.experiments.lens.series import (
    PATCHES,
    PERMUTED,
    TEXT,
    lines_of,
    measures_of,
)
from kvtool.reporting.plots.curves import CurvesPanel, PlotCurve, PlotLevel, draw_curves
from kvtool.reporting.plots.style import COLORS, DASHES, INK, about
from kvtool.result import Result, Row

LOOKS: dict[str, dict[str, Any]] = {
    PATCHES: {"color": COLORS[0], "marker": "s", "linewidth": 1.8, "zorder": 5},
    PERMUTED: {"color": COLORS[1], "marker": "D", "linestyle": DASHES[1]},
    TEXT: {"color": INK, "marker": "o", "zorder": 4},
}
SMALL: dict[str, Any] = {"markersize": 3, "linewidth": 1.0}


def draw(result: Result) -> Figure:
    """Draw a panel for each measure. Raises KvtoolError for the words of a single image."""
    if result.task == "words":
        raise KvtoolError(
            "--plot: expected the measure of the lens, found words of an image: draw them with "
            "-o FILE.png"
        )
    panels = [
        CurvesPanel(name, f"{name}, AUROC", level=_chance(result)) for name in measures_of(result)
    ]
    return draw_curves(panels, list(_curves(result)), about(result), [])


def _chance(result: Result) -> PlotLevel:
    return PlotLevel("chance", result.rows[0]["chance"])


def _curves(result: Result) -> Iterator[PlotCurve]:
    """Yield a curve for each kind of line, whose rows have the field of each measure."""
    for name in (PATCHES, PERMUTED, TEXT):
        rows: dict[int, Row] = {}
        for measure in measures_of(result):
            lines = [line.rows for line in lines_of(result, measure) if line.name == name]
            for row in (row for line_rows in lines for row in line_rows):
                renamed = {
                    f"{measure}{end}": row.get(f"auroc{end}") for end in ("", "_low", "_high")
                }
                rows[row["layer"]] = rows.get(row["layer"], {"layer": row["layer"]}) | renamed
        if rows:
            yield PlotCurve(name, list(rows.values()), SMALL | LOOKS[name])

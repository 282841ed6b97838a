"""An SAE on image tokens as a figure: error, active features, length and transfer over layers, a
line a condition."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from kvtool.errors import KvtoolError
from kvtool.experiments.sae.article import alignment_words, controls_words
from kvtool.experiments.sae.series import (
    IMAGE,
    ConditionRows,
    alignment,
    is_defined,
    series_of,
    sought,
)
from kvtool.reporting.plots.curves import CurvesPanel, PlotCurve, PlotLevel, draw_curves
from kvtool.reporting.plots.style import COLORS, DASHES, INK, PALE, about
from kvtool.result import Result

LOOKS: dict[str, dict[str, Any]] = {
    "text": {"color": INK, "marker": "o", "zorder": 4},
    "image": {"color": COLORS[0], "marker": "s", "linewidth": 1.8, "zorder": 5},
    "text-prefix": {"color": PALE, "marker": "o", "linestyle": DASHES[0]},
    "shuffled": {"color": COLORS[4], "marker": "v", "linestyle": DASHES[0]},
    "other-image": {"color": COLORS[2], "marker": "^", "linestyle": DASHES[2]},
    "random": {"color": COLORS[1], "marker": "D", "linestyle": DASHES[1]},
    "random-norm": {"color": COLORS[6], "marker": "P", "linestyle": DASHES[1]},
    "untrained": {"color": COLORS[5], "marker": "X", "linestyle": DASHES[3]},
    "noise-residual": {"color": COLORS[3], "marker": "*", "linestyle": DASHES[4]},
    "pca": {"color": COLORS[0], "marker": "<", "linestyle": DASHES[2], "linewidth": 0.9},
    "random-sae": {"color": COLORS[0], "marker": ">", "linestyle": DASHES[1], "linewidth": 0.9},
}
"""A condition looks alike in every figure: text black, the image's tokens blue, controls in other
colors and broken lines."""
UNKNOWN: dict[str, Any] = {"color": PALE, "marker": "x", "linestyle": DASHES[1]}
SMALL: dict[str, Any] = {"markersize": 3, "linewidth": 1.0}


def draw(result: Result) -> Figure:
    """Draw the panels of what was measured, at most four, and what the study says of alignment."""
    panels = panels_of(result)
    if not panels:
        raise KvtoolError(
            "--plot: expected a measure that is defined in some layer, found none in "
            f"{len(result.rows)} rows"
        )
    curves = [PlotCurve(line.name, line.rows, look(line)) for line in series_of(result)]
    notes = [words for words in (alignment_words(result), controls_words(result)) if words]
    return draw_curves(panels, curves, about(result), notes)


def panels_of(result: Result) -> list[CurvesPanel]:
    """Return a panel for each measure that is defined in some row."""
    field = sought(result)
    by_error, by_transfer = (alignment(result, by) or {} for by in ("fvu", field))
    name = "transfer, AUROC" if field == "transfer" else "word directions, AUROC"
    chance = PlotLevel("chance", 0.5)
    panels = (
        CurvesPanel("fvu", "fvu", is_logarithmic=True, layer=by_error.get("layer")),
        CurvesPanel("l0", "active features (l0)", is_logarithmic=True),
        CurvesPanel("norm_ratio", "norm / norm of text", is_logarithmic=True),
        CurvesPanel(field, name, level=chance, layer=by_transfer.get("layer")),
    )
    return [panel for panel in panels if is_defined(result, panel.field)]


def look(line: ConditionRows) -> dict[str, Any]:
    """Return a line's look: its condition's, with hollow markers from the second SAE on."""
    style = SMALL | LOOKS.get(line.condition.split(":")[0], UNKNOWN)
    if line.number:
        style["markerfacecolor"] = "white"
        style["linestyle"] = DASHES[(line.number - 1) % len(DASHES)]
    if line.condition != IMAGE or line.number:
        style["markeredgewidth"] = 0.8
    return style

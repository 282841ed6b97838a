"""Every head alone as a figure: maps of what each head changes, layers across and heads down."""

from __future__ import annotations

from matplotlib.figure import Figure

from kvtool.experiments.knockout.each_shown import is_sure, maps
from kvtool.reporting.plots import heatmap
from kvtool.reporting.plots.style import LINE_IN, SMALL_PT, about, new_figure, title
from kvtool.result import Result

LABELS_IN = 0.42


def draw(result: Result) -> Figure:
    """Draw a map of layers and heads for the change of the margin, and for that of accuracy."""
    layers, heads = ([row[name] for row in result.rows] for name in ("layer", "kv_head"))
    width_in = heatmap.width_for(layers)
    map_in = heatmap.height_for(heads, width_in, layers)
    figure = new_figure(width_in, 1)
    # Margin and accuracy have scales of their own.
    units = maps(result)
    panels = figure.subplots(len(units), 1, squeeze=False)[:, 0]
    for panel, (name, unit) in zip(panels, units.items(), strict=True):
        mesh = heatmap.draw(panel, result.rows, name, heatmap.norm(result.rows, name), width_in)
        panel.set(xlabel="layer")
        panel.set_title(f"{name.replace('_', ' ')}, {unit}", fontsize=SMALL_PT, loc="left")
        heatmap.color_bar(figure, mesh, [panel], name, map_in)
        # Only the margin's map is framed: the test is of the margin.
        changed = [(row["layer"], row["kv_head"]) for row in result.rows if is_sure(row)]
        heatmap.frame(panel, changed if name == result.metric else [])
    lines = title(
        figure,
        ["each head blocked alone", *about(result)[1:3], f"N = {result.n} questions"],
        ["framed: changed by Wilcoxon's test, corrected for all heads"],
    )
    panel_in = map_in + LABELS_IN + LINE_IN
    figure.set_figheight(panel_in * len(units) + LINE_IN * lines + 0.1)
    return figure

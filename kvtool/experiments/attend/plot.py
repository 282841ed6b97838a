"""Attention as a figure: maps of mass, sink share and AUROC, layers across and query heads down;
of sinks a map for each of what is known of them.
"""

from __future__ import annotations

from matplotlib.figure import Figure

from kvtool.reporting.plots import heatmap
from kvtool.reporting.plots.style import LINE_IN, SMALL_PT, about, new_figure, title
from kvtool.result import Result

LABELS_IN = 0.42
PAGE_IN = 10.0
"""The most that all maps take, one below the other."""
LABELS = {
    "mass": "mass on the picture",
    "sink_share": "share of the strongest 1 %",
    "auroc": "AUROC of the object",
    "overlap": "sinks shared by pictures",
    "value_norm_ratio": "values at sinks / others",
}


def draw(result: Result) -> Figure:
    """Draw a map for each measure, one below the other."""
    is_sinks = result.task == "sinks"
    names = ["mass", "sink_share"]
    names += ["overlap", "value_norm_ratio"] if is_sinks else []
    names += ["auroc"] if result.metric == "auroc" else []
    rows = [row | {"kv_head": row.get("q_head", row["kv_head"])} for row in result.rows]
    layers = [row["layer"] for row in rows]
    heads = [row["kv_head"] for row in rows]
    width_in = heatmap.width_for(layers)
    # All maps together are to fit one page.
    room_in = PAGE_IN / len(names) - LABELS_IN - LINE_IN
    map_in = min(heatmap.height_for(heads, width_in, layers), room_in)
    figure = new_figure(width_in, 1)
    panels = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    for panel, name in zip(panels, names, strict=True):
        mesh = heatmap.draw(panel, rows, name, heatmap.norm(rows, name), width_in)
        panel.set(xlabel="layer", ylabel="KV head" if is_sinks else "query head")
        panel.set_title(LABELS[name], fontsize=SMALL_PT, loc="left")
        mark = rows[0]["chance"] if name == "auroc" else None
        heatmap.color_bar(figure, mesh, [panel], name, map_in, mark=mark)
        agnostic = [(row["layer"], row["kv_head"]) for row in rows if row.get("input_agnostic")]
        heatmap.frame(panel, agnostic)
    noun = "pictures" if is_sinks else "texts"
    lines = title(
        figure,
        ["sinks" if is_sinks else "attention", *about(result)[1:3], f"N = {result.n} {noun}"],
        [f"from {result.config['from']}"],
    )
    panel_in = map_in + LABELS_IN + LINE_IN
    figure.set_figheight(panel_in * len(names) + LINE_IN * lines + 0.1)
    return figure

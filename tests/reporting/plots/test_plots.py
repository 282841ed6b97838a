"""What is drawn is what the result says."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle

from tests.support import results
from tests.support.drawn import drawn, title
from tests.support.result_rows import MODEL
from tests.support.result_shapes import SHAPES


def bars(axes: Axes) -> list[list[float]]:
    """[place, low, high] of every interval, upright ones."""
    lines = [c for c in axes.collections if isinstance(c, LineCollection)]
    return [[x, *sorted((y0, y1))] for c in lines for (x, y0), (_, y1) in c.get_segments()]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["probe", "32 x 8, two kinds", "some layers", "nulls", "encoder, layers"]
)
def test_curves_are_the_best_of_each_layer(name: str) -> None:
    result = SHAPES[name]
    drawing = drawn(result)
    axes = drawing.axes[0]
    lines = {str(line.get_label()): line for line in axes.lines}
    curves = 0
    intervals = bars(axes)
    for label, line in lines.items():
        kind = label.split(",")[0]
        rows = [row for row in result.per_layer if row["kind"] == kind]
        if line.get_marker() == "None":
            continue
        curves += 1
        points = [(round(x), y) for x, y in np.asarray(line.get_xydata()) if isfinite(y)]
        assert points == [(row["layer"], row[result.metric]) for row in rows]
        expected = [[row[f"{result.metric}_low"], row[f"{result.metric}_high"]] for row in rows]
        assert all(interval in [bar[1:] for bar in intervals] for interval in expected)
    assert curves == len(
        {row["kind"] for row in result.per_layer}
        - ({"projected", "vision"} if "enc" not in name else set())
    )
    flat = {
        label: np.asarray(line.get_ydata())[0]
        for label, line in lines.items()
        if line.get_marker() == "None"
    }
    beside = [row for row in result.baselines if "enc" not in name]
    assert sorted(flat.values()) == sorted(row[result.metric] for row in beside)
    assert sum("siglip" in label for label in flat) == sum(row["run"] != "r" for row in beside)
    styles = {
        (line.get_color(), line.get_marker(), str(line.get_linestyle())) for line in lines.values()
    }
    assert len(styles) == len(lines)


@pytest.mark.slow
def test_an_undefined_layer_is_a_gap() -> None:
    """The result's per_layer has a layer's best row, and none where no head is defined."""
    result = results.probe(range(8), 2)
    rows = [row for row in result.per_layer if (row["kind"], row["layer"]) != ("value", 3)]
    line = drawn(replace(result, per_layer=rows)).axes[0].lines[0]
    assert [isfinite(y) for y in np.asarray(line.get_ydata())] == [True] * 3 + [False] + [True] * 4


@pytest.mark.slow
def test_nothing_defined() -> None:
    result = results.probe(range(8), 2)
    none = {"pck_image": None, "pck_image_low": None, "pck_image_high": None}
    empty = replace(
        result, rows=[r | none for r in result.rows], per_layer=[], best=None, baselines=[]
    )
    assert "not defined for any block" in title(drawn(empty))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "words"), [
    ("28 x 8", ["semantic-correspondence", MODEL, "spair71k@test", "pck_image", "N = 200"]),
    ("probe", ["best (framed): value, layer"]),
    ("one block", ["best: value, layer 5, head 0"]),
    ("variance 28 x 4", [
        "L2 variance", "key", MODEL, "N = 1000 images", "input-agnostic (framed)",
    ]),
    ("knockout", ["pope", "N = 900", "f1", "none"]),
    ("prefix", ["referring-expression", "refcoco@val", "miou_fgbg", "N = 54"]),
    ("paired 28 x 4", ["art-style", "N = 117", "best (framed): value, layer", "p < 0.0001"]),
    ("correlate", [
        "pearson 0.93 [0.88, 0.98], p = 0.040", "spearman not defined", "N = 3 models",
        "cvbench, blink",
    ]),
    ("two models", ["expected 3 models or more, found 2"]),
])  # fmt: skip
def test_titles(name: str, words: list[str]) -> None:
    text = " ".join(title(drawn(SHAPES[name])).split())
    for word in words:
        assert word in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["knockout", "draws", "one file"])
def test_conditions_and_their_parts(name: str) -> None:
    result = SHAPES[name]
    panels = drawn(result).axes
    parts = list(dict.fromkeys(row.get("file") for row in result.rows))
    assert len(panels) == len(parts)
    conditions = list(dict.fromkeys(row["condition"] for row in result.rows))
    ticks = [text.get_text() for text in panels[0].get_yticklabels()]
    assert [text.split(",")[0] for text in ticks] == conditions
    assert ticks[1] == "chosen, 42"
    for panel, part in zip(panels, parts, strict=True):
        rows = [row for row in result.rows if row.get("file") == part]
        reference, *series = panel.lines
        assert np.asarray(reference.get_xdata())[0] == next(
            row["f1"] for row in rows if row["condition"] == "none"
        )
        points = [(round(float(y)), x) for line in series for x, y in np.asarray(line.get_xydata())]
        assert sorted(points) == sorted(
            (conditions.index(row["condition"]), row["f1"]) for row in rows
        )
        ends = [
            sorted((a[0], b[0]))
            for c in panel.collections
            if isinstance(c, LineCollection)
            for a, b in c.get_segments()
        ]
        assert sorted(ends) == sorted([row["f1_low"], row["f1_high"]] for row in rows)


@pytest.mark.slow
def test_prefix_choices_and_differences() -> None:
    result = SHAPES["prefix"]
    for panel, metric in zip(drawn(result).axes, ("miou_fgbg", "difference"), strict=True):
        _, best, fixed = panel.lines
        for line, choice in ((best, "best"), (fixed, "fixed")):
            assert list(np.asarray(line.get_xdata())) == [
                row[metric] for row in result.rows if row["choice"] == choice
            ]


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["value", "value_pck"])
def test_bars_of_the_best_block(metric: str) -> None:
    result = results.paired(8, 2, metric)
    axes = drawn(result).axes[0]
    best = result.best
    assert best is not None
    names = [metric, "model", "union", "both", "value_only", "model_only", "neither"]
    assert [p.get_width() for p in axes.patches if isinstance(p, Rectangle)] == [
        best[name] for name in names
    ]
    labels = [text.get_text() for text in axes.texts]
    assert labels == [f"{100 * best[name]:.1f}" for name in names]
    lines = [
        line for c in axes.collections if isinstance(c, LineCollection) for line in c.get_segments()
    ]
    ends = [[x0, x1] for (x0, _), (x1, _) in lines]
    assert ends == [*([best[f"{name}_low"], best[f"{name}_high"]] for name in names), [0.5, 0.5]]
    assert [text.get_text() for text in axes.get_yticklabels()][:3] == [
        "values right",
        "model right",
        "either right",
    ]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["chance: 50.0 %"]


def test_models_as_points() -> None:
    result = SHAPES["correlate"]
    drawing = drawn(result)
    axes = drawing.axes[0]
    models = [row for row in result.rows if "model" in row]
    points = dict(np.asarray(line.get_xydata()).tolist()[0] for line in axes.lines)
    assert points == {row["segmentation"]: row["accuracy"] for row in models}
    names = [text.get_text() for text in drawing.legends[0].get_texts()]
    assert names == [row["model"] for row in models]
    assert len({(line.get_marker(), line.get_color()) for line in axes.lines}) == len(models)

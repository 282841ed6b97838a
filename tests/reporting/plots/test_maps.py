"""Maps and histograms of blocks: what is drawn is what the result says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kvtool.reporting.plots.style import MARK
from kvtool.result import Result, Row, is_summary
from tests.support import results
from tests.support.drawn import drawn, title
from tests.support.result_shapes import SHAPES


def meshes(drawing: Figure) -> list[QuadMesh]:
    """The maps, without the colour bar's own."""
    collections = [
        c for axes in drawing.axes if axes.get_label() != "<colorbar>" for c in axes.collections
    ]
    return [mesh for mesh in collections if isinstance(mesh, QuadMesh)]


def framed(axes: Axes) -> set[tuple[int, int]]:
    """(layer, kv_head) of cells with a frame."""
    boxes = [
        p for p in axes.patches if isinstance(p, Rectangle) and p.get_edgecolor() == to_rgba(MARK)
    ]
    return {(round(box.get_x() + 0.5), round(box.get_y() + 0.5)) for box in boxes}


def summaries(result: Result, kind: str) -> list[Row]:
    return [row for row in result.rows if is_summary(row) and row["kind"] == kind]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["probe", "32 x 8, two kinds", "some layers", "nulls", "paired", "encoder, layers"]
)
def test_maps_hold_the_rows(name: str) -> None:
    result = SHAPES[name]
    drawing = drawn(result)
    kinds = [
        k
        for k in dict.fromkeys(row["kind"] for row in result.rows)
        if len(summaries(result, k)) > 1
    ]
    assert len(meshes(drawing)) == len(kinds) > 0
    for mesh, kind in zip(meshes(drawing), kinds, strict=True):
        rows = summaries(result, kind)
        layers, heads = [row["layer"] for row in rows], [row["kv_head"] for row in rows]
        expected = np.full((max(heads) - min(heads) + 1, max(layers) - min(layers) + 1), np.nan)
        for row in rows:
            if row[result.metric] is not None:
                expected[row["kv_head"] - min(heads), row["layer"] - min(layers)] = row[
                    result.metric
                ]
        cells = mesh.get_array()
        assert cells is not None
        np.testing.assert_array_equal(np.ma.filled(cells, np.nan), expected)
        assert result.best is not None
        best = (
            {(result.best["layer"], result.best["kv_head"])}
            if result.best["kind"] == kind
            else set()
        )
        axes = mesh.axes
        assert isinstance(axes, Axes)
        assert framed(axes) == best
        hatched = {(round(p.get_x() + 0.5), round(p.get_y() + 0.5)) for p in axes.patches
                   if isinstance(p, Rectangle) and p.get_hatch()}  # fmt: skip
        assert hatched == {
            (row["layer"], row["kv_head"]) for row in rows if row[result.metric] is None
        }
        low, high = mesh.get_clim()
        assert low is not None
        assert high is not None
        assert low <= np.nanmin(expected) <= np.nanmax(expected) <= high


@pytest.mark.slow
def test_histogram_and_cut() -> None:
    result = SHAPES["variance 28 x 4"]
    histogram, panel, *_ = drawn(result).axes
    distribution = result.config["distribution"]
    boxes = [p for p in histogram.patches if isinstance(p, Rectangle)]
    assert [box.get_height() for box in boxes] == distribution["counts"]
    assert [box.get_x() for box in boxes] == distribution["bin_edges"][:-1]
    positions = {str(line.get_label()): np.asarray(line.get_xdata())[0] for line in histogram.lines}
    assert positions["cut at 450"] == 450
    assert set(positions.values()) == {200, 900, 450}
    assert framed(panel) == {
        (row["layer"], row["kv_head"]) for row in result.rows if row["input_agnostic"]
    }
    (mesh,) = meshes(drawn(result))
    cells = mesh.get_array()
    assert cells is not None
    assert sorted(np.asarray(cells).ravel()) == sorted(row["variance"] for row in result.rows)


@pytest.mark.slow
def test_no_cut_where_there_is_one_mode() -> None:
    drawing = drawn(SHAPES["not bimodal"])
    assert [np.asarray(line.get_xdata())[0] for line in drawing.axes[0].lines] == [900]
    assert "not bimodal: density in the valley 0.80" in " ".join(title(drawing).split())
    assert "no cut" in title(drawing)
    assert not framed(drawing.axes[1])


@pytest.mark.slow
def test_variances_of_zero_and_none() -> None:
    result = results.variance(8, 2, bimodal=False)
    values = [0.0, None, *(row["variance"] for row in result.rows[2:])]
    rows = [row | {"variance": value} for row, value in zip(result.rows, values, strict=True)]
    (mesh,) = meshes(drawn(replace(result, rows=rows)))
    cells = mesh.get_array()
    assert cells is not None
    assert np.sum(np.ma.getmaskarray(cells)) == 1
    flat = {
        "bimodal": False,
        "why": "no variance at all in 16 keys",
        "modes": [],
        "bin_edges": [],
        "counts": [],
    }
    zero = replace(
        result,
        rows=[row | {"variance": 0.0} for row in result.rows],
        config=result.config | {"distribution": flat},
    )
    assert "no variance at all" in title(drawn(zero))

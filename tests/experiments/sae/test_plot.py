"""The figure of `sae`: every condition of every layer stands in the panel of its measure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import isfinite, nan
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from kvtool.errors import KvtoolError
from kvtool.experiments.sae.plot import LOOKS
from kvtool.reporting.plots import plot
from kvtool.reporting.plots.style import parameters
from kvtool.result import Result
from tests.support.drawn import drawn, title
from tests.support.sae_results import CONDITIONS, directions_result, sae_result

FIELDS = ("fvu", "l0", "norm_ratio", "transfer")


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """Figures are made under the plots' own settings."""
    with matplotlib.rc_context(parameters()):
        yield


def curve(axes: Axes, label: str) -> list[tuple[float, float]]:
    (line,) = (line for line in axes.lines if line.get_label() == label)
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata()) if isfinite(y)]


def marked_layers(axes: Axes) -> list[float]:
    """The layers at which a line goes from bottom to top."""
    ends = [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in axes.lines]
    return [float(x[0]) for x, y in ends if len(x) == 2 and x[0] == x[1] and list(y) == [0, 1]]


def legend_labels(drawing: Figure) -> list[str]:
    (legend,) = drawing.legends
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.slow
def test_a_line_for_each_condition_in_each_panel() -> None:
    result = sae_result()
    drawing = drawn(result)
    assert len(drawing.axes) == len(FIELDS)
    for axes, field in zip(drawing.axes, FIELDS, strict=True):
        for condition in CONDITIONS:
            rows = [row for row in result.rows if row["condition"] == condition]
            expected = [(row["layer"], row[field]) for row in rows if row[field] is not None]
            assert curve(axes, condition) == expected
    assert set(CONDITIONS) < set(legend_labels(drawing))
    assert "chance: 0.5" in legend_labels(drawing)


@pytest.mark.slow
def test_bands_are_the_intervals() -> None:
    result = sae_result(conditions=("text", "image"))
    transfer = drawn(result).axes[3]
    bands = [band for band in transfer.collections if isinstance(band, PolyCollection)]
    ends = np.concatenate([band.get_paths()[0].vertices for band in bands])
    for row in result.rows:
        for end in ("transfer_low", "transfer_high"):
            assert np.isclose(ends, (row["layer"], row[end])).all(axis=1).any()


@pytest.mark.slow
def test_numbers_of_a_wide_range_stand_on_a_logarithmic_axis() -> None:
    fvu, l0, _, transfer = drawn(sae_result()).axes
    assert [axes.get_yscale() for axes in (fvu, l0, transfer)] == ["log", "log", "linear"] or (
        fvu.get_yscale() == "log" and transfer.get_yscale() == "linear"
    )
    text_alone = drawn(sae_result(conditions=("text",)))
    assert text_alone.axes[0].get_yscale() == "linear"


@pytest.mark.slow
def test_the_layer_of_alignment_is_a_mark_and_in_the_title() -> None:
    drawing = drawn(sae_result())
    assert [marked_layers(axes) for axes in drawing.axes] == [[], [], [], [3]]
    assert "layer of alignment by transfer: 3 [2, 4]" in " ".join(title(drawing).split())
    unaligned = drawn(sae_result(aligned=None))
    assert [marked_layers(axes) for axes in unaligned.axes] == [[]] * 4
    words = " ".join(title(unaligned).split())
    assert "layer of alignment by transfer: none" in words
    assert "transfer of controls: 0.490 to 0.550" in words


@pytest.mark.slow
def test_what_is_not_defined_is_a_gap() -> None:
    result = sae_result(conditions=("text", "image", "random"))
    empty = {"transfer": nan, "transfer_low": None, "transfer_high": None}
    rows = [
        row | empty if (row["layer"], row["condition"]) == (4, "image") else row
        for row in result.rows
    ]
    axes = drawn(replace(result, rows=rows)).axes[3]
    assert [layer for layer, _ in curve(axes, "image")] == [0, 1, 2, 3, 5, 6, 7]


@pytest.mark.slow
def test_a_measure_that_no_row_has_has_no_panel() -> None:
    result = sae_result(conditions=("text", "image"))
    rows = [row | {"transfer": None, "norm_ratio": nan} for row in result.rows]
    labels = [axes.get_ylabel() for axes in drawn(replace(result, rows=rows)).axes]
    assert labels == ["fvu", "active features (l0)"]


def test_without_any_measure_there_is_no_figure(tmp_path: Path) -> None:
    result = sae_result(conditions=("text",))
    rows = [{name: row[name] for name in ("layer", "condition", "sae")} for row in result.rows]
    with pytest.raises(KvtoolError, match="expected a measure that is defined"):
        plot(replace(result, rows=rows), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_single_layer_shows_points_with_bars_side_by_side() -> None:
    result = sae_result(layers=[5], aligned=(5, 5, 5))
    axes = drawn(result).axes[3]
    positions = [x for condition in CONDITIONS for x, _ in curve(axes, condition)]
    assert len(set(positions)) == len(positions)
    assert all(4.5 < x < 5.5 for x in positions)
    bars = [bar for bar in axes.collections if isinstance(bar, LineCollection)]
    assert len(bars) == sum(row["transfer"] is not None for row in result.rows)


@pytest.mark.slow
def test_several_saes_of_a_layer_are_lines_of_their_own() -> None:
    result = sae_result(conditions=("text", "image"), saes=("layer_{}/16k", "layer_{}/65k"))
    axes = drawn(result).axes[0]
    for number, name in enumerate(("layer_0/16k", "layer_0/65k")):
        rows = [row for row in result.rows if row["condition"] == "image"][number::2]
        assert curve(axes, f"image, {name}") == [(row["layer"], row["fvu"]) for row in rows]
    looks = {(line.get_marker(), line.get_markerfacecolor()) for line in axes.lines}
    assert len(looks) == 4


@pytest.mark.slow
def test_several_runs_are_lines_of_their_own() -> None:
    first, second = sae_result(), sae_result()
    rows = [row | {"run": "a"} for row in first.rows]
    rows += [row | {"run": "b", "fvu": 2 * row["fvu"]} for row in second.rows]
    axes = drawn(replace(first, rows=rows)).axes[0]
    for (_, value), (_, double) in zip(
        curve(axes, "image, a"), curve(axes, "image, b"), strict=True
    ):
        assert double == pytest.approx(2 * value)


def test_word_directions_alone_are_one_panel() -> None:
    drawing = drawn(directions_result())
    (axes,) = drawing.axes
    assert axes.get_ylabel() == "word directions, AUROC"
    assert "image" in legend_labels(drawing)
    assert "layer of alignment" not in title(drawing)


def test_no_two_conditions_look_alike() -> None:
    assert set(LOOKS) == set(CONDITIONS)
    pairs = {(look["color"], look["marker"]) for look in LOOKS.values()}
    assert len(pairs) == len(LOOKS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "result", [sae_result(), sae_result(layers=range(80)), directions_result()]
)
def test_equal_results_give_equal_files(result: Result, tmp_path: Path) -> None:
    for name in ("first.svg", "second.svg"):
        plot(Result.from_json(result.to_json()), tmp_path / name)
    first, second = sorted(tmp_path.iterdir())
    assert first.read_bytes() == second.read_bytes()

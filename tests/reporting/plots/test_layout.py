"""No label is clipped or lies on another, in figures of every shape."""

from __future__ import annotations

from itertools import combinations

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from kvtool.result import Result
from tests.support.drawn import drawn
from tests.support.result_shapes import SHAPES


@pytest.mark.slow
@pytest.mark.parametrize("result", SHAPES.values(), ids=SHAPES)
def test_every_text_has_its_place(result: Result) -> None:
    drawing = drawn(result)
    width_in = drawing.get_figwidth()
    assert width_in in (3.5, 7)
    assert drawing.get_figheight() < 11
    texts = [
        text
        for text in drawing.findobj(Text)
        if isinstance(text, Text)
        and text.get_visible()
        and text.get_text().strip()
        and text not in out_of_view(drawing)
    ]
    boxes = {text: text.get_window_extent() for text in texts}
    page = drawing.bbox
    for text, box in boxes.items():
        assert float(text.get_fontsize()) >= 7
        message = f"{text.get_text()!r} at {box.extents}"
        assert box.x0 >= page.x0 - 1, message
        assert box.x1 <= page.x1 + 1, message
        assert box.y0 >= page.y0 - 1, message
        assert box.y1 <= page.y1 + 1, message
    for first, second in combinations(texts, 2):
        pair = [first.get_text(), second.get_text()]
        a, b = boxes[first], boxes[second]
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across < -2 or down < 1, pair
    for axes in drawing.axes:
        box = axes.get_window_extent()
        assert box.height > 0.15 * drawing.dpi, "panels keep their height"
        legend = axes.get_legend()
        assert legend is None or legend.get_window_extent().y0 >= box.y1, (
            "legends stand outside the data"
        )


def out_of_view(drawing: Figure) -> set[Text]:
    """Labels of ticks outside the limits, which axes keep but do not draw."""
    hidden = set()
    for axes in drawing.axes:
        for axis, bounds in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not min(bounds) <= tick.get_loc() <= max(bounds):
                    hidden |= {tick.label1, tick.label2}
    return hidden

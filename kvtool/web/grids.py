"""Grids of tokens as the modules read them."""

from __future__ import annotations

from typing import Any

from kvtool.types import GridSpan


def grid_record(span: GridSpan) -> dict[str, Any]:
    """Return a grid as JSON values."""
    return {
        "start": span.start,
        "grid": list(span.grid),
        "row_stride": span.row_stride,
        "cover": list(span.cover_xyxy_px),
    }

"""The code of docs/python.md runs, block after block."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[1] / "docs/python.md"


@pytest.mark.slow
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("pandas", "xarray"):
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 8
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)
    # What the comments of the page say of the names it made.
    table, values, run = names["table"], names["values"], names["run"]
    assert values.shape == (len(table), run.model.geometry.head_dim)
    assert 0 < len(names["left"]) < len(names["middle"]) < len(values)
    for part in run.zarr("value"):
        assert f"value {part.array.shape} uint16" in str(names["tree"])
    assert len(names["frame"]) == len(run.layers) * len(run.kv_heads)

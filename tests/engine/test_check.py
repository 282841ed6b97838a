"""An extraction proves a model on its first picture, and refuses a map that is not true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.errors import ModelError
from kvtool.models.families.mistral3 import Mistral3
from tests.support import tiny
from tests.support.datasets import picture


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    for seed in range(2):
        picture(tmp_path / "pictures" / f"{seed}.png", 96, 64, seed)
    (tmp_path / "pictures" / "0.png").write_bytes(b"no picture")
    model = tiny.mistral3(tmp_path / "model")
    dataset = f"folder:{tmp_path / 'pictures'}"
    return {"model": str(model), "dataset": dataset, "dtype": "float32", "devices": ("cpu",)}


@pytest.mark.slow
def test_a_map_that_is_not_true_is_refused(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = Mistral3.spans

    def without_marks(self: Any, image_wh_px: Any, processed: Any) -> Any:
        (tokens,), patches = spans(self, image_wh_px, processed)
        return (replace(tokens, row_stride=tokens.grid[1]),), patches

    monkeypatch.setattr(Mistral3, "spans", without_marks)
    store = tmp_path / "s.kv"
    with pytest.raises(ModelError, match=r"check of its pixel map to hold, found . of 9 cells"):
        kvtool.extract(store, **options)
    assert list(kvtool.open(store).runs()) == []
    assert len(kvtool.extract(store, check=False, **options).failed) == 1
    assert [sample.id for sample in kvtool.open(store).run().samples] == ["1.png"]


@pytest.mark.slow
def test_a_map_that_is_true_is_extracted(tmp_path: Path, options: dict[str, Any]) -> None:
    """The first picture that can be read is the one that is looked at."""
    assert len(kvtool.extract(tmp_path / "s.kv", **options).failed) == 1

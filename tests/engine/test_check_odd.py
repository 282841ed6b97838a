"""The proof on an extraction's first picture: of families of any base and of encoders alone, and on
pictures that prove nothing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kvtool
from kvtool.engine.checking import MOST_LONG, SHORT_PX, colors_like
from kvtool.errors import ModelError
from kvtool.models import check, load_model
from kvtool.models.encoder import Encoder
from kvtool.models.families.llava import Llava
from kvtool.models.pixel_maps import pixel_map
from tests.support import tiny


def noise(width: int, height: int) -> Image.Image:
    shape = (height, width, 3)
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8))


ODD = {
    "a pixel": Image.new("RGB", (1, 1), "red"),
    "a line": noise(200, 1),
    "gray": Image.new("RGB", (96, 64), (127, 127, 127)),
    "white": Image.new("RGB", (64, 64), "white"),
    "long": noise(400, 12),
}


def moved(sample: Any) -> Any:
    """Return a sample whose grids begin a token late."""
    spans, vision_spans = (
        tuple(
            replace(span, start=span.start + 1, grid=(span.grid[0] - 1, span.grid[1]))
            for span in grids
        )
        for grids in (sample.spans, sample.vision_spans)
    )
    return replace(sample, spans=spans, vision_spans=vision_spans)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "base"), [("llava_onevision", Llava), ("dinov2", Encoder)])
def test_a_map_that_is_not_true_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, base: Any
) -> None:
    noise(96, 64).save(tmp_path / "picture.png")
    model = getattr(tiny, family)(tmp_path / "model")
    prepare = base.prepare

    def late(self: Any, *arguments: Any, **options: Any) -> Any:
        item = prepare(self, *arguments, **options)
        return replace(item, sample=moved(item.sample))

    monkeypatch.setattr(base, "prepare", late)
    store = tmp_path / "s.kv"
    options: dict[str, Any] = {"model": str(model), "dataset": f"folder:{tmp_path}"}
    with pytest.raises(
        ModelError, match=r"check of its pixel map to hold, found . of . cells"
    ) as e:
        kvtool.extract(store, dtype="float32", devices=("cpu",), **options)
    assert "\n" not in str(e.value)
    assert list(kvtool.open(store).runs()) == []


@pytest.fixture(scope="module", params=["llava_onevision", "dinov2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = getattr(tiny, request.param)(tmp_path_factory.mktemp("model"))
    return load_model(str(folder), dtype="bfloat16")


@pytest.mark.slow
@pytest.mark.parametrize("view", ["base", "full"])
@pytest.mark.parametrize("name", ODD)
def test_no_picture_makes_a_true_map_be_refused(model: Any, name: str, view: Any) -> None:
    check.prove(model, ODD[name], view, substitute=colors_like(ODD[name]))


def test_a_pixel_alone_proves_nothing(model: Any) -> None:
    """So that the colors in its place are needed."""
    assert not pixel_map(model, ODD["a pixel"], "base").passed
    with pytest.raises(ModelError, match="check of its pixel map to hold"):
        check.prove(model, ODD["a pixel"], "base")


def test_colors_have_the_size_of_a_picture_within_bounds() -> None:
    sizes = {(640, 480): (640, 480), (3, 2): (480, 320), (1, 1): (320, 320)}
    sizes |= {(400, 12): (MOST_LONG * SHORT_PX, SHORT_PX), (500, 4000): (500, 2000)}
    for wh_px, expected in sizes.items():
        image = colors_like(Image.new("RGB", wh_px))
        assert isinstance(image, Image.Image)
        assert image.size == expected
    frames = colors_like([Image.new("RGB", (640, 480))] * 3)
    assert not isinstance(frames, Image.Image)
    assert [frame.size for frame in frames] == [(640, 480)] * 3


def test_features_that_are_not_finite_are_left_to_the_extraction(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names such pictures, and a run may have others."""
    capture = type(model).capture

    def spoiled(self: Any, *arguments: Any) -> Any:
        captured = capture(self, *arguments)
        for name, arrays in captured.arrays.items():
            captured.arrays[name] = [np.full(array.shape, np.nan, np.float32) for array in arrays]
        return captured

    monkeypatch.setattr(type(model), "capture", spoiled)
    outcome = pixel_map(model, noise(96, 64), "base")
    assert not outcome.passed
    assert outcome.meaning == "features are not finite"
    monkeypatch.setattr("kvtool.models.check.whole_prompt", pixel_map)
    check.prove(model, noise(96, 64), "base")

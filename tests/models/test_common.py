"""Model types without a family file: held in the common form, or refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import kvtool
from kvtool.engine.checking import colors
from kvtool.errors import ModelError, UsageError
from kvtool.models import check, load_model, loading
from kvtool.models.families import adds_features
from kvtool.models.families.common import common_family
from kvtool.models.families.common_grids import TokenGrid, cover_of, shown, token_grid
from tests.support import tiny, tiny_common
from tests.support.tiny import noise
from tests.support.tiny_common import llava_settings

# Of NumPy over transformers' own processor of GLM-4V.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
TYPES = ("glm4v", "aya_vision", "deepseek_vl", "vipllava")
CHECKS = ["pixel map", "whole prompt", "question", "batch", "continuation", "knockout"]


@pytest.fixture(scope="module", params=TYPES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a type without a file."""
    build = getattr(tiny_common, request.param)
    return Path(build(tmp_path_factory.mktemp(request.param)))


@pytest.mark.slow
def test_all_checks_hold(folder: Path) -> None:
    outcomes = kvtool.check_model(str(folder), device="cpu", dtype="float32")
    assert [outcome.row() for outcome in outcomes if not outcome.passed] == []
    assert [outcome.check for outcome in outcomes] == [*CHECKS, "tower map"]


@pytest.mark.slow
def test_an_extraction_stores_what_the_network_gives_for_pixels(
    folder: Path, tmp_path: Path
) -> None:
    """Against transformers' own forward of the pixels, without features made beforehand."""
    noise(100, 60).save(tmp_path / "a.png")
    kvtool.extract(
        tmp_path / "s.kv", model=str(folder), dataset=f"folder:{tmp_path}", dtype="float32"
    )
    run = kvtool.open(tmp_path / "s.kv").run()
    assert run.config.model.family == f"common:{model_type(folder)}"
    model: Any = load_model(str(folder), dtype="float32")
    item = model.prepare(noise(100, 60), id="a", index=0)
    ids = torch.tensor([[*item.sample.prefix_ids, *model.layout(item.sample).ids]])
    is_image = (ids == model.config.image_token_id).long()
    types = {"mm_token_type_ids": is_image} if model.has_axes else {}
    with torch.inference_mode():
        cache = model.net.model(input_ids=ids, use_cache=True, **item.tensors, **types)
    values = run.read_image("a.png")["value"]
    for layer, states in zip(values, cache.past_key_values.layers, strict=True):
        expected = states.values[0, :, item.sample.image_start :]
        np.testing.assert_allclose(layer, expected.numpy(), atol=1e-5)


def model_type(folder: Path) -> str:
    return str(json.loads((folder / "config.json").read_text())["model_type"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llava_15", "gemma3", "qwen3_vl", "internvl"])
def test_with_its_file_taken_away_a_family_is_the_same(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = getattr(tiny, name)(tmp_path)
    if name == "llava_15":
        (folder / "processor_config.json").write_text(json.dumps(llava_settings(8)))
    reference: Any = load_model(str(folder), dtype="float32")
    monkeypatch.setattr(loading, "family_class", common_family)
    common: Any = load_model(str(folder), dtype="float32")
    assert type(common).__name__.startswith("Common")
    for wh_px in ((150, 100), (40, 120)):
        items = [
            m.prepare(noise(*wh_px), id="a", index=0, prefix="a cat") for m in (reference, common)
        ]
        assert items[0].sample == items[1].sample
        ours, theirs = (
            m.capture([item], m.request(None, None))
            for m, item in zip((reference, common), items, strict=True)
        )
        for kind, arrays in ours.arrays.items():
            assert arrays[0].tobytes() == theirs.arrays[kind][0].tobytes()


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ovis2", "expected features alone of a picture, found visual_indicator_features besides"),
        ("idefics2", "replace_image_token.*found Idefics2Processor.*needs a family file"),
    ],
)
def test_what_is_missing_is_said_in_one_line(tmp_path: Path, name: str, message: str) -> None:
    folder = getattr(tiny_common, name)(tmp_path)
    with pytest.raises(ModelError, match=message) as raised:
        load_model(str(folder), dtype="float32")
    assert "\n" not in str(raised.value)


def test_an_image_processor_of_torchvision_alone_is_named(tmp_path: Path) -> None:
    folder = tiny_common.vipllava(tmp_path)
    for path, changes in (
        ("config.json", {"model_type": "perception_lm"}),
        ("preprocessor_config.json", {"image_processor_type": "PerceptionLMImageProcessor"}),
    ):
        settings = json.loads((folder / path).read_text())
        (folder / path).write_text(json.dumps(settings | changes))
    with pytest.raises(ModelError, match=r"needs no torchvision, found PerceptionLMImage.*install"):
        load_model(str(folder))


def test_a_picture_that_sees_the_text_after_it_is_refused_as_before(tmp_path: Path) -> None:
    folder = tiny_common.vipllava(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "paligemma"}))
    with pytest.raises(ModelError, match="depends on nothing after it, found 'paligemma'"):
        load_model(str(folder))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_model(str(tiny_common.glm4v(tmp_path_factory.mktemp("glm"))), dtype="float32")


@pytest.mark.slow
def test_a_tower_whose_patches_lie_elsewhere_is_refused_where_it_is_stored(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches = type(model).patches
    monkeypatch.setattr(type(model), "patches", lambda *given: patches(*given).flip(1))
    with pytest.raises(ModelError, match=r"its tower map to hold.*--kinds key,value,projected"):
        check.prove(model, colors(), "base", ("key", "vision"))
    check.prove(model, colors(), "base", ("key", "value"))


@pytest.mark.slow
def test_a_map_that_is_not_true_is_refused(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = type(model).spans

    def turned(self: Any, *given: Any) -> Any:
        (tokens,), patches = spans(self, *given)
        grid = tokens.grid[::-1]
        return (replace(tokens, grid=grid, row_stride=grid[1]),), patches

    monkeypatch.setattr(type(model), "spans", turned)
    with pytest.raises(ModelError, match="its pixel map to hold"):
        check.prove(model, colors(), "base")


@pytest.mark.slow
def test_images_that_see_each_other_are_asked_about_one_by_one(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [model.prepare(noise(40, 40, i), id=str(i), index=i) for i in range(2)]
    assert len(model.ask_several([items], ["is there a cat"], 1)) == 1
    monkeypatch.setattr(type(model), "model_type", "molmo2")
    assert len(model.ask_several([items[:1]], ["is there a cat"], 1)) == 1
    with pytest.raises(UsageError, match="found several of a molmo2, whose images see each other"):
        model.ask_several([items], ["is there a cat"])


def test_a_type_without_a_file_may_add_features_later(model: Any) -> None:
    assert adds_features(model.info.family)
    assert not adds_features("llava")


@pytest.mark.parametrize(
    ("runs", "sides", "expected"),
    [
        ([(0, 12)], (6, 8), TokenGrid(0, 3, 4, 4)),
        ([(0, 13)], (3, 4), TokenGrid(1, 3, 4, 4)),
        ([(0, 15)], (3, 4), TokenGrid(0, 3, 4, 5)),
        ([(0, 4), (5, 4), (10, 4)], (6, 8), TokenGrid(0, 3, 4, 5)),
        ([(0, 6)], (5, 7), TokenGrid(0, 2, 3, 3)),
    ],
    ids=["merged", "class token", "newline placeholders", "marks", "rounded down"],
)
def test_grids_follow_from_tokens_and_sides(
    runs: list[tuple[int, int]], sides: tuple[int, int], expected: TokenGrid
) -> None:
    assert token_grid(runs, *sides) == expected


@pytest.mark.parametrize("runs", [[(0, 11)], [(0, 3), (4, 2)], [(0, 3), (4, 3), (9, 3)]])
def test_other_numbers_of_tokens_are_no_grid(runs: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="expected"):
        token_grid(runs, 6, 8)


def test_ramps_show_what_a_tower_sees() -> None:
    """Squeezed, cut from a place that no form names, and padded."""

    def pixels(image: Image.Image, box: tuple[int, int, int, int]) -> torch.Tensor:
        part = image.crop(box).resize((32, 32))
        return torch.tensor(np.asarray(part).transpose(2, 0, 1))[None] / 127.5 - 1

    squeezed, cut, padded = (0, 0, 120, 80), (12, 40, 60, 72), (0, -20, 120, 100)
    for box in (squeezed, cut, padded):
        edges = shown(lambda image, box=box: pixels(image, box), (120, 80))  # type: ignore[misc]
        np.testing.assert_allclose(edges, box, atol=2)
        assert cover_of(edges, (120, 80), [cut]) == box

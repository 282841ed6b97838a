"""Runs whose layers differ in heads and dimensions, or have no keys and values."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.errors import CorruptError, UsageError
from kvtool.geometry import Geometry
from kvtool.store import Run, RunConfig, open_store
from kvtool.store.verify import verify
from kvtool.types import Sample
from tests.support.runs import (
    GEOMETRY,
    MODEL,
    assert_holds,
    assert_same_bits,
    commit,
    config,
    image_arrays,
    new_run,
    ragged,
    random_bits,
)

UNLIKE = replace(
    GEOMETRY,
    layers=5,
    kv_heads=2,
    head_dim=16,
    by_layer=((2, 8), (1, 16), (0, 0), (2, 8), (0, 0)),
    recurrent=(2,),
)
KINDS = ("key", "value", "projected", "vision", "hidden")


def unlike(geometry: Geometry = UNLIKE, **changes: Any) -> RunConfig:
    """Layers of two shapes, one of linear attention and one that reads another's."""
    model = replace(MODEL, geometry=geometry)
    return config(**{"model": model, "layers": (0, 1, 2, 3, 4), "kinds": KINDS} | changes)


@pytest.fixture
def images() -> list[Sample]:
    return [ragged(index) for index in range(5)]


@pytest.fixture
def run(tmp_path: Path, images: list[Sample]) -> Run:
    run = new_run(tmp_path, **{"model": unlike().model, "layers": (0, 1, 2, 3, 4), "kinds": KINDS})
    commit(run, images[:3])
    commit(run, images[3:])
    return open_store(run.store).run(run.name)


def test_each_shape_is_an_array(run: Run, images: list[Sample]) -> None:
    assert_holds(run, images)
    names = {"key_2x8", "key_1x16", "value_2x8", "value_1x16", "projected", "vision", "hidden"}
    texts = {f"text_{name}" for name in names if name.startswith(("key", "value"))}
    assert set(run.config.array_names()) == names | texts
    assert run.config.stored_layers("key") == (0, 1, 3)
    assert run.config.stored_layers("key_2x8") == (0, 3)
    assert run.config.stored_layers("hidden") == run.layers == (0, 1, 2, 3, 4)
    assert [list(run.heads(layer)) for layer in run.layers] == [[0, 1], [0], [], [0, 1], []]
    assert list(verify(open_store(run.store))) == []
    assert "2 of 8 dims in layers 0, 3; 1 of 16 dims in layer 1; none in layers 2, 4" in repr(run)


@pytest.mark.parametrize(("layer", "head"), [(0, 1), (1, 0), (3, 0)])
def test_blocks_are_those_of_each_image(
    run: Run, images: list[Sample], layer: int, head: int
) -> None:
    array = run.config.array_at("key", layer)
    row = array.layers.index(layer)
    expected = [image_arrays(run.config, image)[array.name][row, head] for image in images]
    values = run.read("key", layer, head, raw=True).values
    assert_same_bits(values, np.concatenate(expected))
    layers = run.read("key", [3, 0], 1, raw=True).values
    assert_same_bits(layers[1], run.read("key", 0, 1, raw=True).values)


def test_a_stream_has_each_layers_own_heads(run: Run) -> None:
    shapes = {layer: part.values.shape[::2] for layer, part in run.stream("value")}
    assert shapes == {0: (2, 8), 1: (1, 16), 3: (2, 8)}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            ("key", 2),
            "layer 2 is of linear attention and .* expected one of 0, 1, 3",
        ),
        (("value", 4), "layer 4 reads those of another and .* expected one of 0, 1, 3"),
        (("key", 9), "layer 9 of key is not stored, only 0, 1, 3"),
        (("key", [0, 1]), r"found 8 \(layer 0\), 16 \(layer 1\); read them apart"),
        (("key", 1, 1), "key has no kv_head 1 in layer 1: expected 0 to 0"),
    ],
)
def test_what_a_layer_lacks_is_told(run: Run, request_: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run.read(*request_)


def test_texts_are_stored_in_arrays_of_their_shapes(run: Run) -> None:
    rng = np.random.default_rng(0)
    dtype = np.dtype(np.uint16)
    vectors = {
        "value_2x8": random_bits(rng, (3, 2, 2, 8), dtype),
        "value_1x16": random_bits(rng, (3, 1, 1, 16), dtype),
    }
    run.commit_text(["cat", "dog", "bird"], vectors)
    assert_same_bits(
        run.text_values(3, 1, raw=True), np.ascontiguousarray(vectors["value_2x8"][:, 1, 1])
    )
    assert run.text_values(1, 0).shape == (3, 16)
    with pytest.raises(UsageError, match="no texts for layer 2"):
        run.text_values(2, 0)
    # A run of fewer layers has one shape, and other names.
    part = run.texts().vectors_for(unlike(layers=(1,), kinds=("value",)), ["dog", "cat"])
    assert part is not None
    assert_same_bits(part["value"], np.ascontiguousarray(vectors["value_1x16"][[1, 0]]))


def test_dimensions_of_a_part_have_one_size_each(run: Run) -> None:
    (part, *_) = run.parts()
    import zarr

    sizes: dict[str, set[int]] = {}
    for name in part.arrays:
        array: Any = zarr.open_array(part.folder / name, mode="r")
        for dimension, size in zip(array.metadata.dimension_names, array.shape, strict=True):
            sizes.setdefault(str(dimension), set()).add(size)
    assert [name for name, lengths in sizes.items() if len(lengths) > 1] == []


def test_runs_of_like_layers_are_what_they_were() -> None:
    record = config().to_json()["model"]["geometry"]
    assert set(record) == {
        *("layers", "q_heads", "kv_heads", "head_dim", "hidden", "vision_layers", "vision_dim"),
    }
    assert config().array_names()[:2] == ["key", "value"]
    assert RunConfig.from_json(json.loads(json.dumps(unlike().to_json()))) == unlike()
    assert unlike().hash != unlike(replace(UNLIKE, recurrent=(4,))).hash
    # Chosen layers of one shape have the plain names.
    assert unlike(layers=(0, 2, 3)).array_names()[:2] == ["key", "value"]


def test_shapes_of_other_layers_than_there_are_is_damage(tmp_path: Path) -> None:
    broken = replace(UNLIKE, by_layer=UNLIKE.by_layer[:3])
    with pytest.raises(CorruptError, match="expected shapes of 5 layers, found 3"):
        new_run(tmp_path, model=replace(MODEL, geometry=broken), layers=(0, 1))

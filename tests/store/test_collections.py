"""A store is a collection of runs, and a run one of images; several layers and heads are read at
once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.errors import UsageError
from kvtool.store import Run, open_store
from tests.support.runs import (
    assert_same_bits,
    commit,
    config,
    create_run,
    new_run,
    new_store,
    ragged,
)

IMAGES = [ragged(index) for index in range(6)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = new_run(tmp_path)
    commit(run, IMAGES[:4])
    commit(run, IMAGES[4:])
    return run


def test_a_store_holds_runs_by_name(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    assert (len(store), list(store), bool(store)) == (0, [], True)
    for name in ("b", "a"):
        create_run(store, config(name=name, view="full" if name == "b" else "base"))
    assert (len(store), list(store)) == (2, ["a", "b"])
    assert "a" in store
    assert "c" not in store
    assert store["b"] == store.run("b")
    with pytest.raises(UsageError, match="no run 'c'; it has: a, b"):
        store["c"]


def test_a_run_holds_images_by_id(run: Run) -> None:
    assert len(run) == 6
    assert list(run) == run.ids == [image.id for image in IMAGES]
    assert "image5" in run
    assert "image6" not in run
    assert run["image5"] == run.image("image5")
    with pytest.raises(UsageError, match="no image 'image6' among the 6 stored"):
        run["image6"]
    empty = create_run(open_store(run.store), config(name="empty", view="full"))
    assert (len(empty), list(empty), bool(empty)) == (0, [], True)


def test_a_run_says_what_it_is_of(run: Run) -> None:
    assert (run.model, run.dataset) == (run.config.model, "folder")
    assert (run.layers, list(run.kv_heads)) == ((1, 3), [0, 1])
    assert run.kinds == ("key", "value", "projected", "vision")


def test_an_image_gives_its_tokens(run: Run) -> None:
    image = run["image4"]
    assert (image.id, image.grid, image.wh_px, len(image)) == ("image4", (1, 7), (20, 10), 7)
    arrays = run.read_image("image4")
    for kind, layer, head in (("value", 3, 1), ("key", 1, 0), ("vision", 2, 0)):
        stored = run.config.stored_layers(kind).index(layer)
        vectors = image.read(kind, layer, head)  # type: ignore[arg-type]
        assert_same_bits(vectors, arrays[kind][stored, head])
    assert_same_bits(image.read("key", [1, 3], [0, 1]), arrays["key"])
    assert_same_bits(image.read("value", 1, cols=[2]), arrays["value"][0, 0, 2:3])
    assert len(image.tokens(cols=[2, 0])) == 2
    assert set(image.tokens()["image"]) == {"image4"}


@pytest.mark.parametrize(
    ("layer", "head", "shape"),
    [
        (1, 0, ()),
        ([1], 0, (1,)),
        (1, [1, 0], (2,)),
        ((3, 1), 1, (2,)),
        ([3, 1, 3], range(2), (3, 2)),
        (np.int64(3), np.int64(1), ()),
        (np.array([3, 1]), 0, (2,)),
        ([], 0, (0,)),
        (1, [], (0,)),
    ],
    ids=str,
)
@pytest.mark.parametrize("ids", [None, ["image5", "image0"]])
def test_several_layers_and_heads_are_the_single_ones_stacked(
    run: Run, layer: Any, head: Any, shape: tuple[int, ...], ids: list[str] | None
) -> None:
    block = run.read("value", layer, head, ids, raw=True)
    n_tokens = block.offsets[-1]
    singles = [
        run.read("value", one_layer, one_head, ids, raw=True).values
        for one_layer in np.atleast_1d(layer).astype(int).tolist()
        for one_head in np.atleast_1d(head).astype(int).tolist()
    ]
    expected = np.array(singles, np.uint16).reshape(*shape, n_tokens, 8)
    assert_same_bits(block.values, expected)
    values, images = block
    assert values is block.values
    assert [image.stop for image in images] == block.offsets[1:].tolist()


@pytest.mark.parametrize(
    ("layer", "head", "message"),
    [([1, 2], 0, "layer 2 of value is not stored"), (1, [0, 2], "no kv_head 2: expected 0 to 1")],
)
def test_one_block_that_is_not_stored_is_named(
    run: Run, layer: Any, head: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run.read("value", layer, head)

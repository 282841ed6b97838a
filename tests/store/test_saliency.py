"""Saliency in the store: one number a patch, beside what every run holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvtool.errors import CorruptError, UsageError
from kvtool.store import RunConfig, estimate, open_store
from kvtool.store.verify import verify
from kvtool.types import KINDS, Kind
from tests.support.runs import (
    assert_holds,
    assert_same_bits,
    commit,
    config,
    image_arrays,
    new_run,
    ragged,
)

HASHES = {KINDS: "ec58ba9c70485cbb", ("vision",): "6f20624ed109f636"}
"""Of runs of these kinds, as they were before there was any saliency."""
IMAGES = [ragged(index) for index in range(5)]


@pytest.mark.parametrize("kinds", HASHES)
def test_runs_without_it_keep_their_hash(kinds: tuple[Kind, ...]) -> None:
    run = config(kinds=kinds, layers=() if kinds == ("vision",) else (1, 3))
    assert run.hash == HASHES[kinds]
    with_saliency = replace(run, kinds=(*kinds, "saliency"))
    assert with_saliency.hash != run.hash
    assert RunConfig.from_json(with_saliency.to_json()) == with_saliency
    assert with_saliency.vector_kinds == list(kinds)


def test_its_layer_is_the_last_one_that_is_run() -> None:
    before_decoder = config(kinds=(*KINDS, "saliency"), vision_layers=(1, 0))
    assert before_decoder.stored_layers("saliency") == (1,)
    geometry = replace(before_decoder.model.geometry, layers=0)
    encoder = replace(before_decoder, model=replace(before_decoder.model, geometry=geometry))
    assert encoder.stored_layers("saliency") == (2,)
    assert encoder.heads_and_dim("saliency") == (1, 1)


@pytest.mark.parametrize("codec", ["lz4", "none"])
def test_it_is_read_as_it_was_written(tmp_path: Path, codec: Any) -> None:
    run = new_run(tmp_path, kinds=(*KINDS, "saliency"), codec=codec)
    commit(run, IMAGES[:3])
    commit(run, IMAGES[3:])
    run.refresh()
    assert_holds(run, IMAGES)
    assert verify(open_store(run.store)) == []
    block = run.read("saliency", 2, raw=True)
    assert block.values.shape == (sum(image.n_vision_tokens for image in IMAGES), 1)
    start, stop = block.offsets[2:4]
    assert_same_bits(
        block.values[start:stop], image_arrays(run.config, IMAGES[2])["saliency"][0, 0]
    )
    table = run.tokens(kind="saliency")
    assert len(table) == len(run.tokens(kind="vision")) == len(block.values)
    with pytest.raises(UsageError, match="layer 1 of saliency is not stored, only 2"):
        run.read("saliency", 1)
    expected = sum(values.nbytes for values in image_arrays(run.config, IMAGES[1]).values())
    assert estimate.sample_bytes(IMAGES[1], run.config.model, run.config) == expected


def test_its_damage_is_seen(tmp_path: Path) -> None:
    run = new_run(tmp_path, kinds=("vision", "saliency"), layers=())
    commit(run, IMAGES)
    (path,) = Path(run.store).glob("runs/*/parts/*/saliency/c.*")
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    assert any("saliency" in str(problem) for problem in verify(open_store(run.store)))
    with pytest.raises(CorruptError, match="array saliency"):
        run.read("saliency", 2)
    assert len(run.read("vision", 2).values) > 0


def test_xarray_gives_it_the_patches_of_vision(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    run = new_run(tmp_path, kinds=(*KINDS, "saliency"))
    commit(run, IMAGES)
    (part,) = Path(run.store).glob("runs/*/parts/*-*")
    with xarray.open_zarr(part, consolidated=False) as dataset:
        saliency = dataset["saliency"]
        assert saliency.dims == ("saliency_layer", "saliency_head", "vision_token", "saliency_dim")
        assert saliency.sizes["vision_token"] == dataset["vision"].sizes["vision_token"]

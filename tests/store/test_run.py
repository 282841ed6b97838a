"""Reading a run back: blocks, streams, images, texts; and committing to it."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.errors import CorruptError, StoreError, UsageError
from kvtool.store import Run, bits_to_float32, open_store
from kvtool.store.encoding import Bits
from kvtool.types import Sample
from tests.support.runs import (
    assert_holds,
    assert_same_bits,
    commit,
    image_arrays,
    new_run,
    new_store,
    ragged,
    random_bits,
)


def reopened(run: Run) -> Run:
    return open_store(run.store).run(run.name)


def expected_block(run: Run, images: list[Sample], kind: str, layer: int, head: int) -> Bits:
    """The slow way: one image's array after the other."""
    stored = run.config.stored_layers(kind).index(layer)
    return np.concatenate([image_arrays(run.config, image)[kind][stored, head] for image in images])


@pytest.fixture
def images() -> list[Sample]:
    return [ragged(index) for index in range(10)]


@pytest.fixture
def run(tmp_path: Path, images: list[Sample]) -> Run:
    """Ten images of differing lengths in parts of 4, 4 and 2, the last part committed first."""
    run = new_run(tmp_path)
    for part in (images[8:], images[:4], images[4:8]):
        assert commit(run, part) > 0
    return reopened(run)


def test_it_holds_what_was_committed_by_dataset_index(run: Run, images: list[Sample]) -> None:
    assert_holds(run, images)
    assert run.ids == [image.id for image in images]
    assert run.covered_indices() == set(range(10))


@pytest.mark.parametrize(
    ("kind", "layer", "head"),
    [("key", 1, 0), ("value", 3, 1), ("projected", 0, 0), ("vision", 2, 0)],
)
def test_a_block_over_all_images(
    run: Run, images: list[Sample], kind: Any, layer: int, head: int
) -> None:
    block = run.read(kind, layer, head, raw=True)
    assert_same_bits(block.values, expected_block(run, images, kind, layer, head))
    assert block.samples == tuple(images)
    for image in block.images:
        expected = expected_block(run, [image.sample], kind, layer, head)
        assert_same_bits(block.values[image.start : image.stop], expected)
    assert block.offsets.tolist() == [0, *(image.stop for image in block.images)]


def test_a_block_unpacks_into_values_and_images(run: Run, images: list[Sample]) -> None:
    values, entries = run.read("key", 1, 0)
    assert [(image.id, image.grid) for image in entries] == [
        (image.id, image.base().grid) for image in images
    ]
    assert len(values) == entries[-1].stop


def test_float32_has_the_same_bits_above(run: Run) -> None:
    raw, values = run.read("key", 3, 1, raw=True).values, run.read("key", 3, 1).values
    assert values.dtype == np.float32
    assert_same_bits(values, bits_to_float32(raw))


def test_chosen_images_come_in_the_asked_order(run: Run, images: list[Sample]) -> None:
    picks = [images[9], images[2], images[3], images[2]]
    block = run.read("value", 1, 1, ids=[image.id for image in picks], raw=True)
    assert_same_bits(block.values, expected_block(run, picks, "value", 1, 1))
    assert block.samples == tuple(picks)
    assert len(run.read("value", 1, 1, ids=[]).values) == 0


def test_a_stream_goes_layer_by_layer_and_part_by_part(run: Run, images: list[Sample]) -> None:
    pieces = list(run.stream("value", raw=True))
    parts = [images[:4], images[4:8], images[8:]]
    assert [(layer, list(part.samples)) for layer, part in pieces] == [
        (layer, part) for layer in (1, 3) for part in parts
    ]
    for layer, part in pieces:
        for head in range(2):
            assert_same_bits(
                part.values[head], expected_block(run, list(part.samples), "value", layer, head)
            )
        assert part.offsets[-1] == part.values.shape[1]


def test_a_stream_of_chosen_layers_and_images(run: Run, images: list[Sample]) -> None:
    pieces = list(run.stream("key", layers=[3], ids=[images[9].id, images[2].id, images[0].id]))
    assert [(layer, list(part.samples)) for layer, part in pieces] == [
        (3, [images[0], images[2]]),
        (3, [images[9]]),
    ]
    block = run.read("key", 3, 1, ids=[images[0].id, images[2].id])
    assert_same_bits(pieces[0][1].values[1], block.values)


def test_one_image_with_the_text_before_it(run: Run, images: list[Sample]) -> None:
    arrays = run.read_image(images[5].id, raw=True)
    for name, values in image_arrays(run.config, images[5]).items():
        assert_same_bits(arrays[name], values)
    assert set(run.read_image(images[5].id, kinds=["value"])) == {"value", "text_value"}
    assert run.read_image(images[5].id)["key"].dtype == np.float32


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda run: run.read("key", 2, 0), "run tiny: layer 2 of key is not stored, only 1, 3"),
        (lambda run: run.read("key", 1, 2), "run tiny: key has no kv_head 2: expected 0 to 1"),
        (lambda run: run.read("key", 1, -1), "run tiny: key has no kv_head -1"),
        (
            lambda run: run.read("color", 1, 0),
            "run tiny: color is not stored, only key, value, projected, vision",
        ),
        (
            lambda run: run.read("key", 1, 0, ids=["x"]),
            "run tiny: no image 'x' among the 10 stored",
        ),
        (lambda run: run.read_image("x"), "run tiny: no image 'x'"),
        (lambda run: list(run.stream("key", [9])), "layer 9 of key is not stored"),
        (lambda run: run.text_values(2, 0), "run tiny: no texts for layer 2"),
        (lambda run: run.claim("../x"), "claim '../x': expected a letter"),
    ],
)
def test_asking_for_what_is_not_there_says_what_is(run: Run, ask: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        ask(run)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stretch_of_a_run_opens_its_own_parts_only(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    open_part = Run.open_part

    def noted(self: Run, group: str, name: str) -> Any:
        opened.append(name)
        return open_part(self, group, name)

    monkeypatch.setattr(Run, "open_part", noted)
    assert run.covered_indices(range(3, 5)) == {3, 4}
    assert opened == ["0000000-0000004", "0000004-0000008"]
    assert run.covered_indices(range(9, 20)) == {9}
    assert run.covered_indices(range(20, 30)) == set()
    assert len(opened) == 3


def test_a_reader_keeps_its_images_until_it_looks_again(run: Run) -> None:
    assert len(run.samples) == 10
    commit(reopened(run), [ragged(10)])
    assert run.covered_indices() == set(range(11))
    assert len(run.read("key", 1, 0).samples) == 10
    run.refresh()
    assert len(run.read("key", 1, 0).samples) == 11


def test_a_run_without_images_reads_as_empty(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    assert run.samples == []
    assert run.read("key", 1, 0).values.shape == (0, 8)
    assert list(run.stream("key")) == []


def test_a_late_image_takes_its_place_in_the_order(tmp_path: Path) -> None:
    """Image 1 failed at first; its own part comes later."""
    run = new_run(tmp_path)
    commit(run, [ragged(0), ragged(2), ragged(3)], "0000000-0000004")
    commit(run, [ragged(1)])
    images = [ragged(index) for index in range(4)]
    assert_holds(run, images)
    assert_same_bits(
        run.read("value", 3, 0, raw=True).values, expected_block(run, images, "value", 3, 0)
    )


def test_images_another_writer_committed_meanwhile_are_left_out(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    images = [ragged(index) for index in range(6)]
    commit(run, images[:3])
    assert commit(run, images[1:3], "0000000-0000004") == 0
    assert commit(run, images) > 0
    assert [part.name for part in run.parts()] == ["0000000-0000003", "0000003-0000006"]
    assert_holds(run, images)


def test_texts_are_stored_once_and_in_order(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    values = random_bits(np.random.default_rng(0), (5, 2, 2, 8), np.dtype("<u2"))
    assert run.text_names == []
    assert run.text_values(1, 0).shape == (0, 8)
    run.commit_text(["cat", "dog", "red cat"], values[:3])
    run.commit_text(["dog", "the cow", "cat", "é"], values[[1, 3, 0, 4]])
    run.commit_text(["dog"], values[1:2])
    assert reopened(run).text_names == ["cat", "dog", "red cat", "the cow", "é"]
    for stored, layer in enumerate((1, 3)):
        for head in range(2):
            assert_same_bits(
                run.text_values(layer, head, raw=True),
                np.ascontiguousarray(values[:, stored, head]),
            )
    assert_same_bits(run.text_values(3, 1), bits_to_float32(values[:, 1, 1]))


def test_many_texts_in_one_go(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    names = [f"expression {number}" for number in range(1000)]
    values = random_bits(np.random.default_rng(0), (1000, 2, 2, 8), np.dtype("<u2"))
    run.commit_text(names, values)
    assert run.text_names == names
    assert_same_bits(run.text_values(3, 0, raw=True), np.ascontiguousarray(values[:, 1, 0]))


def test_a_missing_array_is_corrupt_not_empty(run: Run) -> None:
    part = run.parts()[0]
    for shard in (part.folder / "value").iterdir():
        shard.unlink()
    with pytest.raises(
        CorruptError,
        match=r"run tiny, part 0000000-0000004, array value: file c\.0\.0\.0\.0 is missing",
    ):
        reopened(run).read("value", 1, 0)


@pytest.mark.parametrize("call", ["open", "preadv"])
def test_a_disk_that_cannot_be_read_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    assert run.samples

    def broken(*_: Any) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, broken)
    with pytest.raises(StoreError) as caught:
        run.read("value", 1, 0)
    assert str(caught.value).startswith(
        "run tiny, part 0000000-0000004, array value: file c.0.0.0.0: cannot be read: "
    )


def test_a_part_without_its_own_file_is_corrupt(run: Run) -> None:
    (run.folder / "parts" / "0000004-0000008" / "zarr.json").unlink()
    with pytest.raises(
        CorruptError, match=r"run tiny, part 0000004-0000008: .*zarr\.json is missing"
    ):
        _ = reopened(run).samples


def test_info_counts_what_is_there(run: Run) -> None:
    info = run.info()
    on_disk = sum(path.stat().st_size for path in run.folder.rglob("c.*"))
    assert (info["images"], info["images_total"], info["parts"], info["bytes"]) == (
        10,
        10,
        3,
        on_disk,
    )
    store = new_store(run.store.parent)
    assert (store.info()["images"], store.count_parts()) == (10, 3)

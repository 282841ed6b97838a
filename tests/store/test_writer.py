"""Committing parts: what is refused, what a full disk leaves, what is overlapped."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvtool.errors import SpaceError, StoreError
from kvtool.store import Run, Store, durable, writer
from kvtool.store.verify import verify
from kvtool.types import Sample
from tests.support.runs import assert_holds, commit, config, image_arrays, new_run, ragged, sample


def everything(run: Run) -> list[str]:
    return sorted(str(path.relative_to(run.store)) for path in run.store.rglob("*"))


def arrays_of(run: Run, n_images: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    images = [image_arrays(run.config, sample(index)) for index in range(n_images)]
    joined = {name: np.concatenate([image[name] for image in images], axis=2) for name in images[0]}
    text = {kind: joined.pop(f"text_{kind}") for kind in ("key", "value")}
    return joined, text


def test_joined_arrays_and_one_an_image_write_the_same_bytes(tmp_path: Path) -> None:
    joined, separate = new_run(tmp_path / "one"), new_run(tmp_path / "other")
    images = [sample(index) for index in range(3)]
    arrays, text = arrays_of(joined, 3)
    joined.commit_part("0000000-0000003", images, arrays, text)
    commit(separate, images)
    assert everything(joined) == everything(separate)
    for path in everything(joined):
        if (joined.store / path).is_file():
            assert (joined.store / path).read_bytes() == (separate.store / path).read_bytes()


def test_arrays_that_are_no_contiguous_memory_are_fine(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    arrays, text = arrays_of(run)
    strided = {name: np.asfortranarray(values) for name, values in arrays.items()}
    run.commit_part("0000000-0000001", [sample(0)], strided, text)
    assert_holds(run, [sample(0)])


def test_a_run_without_text_before_the_image_needs_no_text_arrays(tmp_path: Path) -> None:
    run = new_run(tmp_path, kinds=("value",))
    image = sample(0, n_prefix=0)
    assert run.commit_part(
        "0000000-0000001", [image], {"value": image_arrays(run.config, image)["value"]}
    )
    assert run.read_image(image.id)["text_value"].shape == (2, 2, 0, 8)


def changed(name: str, values: Any) -> Any:
    return lambda arrays: {**arrays, name: values(arrays[name])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            changed("key", lambda a: a[:1]),
            r"array key: expected uint16 of shape (2, 2, 6, 8), found uint16 of shape (1",
        ),
        (
            changed("key", lambda a: a[..., :4]),
            r"array key: expected uint16 of shape (2, 2, 6, 8), found",
        ),
        (
            changed("value", lambda a: a[0]),
            r"array value: expected uint16 of shape (2, 2, 6, 8), found",
        ),
        (
            changed("vision", lambda a: a.astype(np.float32)),
            r"array vision: expected uint16 of shape (1, 1, 4, 6), found float32",
        ),
        (
            changed("value", lambda a: a[:, :, :5]),
            r"array value: expected 6 tokens in all, found 5",
        ),
        (
            lambda arrays: {"key": arrays["key"]},
            r"expected arrays ['key', 'projected', 'text_key', ",
        ),
        (lambda arrays: {**arrays, "color": arrays["key"]}, r"found ['color', "),
    ],
)
def test_arrays_that_are_not_the_runs_are_refused(
    tmp_path: Path, change: Any, message: str
) -> None:
    run = new_run(tmp_path)
    arrays, text = arrays_of(run)
    before = everything(run)
    with pytest.raises(StoreError) as caught:
        run.commit_part("0000000-0000001", [sample(0)], change(arrays), text)
    assert message in str(caught.value)
    assert str(caught.value).startswith("run tiny, part 0000000-0000001")
    assert everything(run) == before


@pytest.mark.parametrize(
    ("name", "indices"),
    [
        ("part", [0]),
        ("0000002-0000002", [2]),
        ("0000000-0000002", [1, 0]),
        ("0000000-0000002", [0, 2]),
        ("0000001-0000002", [0]),
        ("0000000-0000002", []),
    ],
)
def test_images_that_do_not_fit_the_parts_name_are_refused(
    tmp_path: Path, name: str, indices: list[int]
) -> None:
    run = new_run(tmp_path)
    with pytest.raises(StoreError, match=f"run tiny, part {name}: expected"):
        run.commit_part(name, [sample(index) for index in indices], {})


def test_the_same_id_twice_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    run = new_run(tmp_path)
    with pytest.raises(StoreError, match="same id twice"):
        run.commit_part("0000000-0000002", [sample(0), replace(sample(1), id="image0")], {})


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("at_write", [0, 3, 8])
def test_a_write_that_fails_is_one_line_and_leaves_a_clean_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, at_write: int
) -> None:
    run = new_run(tmp_path)
    commit(run, [ragged(0)])
    before, writes = everything(run), 0
    real_write = os.write

    def failing(fd: int, data: Any) -> int:
        nonlocal writes
        writes += 1
        if writes > at_write:
            raise OSError(number, os.strerror(number))
        return real_write(fd, data)

    monkeypatch.setattr(os, "write", failing)
    with pytest.raises(StoreError) as caught:
        commit(run, [ragged(1)])
    monkeypatch.setattr(os, "write", real_write)
    assert type(caught.value) is (SpaceError if number == errno.ENOSPC else StoreError)
    assert str(caught.value).startswith("run tiny, part 0000001-0000002: cannot be written in ")
    assert "\n" not in str(caught.value)
    assert everything(run) == before
    assert verify(Store(run.store)) == []
    commit(run, [ragged(1)])
    assert_holds(run, [ragged(0), ragged(1)])


def commit_each(run: Run, images: list[Sample]) -> None:
    for image in images:
        commit(run, [image])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        process = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk],
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("there is no mount command to make a small disk with")
    if process.returncode:
        pytest.skip(f"mounting a small disk is not permitted here: {process.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
def test_a_full_disk_is_a_clear_error_and_a_clean_store(small_disk: Path) -> None:
    run = new_run(small_disk, codec="none")
    images = [sample(index, n_tokens=200) for index in range(60)]
    with pytest.raises(
        SpaceError, match=r"run tiny, part .*: cannot be written in .*: no space left on the disk"
    ):
        commit_each(run, images)
    done = len(run.parts())
    assert done > 1
    assert [path.name for path in (run.store / "tmp").iterdir()] == ["zarr.json"]
    assert verify(Store(run.store)) == []
    assert_holds(run, images[:done])


def test_writing_a_shard_overlaps_with_encoding_the_next_but_not_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all writes held up, encoding stops after WRITES_UNDER_WAY shards: memory is bounded."""
    import threading

    layers = 12
    run = new_run(tmp_path, kinds=("value",), layers=tuple(range(layers)))
    encoded, gate = [], threading.Event()
    real_encode, real_write = writer._encode, durable.write_recorded

    def encode(*args: Any) -> tuple[list[bytes], list[int]]:
        encoded.append(1)
        return real_encode(*args)

    def write(path: Path, *buffers: Any) -> durable.FileRecord:
        if path.name.startswith("c."):
            gate.wait(30)
        return real_write(path, *buffers)

    monkeypatch.setattr(writer, "_encode", encode)
    monkeypatch.setattr(writer, "write_recorded", write)
    thread = threading.Thread(target=commit, args=(run, [sample(0, n_prefix=0)]))
    thread.start()
    while len(encoded) <= writer.WRITES_UNDER_WAY and thread.is_alive():
        thread.join(0.01)
    thread.join(0.1)
    assert len(encoded) == writer.WRITES_UNDER_WAY + 1
    gate.set()
    thread.join()
    assert_holds(run, [sample(0, n_prefix=0)])


def test_parts_of_the_same_name_the_first_one_stays(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    folder = run.folder / "parts" / "0000000-0000001"
    arrays, text = arrays_of(run)
    full = {**arrays, **{f"text_{kind}": values for kind, values in text.items()}}
    assert writer.write_part(run.store, folder, config(), [sample(0)], full) > 0
    before = everything(run)
    second = {name: values + 1 for name, values in full.items()}
    assert writer.write_part(run.store, folder, config(), [sample(0)], second) == 0
    assert everything(run) == before
    assert_holds(run, [sample(0)])

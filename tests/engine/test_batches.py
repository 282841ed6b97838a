"""Batches over several parts: which pictures run together, and that nothing but the window decides
it.
"""

from __future__ import annotations

import random
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.engine import local
from kvtool.engine.batches import PartWork, Pool, Waiting
from kvtool.engine.windows import window_parts, windows
from kvtool.engine.workers import Hands
from kvtool.errors import KvtoolError
from kvtool.models.base import Prepared
from kvtool.models.captured import Captured
from kvtool.models.families.qwen_vl import Qwen2VL
from kvtool.store import Run
from kvtool.store.verify import verify
from tests.support.tiny import noise, qwen2_vl

SIZES_PX = ((40, 40), (64, 32), (32, 64))
SMALL: dict[str, Any] = {"kinds": ("value",), "layers": [0], "dtype": "float32", "check": False}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(qwen2_vl(tmp_path_factory.mktemp("qwen")))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four pictures of three sizes in turn."""
    folder = tmp_path_factory.mktemp("mixed")
    for index in range(24):
        noise(*SIZES_PX[index % 3], index).save(folder / f"{index:02d}.png")
    return folder


@pytest.fixture
def parts_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six parts in two windows of three."""
    monkeypatch.setattr("kvtool.engine.plan.PART_IMAGES", 4)
    monkeypatch.setattr("kvtool.engine.windows.WINDOW_PARTS", 3)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of batches as they run; each adds to what is captured, so that stored bytes tell in
    which batch an image ran.
    """
    capture, sizes = Qwen2VL.begin_capture, []

    def marked(self: Qwen2VL, batch: list[Prepared], request: Any) -> Captured:
        sizes.append(len(batch))
        captured = capture(self, batch, request)
        captured.arrays["value"] = [array + len(batch) for array in captured.arrays["value"]]
        return captured

    monkeypatch.setattr(Qwen2VL, "begin_capture", marked)
    return sizes


def extracted(store: Path, model: str, mixed: Path, **options: Any) -> dict[str, bytes]:
    kvtool.extract(store, model=model, dataset=f"folder:{mixed}", **{**SMALL, **options})
    opened = kvtool.open(store)
    assert verify(opened) == []
    parts = opened.run().folder / "parts"
    files = (path for path in parts.rglob("*") if path.is_file())
    return {str(path.relative_to(parts)): path.read_bytes() for path in files}


@pytest.mark.slow
@pytest.mark.usefixtures("parts_of_four")
def test_pictures_of_one_size_run_together_over_parts(
    tmp_path: Path, model: str, mixed: Path, sizes: list[int]
) -> None:
    report = kvtool.extract(tmp_path / "s.kv", model=model, dataset=f"folder:{mixed}", **SMALL)
    assert sizes == [4] * 6, "a part of four holds one or two pictures of a size, a window four"
    assert (report.batch_size, report.n_batches) == (4, 6)
    assert "6 of up to 4 images" in repr(report)
    names = [part.name for part in kvtool.open(tmp_path / "s.kv").run().parts()]
    assert names == [f"{start:07d}-{start + 4:07d}" for start in range(0, 24, 4)]


@pytest.mark.usefixtures("parts_of_four")
@pytest.mark.slow
def test_values_are_those_of_each_picture_alone(tmp_path: Path, model: str, mixed: Path) -> None:
    extracted(tmp_path / "s.kv", model, mixed)
    extracted(tmp_path / "t.kv", model, mixed, batch_size=1)
    runs = [kvtool.open(tmp_path / name).run() for name in ("s.kv", "t.kv")]
    for name in runs[0].ids:
        batched, single = (run.read_image(name)["value"] for run in runs)
        np.testing.assert_allclose(batched, single, atol=1e-5)


@pytest.mark.usefixtures("parts_of_four")
@pytest.mark.parametrize("n_committed", [1, 4])
@pytest.mark.slow
def test_a_resumed_run_has_the_batches_of_an_unbroken_one(
    tmp_path: Path,
    model: str,
    mixed: Path,
    sizes: list[int],
    n_committed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unbroken = extracted(tmp_path / "s.kv", model, mixed)
    commit = Run.commit_part
    names: list[str] = []

    def broken(self: Run, name: str, *args: Any) -> int:
        if len(names) == n_committed:
            raise KvtoolError("the disk is gone")
        names.append(name)
        return commit(self, name, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "commit_part", broken)
        with pytest.raises(KvtoolError, match="the disk is gone"):
            extracted(tmp_path / "t.kv", model, mixed)
    assert len(kvtool.open(tmp_path / "t.kv").run().samples) == 4 * n_committed
    del sizes[:]
    assert extracted(tmp_path / "t.kv", model, mixed) == unbroken
    assert set(sizes) == {4}


@pytest.mark.usefixtures("parts_of_four")
@pytest.mark.slow
def test_a_larger_limit_adds_the_batches_of_the_whole(
    tmp_path: Path, model: str, mixed: Path, sizes: list[int]
) -> None:
    """What the run holds runs again where it shares a batch with what it lacks, and only there."""
    extracted(tmp_path / "s.kv", model, mixed, limit=12)
    del sizes[:]
    extracted(tmp_path / "s.kv", model, mixed)
    assert sizes == [4] * 3


@pytest.mark.usefixtures("parts_of_four")
@pytest.mark.slow
def test_a_window_whose_first_part_is_held_is_left_to_its_owner(
    tmp_path: Path, model: str, mixed: Path
) -> None:
    options: dict[str, Any] = {"model": model, "dataset": f"folder:{mixed}", **SMALL}
    kvtool.extract(tmp_path / "s.kv", limit=1, **options)
    with kvtool.open(tmp_path / "s.kv").run().claim("0000000-0000004"):
        report = kvtool.extract(tmp_path / "s.kv", **options)
    assert (report.n_done, report.n_missing, len(report.busy)) == (12, 11, 1)
    assert kvtool.extract(tmp_path / "s.kv", **options).n_done == 11


@pytest.mark.usefixtures("parts_of_four")
@pytest.mark.slow
def test_a_shorter_window_that_came_free_is_done_beside_one_that_is_held(
    tmp_path: Path, model: str, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers have windows of a part, a single one would have one of three."""
    options: dict[str, Any] = {"model": model, "dataset": f"folder:{mixed}", **SMALL}
    kvtool.extract(tmp_path / "s.kv", limit=1, **options)
    run = kvtool.open(tmp_path / "s.kv").run()
    second = ExitStack()

    def in_turn(hands: Hands, work: Any, hear: Any, _: Any) -> int:
        """Work in this process; thereafter the other holder of the second part ends."""
        for number, device in enumerate(hands.devices):
            work(device, partial(hear, number))
        second.close()
        return 0

    monkeypatch.setattr(local, "run_workers", in_turn)
    with run.claim("0000000-0000004"), second:
        second.enter_context(run.claim("0000004-0000008"))
        report = kvtool.extract(tmp_path / "s.kv", devices=("cpu", "cpu"), **options)
    assert (report.n_done, report.n_missing) == (20, 3)


@pytest.mark.usefixtures("parts_of_four")
@pytest.mark.slow
def test_what_a_shorter_window_of_another_call_holds_up_is_told_and_done_by_the_next_call(
    tmp_path: Path, model: str, mixed: Path
) -> None:
    """A call with a smaller limit, or more workers, holds one part of a longer window."""
    options: dict[str, Any] = {"model": model, "dataset": f"folder:{mixed}", **SMALL}
    kvtool.extract(tmp_path / "s.kv", limit=1, **options)
    run = kvtool.open(tmp_path / "s.kv").run()
    for part, n_left in (("0000000-0000004", 11), ("0000004-0000008", 4)):
        with run.claim(part):
            report = kvtool.extract(tmp_path / "s.kv", **options)
        assert report.n_missing == n_left
        assert len(report.busy) == 1
    assert kvtool.extract(tmp_path / "s.kv", **options).n_missing == 0
    assert verify(kvtool.open(tmp_path / "s.kv")) == []


def test_windows_leave_two_for_every_worker_and_room_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan: Any = planned(n_images=160, part_size=4, image_bytes=1)
    assert window_parts(plan) == 8
    plan.n_workers = 4
    assert window_parts(plan) == 5
    monkeypatch.setattr("kvtool.engine.windows.WINDOW_BYTES", 4 * 3)
    assert window_parts(plan) == 3
    monkeypatch.setattr("kvtool.engine.windows.WINDOW_BYTES", 1)
    assert window_parts(plan) == 1
    assert window_parts(planned(n_images=7, part_size=4, image_bytes=1)) == 1


def test_windows_begin_at_multiples_of_their_length() -> None:
    plan = planned(n_images=32, part_size=4, image_bytes=1)
    assert window_parts(plan) == 4
    todo = [(2, 3), (12, 13, 14, 15), (20, 21, 22, 23)]
    assert windows(plan, todo) == [
        (todo[:2], tuple(range(16))),
        (todo[2:], tuple(range(16, 32))),
    ]


def planned(n_images: int, part_size: int, image_bytes: int) -> Any:
    """What windows look at of a plan."""
    from types import SimpleNamespace

    config = SimpleNamespace(part_size=part_size)
    return SimpleNamespace(
        config=config, image_bytes=image_bytes, indices=tuple(range(n_images)), n_workers=1
    )


def test_batches_are_cut_by_signature_in_order_whatever_runs_together() -> None:
    """Against the plain way: all images of a signature in a row, cut every three."""
    rng = random.Random(0)
    signatures = [rng.choice("abcd") for _ in range(60)]
    expected = {
        tuple(members[start : start + 3])
        for letter in "abcd"
        for members in [[i for i, name in enumerate(signatures) if name == letter]]
        for start in range(0, len(members), 3)
    }
    for together in (1, 2, 4):
        assert set(batches_of(signatures, 3, together)) == expected


def batches_of(signatures: list[str], size: int, together: int) -> list[tuple[int, ...]]:
    """Images of each batch, given to a pool seven at a time."""
    pool, work = Pool(lambda _: size), PartWork("", [], ExitStack())
    batches: list[tuple[int, ...]] = []
    for start in range(0, len(signatures), 7):
        indices = range(start, min(start + 7, len(signatures)))
        pool.add([Waiting(prepared(i, signatures[i]), work) for i in indices])
        for group in pool.take(lambda _: together, ends=indices[-1] + 1 == len(signatures)):
            assert len(group) <= together
            batches += [numbers(batch) for batch in group]
    return batches


def test_a_batch_that_the_run_holds_whole_does_not_run() -> None:
    pool, work = Pool(lambda _: 2), PartWork("", [], ExitStack())
    pool.add([Waiting(prepared(i, "a"), None if i < 3 else work) for i in range(4)])
    groups = list(pool.take(lambda _: 2, ends=True))
    assert [[numbers(batch) for batch in group] for group in groups] == [[(2, 3)]]
    assert list(pool.take(lambda _: 1, ends=True)) == []


def numbers(batch: list[Waiting]) -> tuple[int, ...]:
    """Which images these are, see `prepared`."""
    samples: list[Any] = [image.item.sample for image in batch]
    return tuple(samples)


def prepared(index: int, signature: str) -> Prepared:
    sample: Any = index
    return Prepared(sample, {}, signature)

"""Several batches at once: only where that fits, is faster and gives the same bits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kvtool.engine import room
from kvtool.engine.events import Event
from kvtool.engine.growth import Growth
from kvtool.engine.room import BATCH_IMAGES, DeviceRoom
from kvtool.models import load_model
from kvtool.models.base import Prepared
from kvtool.models.captured import Captured
from kvtool.models.memory import cgroup_limits, total_bytes
from tests.support.tiny import noise

SIZE = 4


class Device:
    """A device whose passes take `pass_s` and `image_s` an image, and round differently where a
    batch has more than `most_equal` images; larger ones than `most_images` do not fit.
    """

    def __init__(
        self, pass_s: float, image_s: float, most_equal: int = 999, most_images: int = 999
    ) -> None:
        self.pass_s, self.image_s = pass_s, image_s
        self.most_equal, self.most_images = most_equal, most_images
        self.now_s = 0.0
        self.sizes: list[int] = []

    def capture(self, batch: Sequence[Prepared]) -> Captured:
        if len(batch) > self.most_images:
            raise torch.OutOfMemoryError("no room")
        self.now_s += self.pass_s + self.image_s * len(batch)
        self.sizes.append(len(batch))
        arrays = [np.full((1, 1, 2, 3), item.sample, np.float32) for item in batch]
        if len(batch) > self.most_equal:
            arrays = [np.nextafter(array, np.float32(np.inf)) for array in arrays]
        return Captured({"value": arrays}, {"value": [np.full((1, 1, 1, 3), np.nan)] * len(batch)})


def grown(device: Device, monkeypatch: pytest.MonkeyPatch, n_images: int = 4000) -> Any:
    """Run batches over a device as a window gives them; return (growth, messages)."""
    monkeypatch.setattr(time, "perf_counter", lambda: device.now_s)
    events: list[Event] = []
    grows = Growth(device.capture, device.capture, lambda *_: True, n_images, events.append)
    numbers = count()
    for _ in range(12):
        items: list[Any] = [
            [Prepared(next(numbers), {}, "a") for _ in range(SIZE)]  # type: ignore[arg-type]
            for _ in range(grows.wanted(SIZE))
        ]
        captures = grows.run(items)
        for batch, captured in zip(items, captures, strict=True):
            values = [float(array.max()) for array in captured.arrays["value"]]
            assert values == [item.sample for item in batch], "bits are those of single batches"
    return grows, [event.message for event in events]


def test_more_run_together_until_the_rate_gains_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """At one second a pass and 0.1 an image 4, 8, 16, 32 images have rates of 2.9, 4.4, 6.2, 7.6:
    each time 1.05 times as much at least, 64 to 128 no more than that.
    """
    device = Device(pass_s=1, image_s=0.1)
    grows, messages = grown(device, monkeypatch, n_images=100_000)
    assert grows.together * SIZE == 128
    assert messages[0] == "1.56 times the rate of half as many"
    assert messages[-1] == "twice as many at once have 1.04 times the rate"


def test_where_time_goes_by_images_one_batch_runs_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device(pass_s=0, image_s=0.1)
    grows, messages = grown(device, monkeypatch)
    assert grows.together == 1
    assert messages == ["twice as many at once have 1.00 times the rate"]
    assert device.sizes[-8:] == [SIZE] * 8


def test_other_bits_end_it_however_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    grows, messages = grown(Device(1, 0.0, most_equal=8), monkeypatch)
    assert grows.together * SIZE == 8
    assert messages[-1] == "twice as many at once give other bits"


def test_no_room_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    grows, messages = grown(Device(1, 0.0, most_images=8), monkeypatch)
    assert grows.together * SIZE == 8
    assert messages[-1] == "the device has no room for twice as many"


def test_nothing_is_tried_where_little_is_to_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(1, 0.0)
    grows, messages = grown(device, monkeypatch, n_images=700)
    assert (grows.together, messages) == (1, [])
    assert device.sizes == [SIZE] * 12


def test_another_shape_is_compared_before_its_batches_run_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = Device(1, 0.0, most_equal=8)
    grows, _ = grown(device, monkeypatch)
    assert grows.together == 2
    device.most_equal = SIZE
    items: Any = [[Prepared(n, {}, "b") for n in range(SIZE)] for _ in range(2)]  # type: ignore
    for _ in range(2):
        for captured in grows.run(items):
            assert float(captured.arrays["value"][1].max()) == 1
    assert device.sizes[-5:] == [8, 4, 4, 4, 4], "compared once, then one by one"


@pytest.mark.slow
def test_a_device_has_room_for_fewer_large_images(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = load_model(str(tiny_model), dtype="float32")
    request = model.request(None, None)
    sample = model.prepare(noise(40, 40), id="a", index=0).sample
    device_room = DeviceRoom(model, request)
    assert device_room.batch_images(sample) == BATCH_IMAGES
    assert device_room.fits(sample, 64)
    assert not device_room.fits(sample, 65)
    # Three images fit a quarter of it: two are a power of two.
    n_bytes = room.image_bytes(sample, model.info, request)
    monkeypatch.setattr("kvtool.models.memory.total_bytes", lambda _: 3 * 4 * n_bytes)
    assert DeviceRoom(model, request).batch_images(sample) == 2
    monkeypatch.setattr("kvtool.models.memory.total_bytes", lambda _: 1)
    assert DeviceRoom(model, request).batch_images(sample) == 1
    monkeypatch.setattr("kvtool.models.memory.free_bytes", lambda _: 3 * 4 * n_bytes)
    assert device_room.fits(sample, 3)
    assert not device_room.fits(sample, 4)


def test_all_memory_is_no_more_than_a_group_may_have(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "a/memory.max").write_text("3000\n")
    assert cgroup_limits(tmp_path, "/a/b") == [3000]
    assert 0 < total_bytes(torch.device("cpu")) < 1 << 60

"""Copies to the host that are still under way when a batch was captured, as on a GPU: whoever needs
the arrays waits for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.engine import growth, room
from kvtool.engine.events import Event
from kvtool.models import load_model
from kvtool.models.base import Prepared, Request
from kvtool.models.captured import Captured
from kvtool.models.decoder import DecoderModel
from tests.support.tiny import noise

BYTES = 0xA5


class LateCopy:
    """Stands for an event of CUDA: arrays are filled when somebody waits for it."""

    def __init__(self, captured: Captured) -> None:
        listed = [*captured.arrays.values(), *captured.text.values()]
        self.arrays = [array for arrays in listed for array in arrays]
        self.values = [array.copy() for array in self.arrays]
        for array in self.arrays:
            array.fill(BYTES)

    def synchronize(self) -> None:
        for array, values in zip(self.arrays, self.values, strict=True):
            array[...] = values


@pytest.fixture
def late_copies(monkeypatch: pytest.MonkeyPatch) -> list[LateCopy]:
    begin = DecoderModel.begin_capture
    copies: list[LateCopy] = []

    def begin_late(model: Any, batch: Sequence[Prepared], request: Request) -> Captured:
        captured = begin(model, batch, request)
        copies.append(LateCopy(captured))
        captured.copies = (copies[-1],)  # type: ignore[assignment]
        return captured

    monkeypatch.setattr(DecoderModel, "begin_capture", begin_late)
    return copies


def stored(store: Path, model: str, **options: Any) -> dict[str, Any]:
    """Extract ten pictures with text before them, and return all that is stored of each."""
    images = [noise(64, 48, n) for n in range(10)]
    settings: dict[str, Any] = {"prefix": "text:the red cat", "check": False, **options}
    kvtool.extract(store, model=model, dataset=images, **settings)
    run = kvtool.open(store).run()
    return {name: run.read_image(name, raw=True) for name in run.ids}


def assert_equal(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert actual.keys() == expected.keys()
    for name, arrays in expected.items():
        assert all(np.array_equal(actual[name][kind], arrays[kind]) for kind in arrays)


@pytest.mark.slow
def test_a_part_is_written_when_its_copies_have_ended(
    tmp_path: Path, model: str, request: pytest.FixtureRequest
) -> None:
    expected = stored(tmp_path / "plain.kv", model, batch_size=4)
    copies = request.getfixturevalue("late_copies")
    assert_equal(stored(tmp_path / "late.kv", model, batch_size=4), expected)
    assert [len(copy.values) for copy in copies] == [6 * 4, 6 * 4, 6 * 2]


@pytest.mark.slow
def test_batches_grow_by_bits_that_have_come(
    tmp_path: Path,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    late_copies: list[LateCopy],
) -> None:
    monkeypatch.setattr(growth, "TRIAL_SHARE", 0)
    monkeypatch.setattr(growth, "FASTER", 0.0)
    monkeypatch.setattr(room, "BATCH_IMAGES", 2)
    events: list[Event] = []
    arrays = stored(tmp_path / "late.kv", model, tell=events.append)
    assert any("times the rate of half" in event.message for event in events)
    assert_equal(arrays, stored(tmp_path / "single.kv", model, batch_size=2))
    assert late_copies


def test_capture_returns_what_has_come(model: str, late_copies: list[LateCopy]) -> None:
    loaded = load_model(model)
    batch = [loaded.prepare(noise(64, 48), id="0", index=0)]
    request = loaded.request(("value",), None)
    captured = loaded.capture(batch, request)
    assert np.array_equal(captured.arrays["value"][0], late_copies[0].values[0])

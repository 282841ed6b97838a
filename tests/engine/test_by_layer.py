"""Extraction layer by layer: the bytes are those of the ordinary way, whatever the family, and at
most two layers' weights are there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kvtool
from kvtool.engine import by_layer
from kvtool.engine.by_layer import run_together
from kvtool.engine.events import Event
from kvtool.errors import KvtoolError
from kvtool.models import load_model
from kvtool.store.stored_run import StoredRun
from kvtool.store.verify import verify
from tests.support import tiny
from tests.support.shell import Shell

pytest.importorskip("accelerate")

FAMILIES = {
    "llava_onevision": tiny.llava_onevision,
    "qwen2_5_vl": tiny.qwen2_5_vl,
    "qwen3_vl": tiny.qwen3_vl,
    "gemma3": tiny.gemma3,
}
KINDS = ("key", "value", "projected", "vision", "hidden")


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES[request.param](tmp_path_factory.mktemp(request.param))


def extract(store: Path, checkpoint: Path, folder: Path, **options: Any) -> StoredRun:
    kvtool.extract(
        store,
        model=str(checkpoint),
        dataset=f"folder:{folder}",
        dtype="float32",
        check=False,
        **{"kinds": KINDS, "codec": "none", "batch_size": 2, **options},
    )
    return kvtool.open(store).run()


def stored_bytes(run: StoredRun) -> dict[str, bytes]:
    """Every file of a run, by its place."""
    return {
        str(path.relative_to(run.folder)): path.read_bytes()
        for path in run.folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
def test_the_bytes_are_those_of_the_ordinary_way(
    checkpoint: Path, few: Path, tmp_path: Path
) -> None:
    ordinary = extract(tmp_path / "a.kv", checkpoint, few)
    one_by_one = extract(tmp_path / "b.kv", checkpoint, few, by_layer=True)
    expected = stored_bytes(ordinary)
    assert len(expected) > len(KINDS)
    assert stored_bytes(one_by_one) == expected
    assert verify(kvtool.open(tmp_path / "b.kv")) == []


@pytest.mark.slow
def test_few_layers_before_their_rotation(model: str, few: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"kinds": ("key",), "layers": (0, 1), "keys": "pre-rope"}
    ordinary = extract(tmp_path / "a.kv", Path(model), few, **options)
    one_by_one = extract(tmp_path / "b.kv", Path(model), few, by_layer=True, **options)
    assert stored_bytes(one_by_one) == stored_bytes(ordinary)


@pytest.mark.slow
def test_batches_pass_a_layer_together_and_two_layers_are_there_at_most(model: str) -> None:
    loaded: Any = load_model(model, dtype="float32", by_layer=True)
    layers = loaded.language_model.layers
    items = [loaded.prepare(tiny.noise(70, 45, n), id=str(n), index=n) for n in range(6)]
    request = loaded.request(None, None)
    visits: list[tuple[int, int]] = []
    told: list[int] = []
    for number, layer in enumerate(layers):
        layer.register_forward_hook(
            lambda *_, number=number: visits.append((number, threading.get_ident()))
        )
        layer.self_attn.q_proj.register_forward_hook(
            lambda *_: present.append(sum(not next(x.parameters()).is_meta for x in layers))
        )
    present: list[int] = []
    calls = [partial(loaded.capture, items[start : start + 2], request) for start in (0, 2, 4)]
    captures = run_together(loaded.net.layer_weights, calls, told.append)
    # The last layer ends the pass at its keys and values, so that no hook sees its output.
    assert [number for number, _ in visits] == [0, 0, 0, 1, 1, 1]
    assert len({thread for _, thread in visits}) == 3
    assert told == [0, 1, 2]
    assert present == [1] * 9
    ordinary = load_model(model, dtype="float32")
    for start, captured in zip((0, 2, 4), captures, strict=True):
        expected = ordinary.capture(items[start : start + 2], request)
        for kind, arrays in expected.arrays.items():
            np.testing.assert_array_equal(captured.arrays[kind], arrays)


class Counted:
    """Layers that count how often each was brought."""

    def __init__(self) -> None:
        self.held: list[int] = []
        self.pauses: dict[int, Callable[[int], None]] = {}

    def pause_by(self, pause: Callable[[int], None]) -> None:
        self.pauses[threading.get_ident()] = pause

    def hold(self, layer: int) -> None:
        self.held.append(layer)

    def pass_through(self, name: str, layers: tuple[int, ...], seen: list[str]) -> str:
        for layer in layers:
            self.pauses[threading.get_ident()](layer)
            seen.append(f"{name}{layer}")
        return name


def test_a_pass_that_begins_again_catches_up() -> None:
    weights: Any = Counted()
    seen: list[str] = []
    layers_of = {"a": (0, 1, 0, 1, 2), "b": (0, 1, 2), "c": ()}
    calls = [
        partial(weights.pass_through, name, layers, seen) for name, layers in layers_of.items()
    ]
    assert run_together(weights, calls) == ["a", "b", "c"]
    assert seen == ["a0", "b0", "a1", "b1", "a0", "a1", "a2", "b2"]
    assert weights.held == [0, 1, 0, 1, 2]


def test_what_one_pass_raises_ends_all() -> None:
    weights: Any = Counted()
    seen: list[str] = []

    def fail() -> str:
        weights.pauses[threading.get_ident()](0)
        raise KvtoolError("no room")

    before = threading.active_count()
    calls: list[Callable[[], str]] = [partial(weights.pass_through, "a", (0, 1), seen), fail]
    calls.append(partial(weights.pass_through, "b", (0, 1), seen))
    with pytest.raises(KvtoolError, match="no room"):
        run_together(weights, calls)
    assert seen == ["a0"]
    assert threading.active_count() == before


@pytest.mark.slow
def test_an_interrupted_extraction_goes_on_with_what_is_left(
    model: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinary = extract(tmp_path / "a.kv", Path(model), pictures, kinds=("value",), batch_size=16)
    monkeypatch.setattr(by_layer, "MOST_IMAGES", 64)
    n_sweeps = 0

    def tell(event: Event) -> None:
        nonlocal n_sweeps
        n_sweeps += event.what == "layer" and event.n == 0
        if n_sweeps == 2:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"kinds": ("value",), "batch_size": 16, "by_layer": True}
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path / "b.kv", Path(model), pictures, tell=tell, **options)
    run = kvtool.open(tmp_path / "b.kv").run()
    assert len(run.samples) in (0, 32, 64)  # whole parts of the first two
    resumed = extract(tmp_path / "b.kv", Path(model), pictures, **options)
    assert stored_bytes(resumed) == stored_bytes(ordinary)


@pytest.mark.slow
def test_a_device_that_is_full_halves_a_batch(model: str, few: Path, tmp_path: Path) -> None:
    ordinary = extract(tmp_path / "a.kv", Path(model), few, batch_size=1)
    loaded: Any = load_model(model, dtype="float32", by_layer=True)
    capture = type(loaded).begin_capture

    def full(self: Any, batch: Any, request: Any) -> Any:
        captured = capture(self, batch, request)
        if len(batch) > 1:
            raise torch.OutOfMemoryError
        return captured

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(loaded), "begin_capture", full)
        halved = extract(tmp_path / "b.kv", Path(model), few, by_layer=True)
    assert stored_bytes(halved) == stored_bytes(ordinary)


@pytest.mark.slow
def test_what_cannot_go_layer_by_layer_is_refused(few: Path, tmp_path: Path, shell: Shell) -> None:
    encoder = tiny.siglip(tmp_path / "siglip")
    command = ["extract", tmp_path / "s.kv", "--dataset", f"folder:{few}", "--by-layer"]
    code, _, lines = shell(*command, "--model", encoder)
    assert code == 2
    assert lines[-1].endswith("an encoder alone; name one device")
    code, _, lines = shell(*command, "--model", "demo", "--devices", "cpu+disk")
    assert code == 2
    assert not (tmp_path / "s.kv").exists() or kvtool.open(tmp_path / "s.kv").runs() == []

"""Extraction layer by layer against the ordinary way of a model that does not fit: accelerate's
offloading of layers to disk.

The machine is taken to have room for all but the decoder's layers and four of these, of 16. Both
sides read a layer's weights from the checkpoint in bfloat16 and compute in float32, and store the
same bytes; the ordinary way reads the twelve that do not fit once for every batch.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

import kvtool
from tests.bench.rows import Row, row

IMAGES = 32
BATCH = 4
LAYERS = 16
ROOM_LAYERS = 4
HIDDEN = 384
REPEATS = 3


def bench() -> list[Row]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = large_model(folder / "model")
        room = room_bytes(model)
        ours, peer = [], []
        with patch("kvtool.models.networks.free_bytes", lambda _device: room):
            on_disk = {"devices": (f"cpu+disk:{folder / 'disk'}",)}
            for turn in range(REPEATS):
                peer.append(rate(folder / f"peer-{turn}.kv", model, on_disk))
                ours.append(rate(folder / f"ours-{turn}.kv", model, {"by_layer": True}))
    name = f"extract --by-layer, {IMAGES} images, room for {ROOM_LAYERS} of {LAYERS} layers"
    return [row(name, "images/s", median(ours), median(peer), 1.2)]


def large_model(folder: Path) -> Path:
    """A LLaVA-NeXT of which nearly all is the decoder's layers, in bfloat16."""
    from safetensors.torch import load_file, save_file

    from tests.support import tiny

    sizes: dict[str, Any] = {
        "hidden_size": HIDDEN,
        "intermediate_size": 4 * HIDDEN,
        "num_hidden_layers": LAYERS,
    }
    tiny.llava_next(folder, **sizes)
    path = folder / "model.safetensors"
    weights = {name: weight.to(torch.bfloat16) for name, weight in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
    return folder


def room_bytes(model: Path) -> int:
    """Bytes of all but the decoder's layers, and of four of these."""
    from kvtool.models import load_model
    from kvtool.models.placement import SHARE, blocks_of, decoder_layers

    shape: Any = load_model(str(model), weights=False)
    layers = decoder_layers(shape.net)
    assert layers is not None
    parts = blocks_of(shape.net, layers, torch.float32)
    # Two more visit the machine in turn.
    return int((parts.trunk_bytes + (ROOM_LAYERS + 2) * parts.layer_bytes[0]) / SHARE) + 1


def rate(store: Path, model: Path, options: dict[str, Any]) -> float:
    """Images a second of a whole extraction, loading included."""
    from tests.support import tiny

    images = [tiny.noise(64, 48, n) for n in range(IMAGES)]
    started = time.perf_counter()
    kvtool.extract(
        store,
        model=str(model),
        dataset=images,
        dtype="float32",
        kinds=("key", "value"),
        batch_size=BATCH,
        check=False,
        **options,
    )
    return IMAGES / (time.perf_counter() - started)

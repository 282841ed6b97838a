"""Extraction layer by layer against the ordinary way of a model that does not fit: accelerate's
offloading of layers to disk.

The loader is given room for all but the decoder's layers and four of these, of 16, and a limit on
the memory of the process (RLIMIT_DATA) sees to it that neither side takes more: the whole model
meets it. Both sides read a layer's weights from the checkpoint in bfloat16 and compute in float32,
and store the same bytes; the ordinary way reads the twelve that do not fit once for every batch.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import psutil
import torch

import kvtool
from kvtool.errors import KvtoolError
from tests.bench.rows import Row, row

IMAGES = 32
BATCH = 4
LAYERS = 16
HIDDEN = 512
REPEATS = 3
ROOM_LAYERS = 4
PASS_BYTES = 128_000_000
"""What passes and what waits to be written take besides weights."""


def bench() -> list[Row]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = large_model(folder / "model")
        assert limited(folder / "whole.kv", model, {}) == 0, "the limit has room for all of it"
        ours, peer = [], []
        on_disk = {"devices": (f"cpu+disk:{folder / 'disk'}",)}
        for turn in range(REPEATS):
            peer.append(limited(folder / f"peer-{turn}.kv", model, on_disk))
            ours.append(limited(folder / f"ours-{turn}.kv", model, {"by_layer": True}))
    name = f"extract --by-layer, {IMAGES} images, memory for {ROOM_LAYERS} of {LAYERS} layers"
    return [row(name, "images/s", median(ours), median(peer), 1.2)]


def large_model(folder: Path) -> Path:
    """A LLaVA-NeXT of which nearly all is the decoder's layers, in bfloat16, a file a layer."""
    from safetensors.torch import load_file, save_file

    from tests.support import tiny

    sizes: dict[str, Any] = {
        "hidden_size": HIDDEN,
        "intermediate_size": 6 * HIDDEN,
        "num_hidden_layers": LAYERS,
    }
    tiny.llava_next(folder, **sizes)
    path = folder / "model.safetensors"
    files: dict[str, dict[str, torch.Tensor]] = {}
    for name, weight in load_file(path).items():
        layer = re.search(r"language_model.*layers\.(\d+)\.", name)
        file = f"model-{layer[1] if layer else 'rest'}.safetensors"
        files.setdefault(file, {})[name] = weight.to(torch.bfloat16)
    path.unlink()
    for file, weights in files.items():
        save_file(weights, folder / file, metadata={"format": "pt"})
    index = {name: file for file, weights in files.items() for name in weights}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
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


def limited(store: Path, model: Path, options: dict[str, Any]) -> float:
    """Images a second of a whole extraction in a process of its own, whose memory is limited; 0
    where it meets the limit.

    Without options the loader is told that all of the model fits.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as process:
        return process.submit(_limited, store, model, options).result()


def _limited(store: Path, model: Path, options: dict[str, Any]) -> float:
    from tests.support import tiny

    # What the interpreter and its libraries take is there before the limit is set.
    rate(store.with_suffix(".warm"), tiny.llava_next(store.with_suffix(".model")), {})
    room = room_bytes(model)
    # The kernel counts mapped files of weights as the process's data, whatever of them is read.
    mapped_bytes = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    data_bytes = int(psutil.Process().memory_info().data)
    limit = data_bytes + mapped_bytes + room + PASS_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    budget = room if options else 1 << 40
    with patch("kvtool.models.networks.free_bytes", lambda _device: budget):
        try:
            return rate(store, model, options)
        except (KvtoolError, MemoryError, RuntimeError) as error:
            if options:
                raise
            print(f"the whole model: {error}")
            return 0.0


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

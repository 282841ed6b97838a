"""Checkpoints whose small files or weights are damaged: loaded and used as they are, or refused in
one line.
"""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

from tests.fuzz.extremes import LFS_POINTER
from tests.fuzz.kind import Kind
from tests.fuzz.mutate import hostile_bytes, hostile_json, hostile_text, hostile_value
from tests.fuzz.oracle import Wrong, refused
from tests.fuzz.places import copy_tree, odd_file, write

FAMILIES = ("llava_onevision", "qwen2_5_vl", "llava_next", "siglip", "clip", "dinov2")
WEIGHTS = "model.safetensors"


class Models(Kind):
    name = "models"
    share = 0.05

    def write_seeds(self) -> None:
        from tests.support import tiny

        for name in FAMILIES:
            getattr(tiny, name)(self.seeds / name)

    def open(self) -> None:
        from kvtool.models import load_model
        from tests.support.tiny import noise

        self.picture = noise(40, 30)
        for name in FAMILIES:
            load_model(str(self.seeds / name), dtype="float32")

    def attempt(self, rng: random.Random, folder: Path) -> None:
        name = rng.choice(FAMILIES)
        copy_tree(self.seeds / name, folder / name)
        path = rng.choice(
            [path for path in sorted((folder / name).iterdir()) if path.name != WEIGHTS]
        )
        with_weights = rng.random() < 0.3
        if with_weights and rng.random() < 0.6:
            path = folder / name / WEIGHTS
        self._damage(rng, path)
        self._use(folder / name, with_weights)

    def _damage(self, rng: random.Random, path: Path) -> None:
        before = path.read_bytes()
        if rng.random() < 0.06:
            odd_file(rng, path)
        elif path.suffix == ".safetensors":
            write(path, hostile_weights(rng, before))
        else:
            write(path, (hostile_json if path.suffix == ".json" else hostile_text)(rng, before))

    def _use(self, folder: Path, with_weights: bool) -> None:
        from kvtool.models import load_model

        model = refused(load_model, str(folder), weights=with_weights, dtype="float32")
        if model is None:
            return
        request = refused(model.request, None, None)
        prepared = refused(model.prepare, self.picture, id="a", index=0)
        if prepared is not None and prepared.sample.n_vision_tokens > 1_000_000:
            raise Wrong(f"{prepared.sample.n_vision_tokens} tokens of a picture of 40 x 30")
        if with_weights and request is not None and prepared is not None:
            refused(model.capture, [prepared], request)


def hostile_weights(rng: random.Random, data: bytes) -> bytes:
    """A safetensors file whose header says something else, or whose bytes are damaged."""
    if rng.random() < 0.3:
        return rng.choice((hostile_bytes(rng, data), LFS_POINTER, b"", b"\xff" * 8 + b"{}"))
    (length,) = struct.unpack("<Q", data[:8])
    header: Any = json.loads(data[8 : 8 + length])
    for _ in range(rng.choice((1, 2))):
        header = hostile_value(rng, header)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + data[8 + length :]

"""Capture's own cost: batches of prepared images captured, against a bare transformers prefill of
the same tensors.

Both sides run on loaded weights, in the same batches, one after the other in turn. The peer is the
model's public forward without its head, with transformers' own cache: what it holds afterwards
stays on the device and is thrown away, while capture also copies keys, values, projected and vision
tokens to the host. `transformers_inputs` is what other benchmarks prefill with.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from kvtool.models import load_model
from kvtool.models.base import Prepared, Request
from kvtool.models.families.llava import Llava
from tests.bench.rows import Row, row

IMAGES = 128
BATCH = 32
REPEATS = 5


def bench() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(demo_or_random(Path(folder)), dtype="bfloat16")
    assert isinstance(model, Llava)
    prepared = [model.prepare(picture(i), id=str(i), index=i) for i in range(IMAGES)]
    batches = [prepared[start : start + BATCH] for start in range(0, IMAGES, BATCH)]
    request = model.request(("key", "value"), None)
    return [
        compared(model, batches, request, "capture of keys and values", 0.9),
        compared(model, batches, model.request(None, None), "capture of every kind", 0.85),
    ]


def compared(
    model: Llava, batches: Sequence[Sequence[Prepared]], request: Request, name: str, target: float
) -> Row:
    """Medians over turns in which both sides run all batches."""
    ours, peer = [], []
    for _ in range(REPEATS):
        peer.append(IMAGES / prefill_seconds(model, batches))
        started = time.perf_counter()
        for batch in batches:
            model.capture(batch, request)
        ours.append(IMAGES / (time.perf_counter() - started))
    return row(
        f"{name}, {IMAGES} images, batches of {BATCH}",
        "images/s",
        median(ours),
        median(peer),
        target,
    )


def prefill_seconds(model: Llava, batches: Sequence[Sequence[Prepared]]) -> float:
    """transformers alone over every batch; laying out its inputs is not counted."""
    inputs = [transformers_inputs(model, batch) for batch in batches]
    started = time.perf_counter()
    with torch.inference_mode():
        for batch in inputs:
            model.net.model(**batch, use_cache=True)
    return time.perf_counter() - started


def transformers_inputs(model: Llava, batch: Sequence[Prepared]) -> dict[str, Any]:
    """Inputs of the public forward of LLaVA-OneVision for a batch of base views: text before the
    image, image tokens, and the newline that it ends an image with.
    """
    ids = [
        [*item.sample.prefix_ids, *[model.prompt.image_id] * (item.sample.n_tokens + 1)]
        for item in batch
    ]
    sizes = [[item.sample.image_wh_px[1], item.sample.image_wh_px[0]] for item in batch]
    device = model.checkpoint.device
    return {
        "input_ids": torch.tensor(ids, device=device),
        "attention_mask": torch.ones(len(ids), len(ids[0]), dtype=torch.long, device=device),
        "pixel_values": torch.stack([item.tensors["pixels"] for item in batch]).to(device),
        "image_sizes": torch.tensor(sizes, device=device),
        # Two images a prompt: transformers makes no tiles then.
        "batch_num_images": torch.tensor([2] * len(batch)),
    }


def demo_or_random(folder: Path) -> str:
    """The shipped model, or one of its sizes with random weights where it is not there yet."""
    from kvtool.demo.weights import demo_path

    if (demo_path() / "model.safetensors").is_file():
        return "demo"
    from kvtool.demo.training.export import export_model
    from kvtool.demo.training.model import new_model

    export_model(new_model(0), folder)
    return str(folder)


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


if __name__ == "__main__":
    for result in bench():
        print(result)
